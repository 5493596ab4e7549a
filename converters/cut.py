"""Where a surface passes its upper limit: cells are cut at the level, so that the rim is a line at exactly that height.

Between two points the value is linear on the scale that is drawn. Numbers only; ``polygons`` makes vtk's cells of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paraloss.converters.grid import HeightMap
from paraloss.errors import InputError
from paraloss.height import to_log
from paraloss.surface import Surface


@dataclass(frozen=True)
class Rim:
    """The points of a cut: each lies on the line between two points of the grid.

    Attributes:
        below: (n,) number of the point below the level.
        above: (n,) number of the point above it.
        share: (n,) distance from the first in parts of the distance of both.
    """

    below: np.ndarray
    above: np.ndarray
    share: np.ndarray

    def between(self, values: np.ndarray) -> np.ndarray:
        """Values (points, ...) of the grid, linearly interpolated at the points of the rim."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        one, other = values[self.below], values[self.above]
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.where(share > 0, one + share * (other - one), one))


def uncut_values(values: np.ndarray, heights: HeightMap) -> np.ndarray:
    """Values of the metric on the scale that ``heights`` are drawn on, without the upper limit.

    Args:
        values: the metric, any shape.
        heights: decide the scale and both limits.

    Returns:
        Same shape. An infinite value under a limit lies above it, as high as the highest finite one at least; NaN stays.
    """
    options = heights.options
    low, high = (bound if limit is None else limit for limit, bound in ((options.zmin, -np.inf), (options.zmax, np.inf)))
    return uncut(values, heights.is_log, options.log_offset, low, high)


def uncut(values: np.ndarray, log: bool, offset: float, low: float, high: float) -> np.ndarray:
    """Drawn values without the upper limit; see ``uncut_values``.

    Args:
        values: the metric, any shape.
        log: whether ln(metric + offset) is drawn.
        offset: number added before the logarithm.
        low: lower limit, in the metric's unit; smaller values are drawn at it.
        high: upper limit, infinite where there is none.
    """
    with np.errstate(invalid="ignore"):
        field = to_log(np.maximum(values, low), offset) if log else np.maximum(values, low)
    finite, above = field[np.isfinite(field)], np.isposinf(field)
    if np.isfinite(high) and above.any():
        level = limit_as_drawn(high, log, offset)
        lowest = float(finite.min()) if finite.size else level
        field[above] = max(float(finite.max()) if finite.size else level, level + max(level - lowest, 1.0))
    return np.where(np.isfinite(field), field, np.nan)


def level_of(heights: HeightMap) -> float:
    """The upper limit on the scale that ``heights`` are drawn on; infinite where there is none."""
    limit = heights.options.zmax
    return np.inf if limit is None else limit_as_drawn(limit, heights.is_log, heights.options.log_offset)


def limit_as_drawn(limit: float, log: bool, offset: float) -> float:
    """A limit in the metric's unit on the scale that is drawn, which is ln(metric + offset) if ``log``."""
    return float(to_log(np.array(limit), offset)) if log else limit


def beyond_rim(surface: Surface, heights: HeightMap) -> np.ndarray:
    """(ny, nx) whether a point and all its eight neighbors lie above the upper limit: no part of its cells is drawn."""
    if heights.options.zmax is None:
        return np.zeros(heights.blank.shape, bool)
    above = uncut_values(surface.metric(heights.metric), heights) > level_of(heights)
    padded = np.pad(above, 1, constant_values=True)
    ny, nx = above.shape
    return np.asarray(np.logical_and.reduce([padded[j : j + ny, i : i + nx] for j in range(3) for i in range(3)]))


def check_below(heights: HeightMap, label: str = "") -> None:
    """Check that the upper limit leaves something to draw.

    Raises:
        InputError: every known point lies above it; the message names the surface by its ``label``.
    """
    limit = heights.options.zmax
    known = heights.values[~heights.blank]
    if limit is None or not known.size or not heights.clipped[~heights.blank].any():
        return
    if (known >= level_of(heights)).all():
        raise all_above(f"{label}: {heights.metric}" if label else heights.metric, limit)


def all_above(metric: str, limit: float) -> InputError:
    """The error for a surface that has nothing below its upper limit."""
    return InputError(f"nothing to draw: {metric} is above {{zmax}} ({limit:g}) everywhere; raise it", arguments=("zmax",))


def cut_triangles(triangles: np.ndarray, flat: np.ndarray, level: float) -> tuple[list[np.ndarray], Rim]:
    """The parts of triangles below ``level``; new points have numbers behind those of the grid.

    Args:
        triangles: (n, 3) numbers of points, each with some below the level and some above, or all on one side.
        flat: (points,) drawn values.
        level: where to cut.

    Returns:
        Triangles and quads, and the new points.
    """
    below = flat[triangles] <= level
    whole = triangles[below.all(axis=1)]
    tips, tip_below = triangles[below.sum(axis=1) == 1], below[below.sum(axis=1) == 1]
    broad, broad_below = triangles[below.sum(axis=1) == 2], below[below.sum(axis=1) == 2]
    tips = _rolled(tips, tip_below.argmax(axis=1))  # the corner below first
    broad = _rolled(broad, (~broad_below).argmax(axis=1))  # the corner above first
    edges = np.concatenate([tips[:, [0, 1]], tips[:, [0, 2]], broad[:, [1, 0]], broad[:, [2, 0]]])
    pairs, which = np.unique(edges, axis=0, return_inverse=True)
    low, high = flat[pairs[:, 0]], flat[pairs[:, 1]]
    with np.errstate(invalid="ignore", over="ignore"):
        share = np.clip((level - low) / (high - low), 0.0, 1.0)
    new = which.ravel() + len(flat)
    n, m = len(tips), len(broad)
    tip = np.stack([tips[:, 0], new[:n], new[n : 2 * n]], axis=1)
    rest = np.stack([new[2 * n : 2 * n + m], broad[:, 1], broad[:, 2], new[2 * n + m :]], axis=1)
    return [whole, tip, rest], Rim(pairs[:, 0], pairs[:, 1], share)


def _rolled(triangles: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The same triangles, each beginning with corner number ``first``; seen from the same side."""
    return np.take_along_axis(triangles, (first[:, None] + np.arange(3)) % 3, axis=1)
