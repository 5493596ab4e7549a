"""The steps along an axis: FIRST:LAST:NUMBER, (first, last, number) or the increasing steps themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paraloss.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    Steps = str | tuple[float, float, int] | Sequence[float] | np.ndarray
else:
    Steps = str  # on the command line


MOST_STEPS, MOST_POINTS = 1_000_000, 100_000_000
"""Steps along an axis and points of a surface, at most: a point has 17 bytes and more in memory and in the file."""
_FARTHEST = 1e30  # of a step: times a direction it must fit into float32


def check_number_of_points(sides: Sequence[int]) -> None:
    """Refuse a grid of more than ``MOST_POINTS`` points.

    Args:
        sides: number of steps along each axis.

    Raises:
        InputError: more; the message has both numbers.
    """
    if math.prod(sides) > MOST_POINTS:
        grid = " × ".join(f"{side:,}" for side in sides)
        raise InputError(f"{grid} steps are {math.prod(sides):,} points; a surface has at most {MOST_POINTS:,}")


def steps_along(axis: Steps, name: str) -> np.ndarray:
    """Return the (n,) float64 steps of "FIRST:LAST:NUMBER", (first, last, number) or increasing steps.

    Raises:
        InputError: another form, fewer than two steps, not finite, or not increasing.
    """
    import numpy as np

    if isinstance(axis, str):
        axis = _parse_steps(axis, name)
    if isinstance(axis, tuple) and len(axis) == 3 and isinstance(axis[2], int):
        first, last, number = float(axis[0]), float(axis[1]), axis[2]
        if number < 2:
            raise InputError(
                f"{{{name}}} has {number} points; a surface needs at least two, as in {{{name}}}=-1:1:51", arguments=(name,)
            )
        _check_number(name, number)
        steps = np.linspace(first, last, number)
    else:
        try:
            steps = np.asarray(axis, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            steps = np.empty(0)
    _check_number(name, len(steps))
    if len(steps) < 2 or not np.isfinite(steps).all() or not (steps[1:] > steps[:-1]).all():
        raise InputError(
            f"{{{name}}} must be two or more finite, increasing steps, as in {{{name}}}=-1:1:51", arguments=(name,)
        )
    if np.abs(steps).max() > _FARTHEST:
        raise InputError(f"{{{name}}} has steps beyond {_FARTHEST:g}, which float32 weights cannot hold", arguments=(name,))
    return steps


def _check_number(name: str, number: int) -> None:
    if number > MOST_STEPS:
        raise InputError(f"{{{name}}} has {number:,} steps; an axis has at most {MOST_STEPS:,}", arguments=(name,))


def _parse_steps(text: str, name: str) -> tuple[float, float, int]:
    parts = text.split(":")
    try:
        first, last, number = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        first, last, number = 0.0, 0.0, 0
    if len(parts) != 3 or number < 2 or not -math.inf < first < last < math.inf:
        raise InputError(
            f"{{{name}}}={text}: give FIRST:LAST:NUMBER with FIRST < LAST and at least two points, as in {{{name}}}=-1:1:51",
            arguments=(name,),
        )
    return first, last, number
