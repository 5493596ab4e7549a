"""The bowl below a surface: its quasiconvex envelope, and what the surface is above it.

A surface is a bowl, of whatever depth, where each set of points below a level is convex. The envelope is the highest bowl that
is nowhere above the surface. Source: Barron, Goebel and Jensen 2012, "The quasiconvex envelope through first-order partial
differential equations which characterize quasiconvexity of nonsmooth functions".
"""

from __future__ import annotations

import itertools

import numpy as np

_MOST_LEVELS = 2048  # of one pass over the rows each: a 1001 x 1001 surface takes about three seconds


def quasiconvex_envelope(heights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Find the highest surface below this one whose sets {height <= level} are all convex.

    Args:
        heights: (ny, nx); a point that is not finite is above every level, and so is its envelope outside all sets.
        x, y: (nx,) and (ny,) ascending steps.

    Returns:
        (ny, nx): the lowest level whose set's convex hull holds the point, infinite where none does. Up to 2,048 different
        heights it is exact; beyond, levels are quantiles of the heights, and it may be too high by the distance of two levels,
        but is never above the surface.
    """
    finite = np.isfinite(heights)
    field = np.where(finite, heights, np.inf)
    envelope = np.full(heights.shape, np.inf)
    levels = np.unique(field[finite])
    if len(levels) > _MOST_LEVELS:
        levels = np.unique(np.quantile(levels, np.linspace(0, 1, _MOST_LEVELS)))
    rows, columns = np.nonzero(finite)
    number = np.searchsorted(levels, field[finite], "left")  # of the first level that the point is not above
    order = np.argsort(number, kind="stable")
    rows, columns, ends = rows[order], columns[order], np.searchsorted(number[order], np.arange(len(levels)), "right")
    lowest, highest = np.full(len(y), len(x)), np.full(len(y), -1)  # the columns between which a row of the set lies
    first, last = (np.empty((len(levels), len(y)), int) for _ in range(2))  # and of its hull, at each level
    for level, (begin, end) in enumerate(itertools.pairwise([0, *ends])):
        np.minimum.at(lowest, rows[begin:end], columns[begin:end])
        np.maximum.at(highest, rows[begin:end], columns[begin:end])
        first[level], last[level] = _hull(lowest, highest, x, y)
    for row in range(len(y)):
        # Sets grow with the level: the columns from first to last are an interval that only widens.
        entered = np.maximum(
            np.searchsorted(-first[:, row], -np.arange(len(x)), "left"),
            np.searchsorted(last[:, row], np.arange(len(x)), "left"),
        )
        held = entered < len(levels)
        envelope[row, held] = levels[entered[held]]
    return np.asarray(np.minimum(envelope, field))


def _hull(lowest: np.ndarray, highest: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the first and last column of each row in the convex hull of the columns lowest to highest; empty: first > last."""
    rows = np.flatnonzero(lowest <= highest)
    spanned = slice(rows[0], rows[-1] + 1)
    near = 1e-9 * (x[-1] - x[0])  # a point on the side belongs to the set
    left = _lower_hull(x[lowest[rows]], y[rows], y[spanned])
    right = -_lower_hull(-x[highest[rows]], y[rows], y[spanned])
    first, last = np.full(len(y), len(x)), np.full(len(y), -1)
    first[spanned] = np.searchsorted(x, left - near, "left")
    last[spanned] = np.searchsorted(x, right + near, "right") - 1
    between = last < first  # the hull passes between two columns
    first[between], last[between] = len(x), -1
    return first, last


def _lower_hull(values: np.ndarray, places: np.ndarray, everywhere: np.ndarray) -> np.ndarray:
    """Evaluate the greatest convex function that is at most ``values`` at ``places``; Andrew's monotone chain, 1979."""
    kept: list[int] = []
    for i in range(len(places)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (values[b] - values[a]) * (places[i] - places[a]) < (values[i] - values[a]) * (places[b] - places[a]):
                break
            kept.pop()
        kept.append(i)
    return np.asarray(np.interp(everywhere, places[kept], values[kept]))


def above_envelope(heights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Average the height above the quasiconvex envelope over the finite points; NaN where there is none.

    Args:
        heights: (ny, nx).
        x, y: (nx,) and (ny,) ascending steps.

    0 for every bowl, however deep or bent: an increasing function of the heights has the envelope's increasing function.
    """
    finite = np.isfinite(heights)
    return float((heights - quasiconvex_envelope(heights, x, y))[finite].mean()) if finite.any() else float("nan")
