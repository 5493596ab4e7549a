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
        steps = np.linspace(first, last, number)
    else:
        try:
            steps = np.asarray(axis, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            steps = np.empty(0)
    if len(steps) < 2 or not np.isfinite(steps).all() or not (steps[1:] > steps[:-1]).all():
        raise InputError(
            f"{{{name}}} must be two or more finite, increasing steps, as in {{{name}}}=-1:1:51", arguments=(name,)
        )
    return steps


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
