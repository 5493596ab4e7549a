"""The order in which to visit a grid: coarse first, so that the whole surface shows early."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def coarse_to_fine(shape: Sequence[int]) -> np.ndarray:
    """Flat indices of all points of a grid, those of the coarsest sub-grid first.

    Args:
        shape: (ny, nx) or (nx,).

    Returns:
        (points,) a permutation. A point whose offsets from the middle of the grid are all multiples of 2^k is on
        sub-grid k; within a sub-grid the order is that of memory. The middle comes first: it is the checkpoint itself
        on the usual symmetric grid.
    """
    levels = []
    for axis, size in enumerate(shape):
        offset = np.abs(np.arange(size) - (size - 1) // 2)
        level = np.full(size, 62)
        nonzero = offset > 0
        level[nonzero] = np.log2(offset[nonzero] & -offset[nonzero]).astype(int)
        levels.append(level.reshape([-1 if other == axis else 1 for other in range(len(shape))]))
    level = np.broadcast_to(levels[0], shape)
    for other in levels[1:]:
        level = np.minimum(level, other)
    return np.argsort(-level.ravel(), kind="stable")
