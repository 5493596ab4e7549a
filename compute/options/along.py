"""What an axis runs along, as named by a user: ``gradient``, ``worst:0.1``, ``eigenvector:2``, ``momentum:FILE`` and others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paraloss.errors import InputError

RADIUS = 0.1
"""Default radius of ``worst``, in units of the direction."""
_FILES = {"to": 1, "task": 1, "momentum": 1, "pca": 1, "delta": 2}
_NUMBERS = {"worst": RADIUS, "eigenvector": 1}
_PLAIN = ("random", "gradient")
_USAGE = (
    "there are random, gradient, worst:RADIUS, eigenvector:K, momentum:FILE, pca:FOLDER, to:FILE, task:FILE and delta:FROM,TO"
)


@dataclass(frozen=True)
class Way:
    """What one axis runs along.

    Attributes:
        kind: ``random``, ``gradient`` …
        files: names of files or folders.
        number: radius of ``worst``, or which eigenvector, from 1.
    """

    kind: str = "random"
    files: tuple[str, ...] = ()
    number: float = 0.0


def ways_of(along: str | Sequence[str] | None) -> list[Way]:
    """Return what was asked for, one for each axis that is named, in the order x, y, z.

    Raises:
        InputError: an unknown name, or one without the file or number that it needs.
    """
    texts = [along] if isinstance(along, str) else list(along or ())
    if len(texts) > 3:
        raise InputError(f"{{along}} is for x, y and z, and {len(texts)} were given", arguments=("along",))
    return [_way(text) for text in texts]


def _way(text: str) -> Way:
    kind, _, more = text.partition(":")
    if kind in _FILES:
        files = tuple(part for part in (more.split(",") if _FILES[kind] > 1 else [more]) if part)
        if len(files) == _FILES[kind]:
            return Way(kind, files)
    elif kind in _NUMBERS:
        number = _number(more) if more else float(_NUMBERS[kind])
        if number > 0 and math.isfinite(number) and (kind != "eigenvector" or number == int(number)):
            return Way(kind, number=number)
        wanted = "worst:RADIUS takes a radius above 0" if kind == "worst" else "eigenvector:K takes a whole number from 1"
        raise InputError(f"{{along}} {text}: {wanted}, not '{more}'", arguments=("along",))
    elif kind in _PLAIN and not more:
        return Way(kind)
    raise InputError(f"{{along}} {text}: {_USAGE}", arguments=("along",))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
