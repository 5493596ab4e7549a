"""The quads of a grid, (i, i+1, i+nx+1, i+nx), as numpy and as vtk's cells."""

from __future__ import annotations

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import VTK_INT, VTK_LONG_LONG
from vtkmodules.vtkCommonDataModel import vtkCellArray


def quad_corners(ny: int, nx: int, left_out: np.ndarray | None = None) -> np.ndarray:
    """Number the corners of the quads of a grid.

    Args:
        ny: number of rows of points.
        nx: number of points of a row.
        left_out: (ny-1, nx-1) bool, quads that do not exist.

    Returns:
        (quads, 4) int32, int64 from 2^31 points on.
    """
    kind = np.int32 if ny * nx < 2**31 else np.int64
    first = np.add.outer(nx * np.arange(ny - 1, dtype=kind), np.arange(nx - 1, dtype=kind)).ravel()
    if left_out is not None and left_out.any():
        first = first[~left_out.ravel()]
    quads = np.empty((len(first), 4), kind)
    for corner, step in enumerate((0, 1, nx + 1, nx)):
        np.add(first, kind(step), out=quads[:, corner])
    return quads


def quad_cells(quads: np.ndarray) -> vtkCellArray:
    """(quads, 4) corners as vtk's cells, with the size of integer that they have."""
    cells = vtkCellArray()
    cells.SetData(4, numpy_to_vtk(quads.ravel(), deep=True, array_type=VTK_INT if quads.itemsize == 4 else VTK_LONG_LONG))
    return cells
