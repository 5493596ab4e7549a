"""The barrier between two solutions: how far the loss rises above the straight line between their own losses.

Frankle et al. 2020 (arXiv 1912.05671), section 2; Ainsworth et al. 2023, definition 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paraloss.surface import Surface


@dataclass(frozen=True)
class Barrier:
    """What the loss does on the way from one solution to another.

    Attributes:
        height: largest excess over the line between the losses of both ends; at least 0.
        highest: largest loss on the way.
        place: where the excess is largest, from 0 to 1.
    """

    height: float
    highest: float
    place: float


def barrier_of(places: np.ndarray, losses: np.ndarray) -> Barrier:
    """The barrier of losses at increasing ``places`` from 0 to 1, the ends included; NaN where one is not finite."""
    straight = losses[0] + (losses[-1] - losses[0]) * (places - places[0]) / (places[-1] - places[0])
    excess = np.asarray(losses - straight, float)
    if not np.isfinite(excess).all():
        return Barrier(float("nan"), float("nan"), float(places[int(np.argmin(np.isfinite(excess)))]))
    top = int(excess.argmax())
    return Barrier(max(0.0, float(excess[top])), float(losses.max()), float(places[top]))


def barriers_of(way: Surface) -> dict[str, Barrier]:
    """The barrier of each loss of a curve from one solution to another."""
    return {name: barrier_of(way.x, values) for name, values in way.metrics.items() if name.endswith("_loss")}
