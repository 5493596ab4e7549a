"""Evaluate points only where the surface bends: a quadtree over the grid, in index space.

Level k is the sub-grid of indices whose offset from the middle is a multiple of 2^k, and both ends of each axis. Going
from level k to k - 1, a new point is evaluated only where linear interpolation would be wrong: where an eighth of the
second difference of the drawn height (the error of interpolation at the middle of an interval) exceeds the tolerance.
The others are interpolated, bilinearly in ln(loss + 0.1), and marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paraloss.height import MetricScale, is_loss, metric_scale


def coarsest_level(shape: Sequence[int]) -> int:
    """The level with about eight intervals along the longest axis."""
    return max(0, int(np.ceil(np.log2(max(shape) / 12))))


def level_axes(shape: Sequence[int], level: int) -> list[np.ndarray]:
    """Indices along each axis that are on ``level``."""
    axes = []
    for size in shape:
        indices = np.arange(size)
        on = (indices - (size - 1) // 2) % 2**level == 0
        on[[0, -1]] = True
        axes.append(indices[on])
    return axes


def level_points(shape: Sequence[int], level: int) -> np.ndarray:
    """Flat indices of all points on ``level``."""
    return np.ravel_multi_index(np.meshgrid(*level_axes(shape, level), indexing="ij"), tuple(shape)).ravel()


def points_to_refine(loss: np.ndarray, known: np.ndarray, level: int, tolerance: float) -> np.ndarray:
    """Choose the points of ``level`` - 1 to evaluate.

    Args:
        loss: grid of the loss; valid where ``known``.
        known: grid, true at evaluated points.
        level: the level that is finished.
        tolerance: accepted error of an interpolated height, relative to the range of heights so far.

    Returns:
        Flat indices, ascending.
    """
    shape = loss.shape
    heights = interpolated(to_height(loss, height_of(loss, known)), known, coarsest_level(shape), level)
    axes = level_axes(shape, level)
    coarse = heights[np.ix_(*axes)]
    # A third: the second difference is that of the coarse level, and what is narrower shows in it only in part.
    allowed = tolerance / 3 * max(float(np.ptp(coarse)), 1e-300)
    bent = np.zeros(coarse.shape, bool)
    for axis, indices in enumerate(axes):
        rows, flags = np.moveaxis(coarse, axis, 0), np.moveaxis(bent, axis, 0)
        if len(indices) < 3:
            flags[...] = True
            continue
        spacing = np.diff(indices).reshape(-1, *[1] * (rows.ndim - 1))
        slopes = np.diff(rows, axis=0) / spacing
        error = np.abs(np.diff(slopes, axis=0)) / 8 * np.maximum(spacing[1:], spacing[:-1])
        flags[1:-1] |= error > allowed
        flags[0] |= error[0] > allowed
        flags[-1] |= error[-1] > allowed
    near = np.zeros(shape, bool)
    reach = 2**level - 1
    for place in np.argwhere(bent):
        center = [axes[axis][k] for axis, k in enumerate(place)]
        near[tuple(slice(max(0, c - reach), c + reach + 1) for c in center)] = True
    chosen = level_points(shape, level - 1)
    return np.asarray(chosen[near.ravel()[chosen] & ~known.ravel()[chosen]])


def fill_between(grids: Mapping[str, np.ndarray], known: np.ndarray) -> dict[str, np.ndarray]:
    """Interpolate what was not evaluated: losses along the height that is drawn, other metrics as they are.

    Args:
        grids: metric -> grid of values, valid where ``known``.
        known: grid, true at evaluated points; all points of the coarsest level are.

    Returns:
        Metric -> values at the points that are not known, in the order of memory.
    """
    coarsest, filled = coarsest_level(known.shape), {}
    for name, values in grids.items():
        if is_loss(name):
            scale = height_of(values, known)
            full = scale.values(interpolated(to_height(values, scale), known, coarsest))
        else:
            full = interpolated(np.nan_to_num(values), known, coarsest)
        filled[name] = full[~known]
    return filled


def interpolated(values: np.ndarray, known: np.ndarray, coarsest: int, finest: int = 0) -> np.ndarray:
    """``values`` where ``known``, and level by level the linear interpolation of the level above elsewhere.

    All points of level ``coarsest`` must be known. Only points of level ``finest`` are filled; the rest is zero.
    """
    filled = np.zeros(values.shape)
    points = np.ix_(*level_axes(values.shape, coarsest))
    filled[points] = values[points]
    for level in range(coarsest - 1, finest - 1, -1):
        above, here = level_axes(values.shape, level + 1), level_axes(values.shape, level)
        block = filled[np.ix_(*above)]
        for axis, (coarse, fine) in enumerate(zip(above, here, strict=True)):
            block = _along(axis, coarse, fine, block)
        points = np.ix_(*here)
        filled[points] = np.where(known[points], values[points], block)
    return filled


def _along(axis: int, coarse: np.ndarray, fine: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Linear interpolation along one axis, from the indices ``coarse`` to the indices ``fine``."""
    rows = np.moveaxis(block, axis, 0)
    left = np.clip(np.searchsorted(coarse, fine, side="right") - 1, 0, len(coarse) - 2)
    share = ((fine - coarse[left]) / (coarse[left + 1] - coarse[left])).reshape(-1, *[1] * (rows.ndim - 1))
    return np.moveaxis((1 - share) * rows[left] + share * rows[left + 1], 0, axis)


def height_of(loss: np.ndarray, known: np.ndarray) -> MetricScale:
    """Choose the scale on which the losses that are ``known`` so far are drawn and interpolated."""
    return metric_scale(loss[known])


def to_height(loss: np.ndarray, scale: MetricScale) -> np.ndarray:
    """Turn losses into heights; what is not finite becomes the largest finite height."""
    heights = scale.heights(loss)
    finite = heights[np.isfinite(heights)]
    return np.where(np.isfinite(heights), heights, finite.max() if finite.size else 0.0)
