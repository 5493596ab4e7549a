"""Normals of a height field, a block of rows at a time so that nothing of the whole's size is made on the way."""

from __future__ import annotations

import numpy as np

from paraloss.converters.vtk_arrays import row_blocks


def surface_normals(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, part: tuple[slice, slice] = np.s_[:, :], out: np.ndarray | None = None
) -> np.ndarray:
    """Unit normals (-dz/dx, -dz/dy, 1) of heights by central differences.

    Args:
        x: (nx,) steps.
        y: (ny,) steps.
        z: (ny, nx) heights.
        part: rows and columns whose normals are wanted; the heights around them count. Default: all.
        out: (rows, columns, 3) array to fill. Default: a new one, float32.

    Returns:
        ``out``. Beside a height that is not finite the slope is that to the other side, 0 where there is none.
    """
    top, bottom, _ = part[0].indices(len(y))
    columns = part[1]
    normals = np.empty((*z[part].shape, 3), np.float32) if out is None else out
    gaps_x, gaps_y = np.diff(x)[:, None], np.diff(y)[:, None]
    with np.errstate(all="ignore"):  # steps of a file from elsewhere may repeat
        for first, last in row_blocks(bottom - top, len(x)):
            begin, end = top + first, top + last
            below, above = max(begin - 1, 0), min(end + 1, len(y))  # a row more on each side, where there is one
            along_x = _slopes(z[begin:end].T, gaps_x).T[:, columns]
            along_y = _slopes(z[below:above, columns], gaps_y[below : above - 1])[begin - below : end - below]
            _put_normals(normals[first:last], along_x, along_y)
    return normals


def _slopes(z: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """The derivative along the first axis: the mean of both neighboring slopes, each weighted by the other one's gap.

    Of one slope that is not finite the other, of two 0.
    """
    steps = np.diff(z, axis=0)
    steps /= gaps
    slopes = np.empty_like(z)
    slopes[0], slopes[-1] = steps[0], steps[-1]
    inside = slopes[1:-1]
    share = gaps[:-1] / (gaps[:-1] + gaps[1:])
    np.subtract(steps[1:], steps[:-1], out=inside)
    inside *= share
    inside += steps[:-1]
    unknown = ~np.isfinite(slopes)
    if unknown.any():
        before, after = (np.zeros_like(z) for _ in range(2))
        before[1:], after[:-1] = steps, steps
        one = np.where(np.isfinite(after), after, before)
        slopes[unknown] = np.where(np.isfinite(one), one, 0)[unknown]
    return slopes


def _put_normals(normals: np.ndarray, along_x: np.ndarray, along_y: np.ndarray) -> None:
    upwards = along_x * along_x
    upwards += along_y * along_y
    upwards += 1
    np.sqrt(upwards, out=upwards)
    np.reciprocal(upwards, out=upwards)
    along_x *= upwards
    along_y *= upwards
    np.negative(along_x, out=normals[..., 0], casting="same_kind")
    np.negative(along_y, out=normals[..., 1], casting="same_kind")
    normals[..., 2] = upwards
    along_x += along_y
    wrong = ~np.isfinite(along_x)
    if wrong.any():
        normals[wrong] = 0.0, 0.0, 1.0
