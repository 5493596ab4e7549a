"""Quads that Paraloss wrote, as ParaView opens ``.hdf``, as the structured grid that they were made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkStructuredGrid

from paraloss.converters.grid import hide
from paraloss.errors import InputError


def as_structured(data: Any) -> Any:
    """The structured grid of an unstructured one whose points are those of a grid, x fastest; other data as they are.

    Points that no quad touches, because they are pending or not finite, are hidden.

    Raises:
        InputError: the points are no such grid.
    """
    if not data.IsA("vtkUnstructuredGrid"):
        return data
    places = vtk_to_numpy(data.GetPoints().GetData()) if data.GetNumberOfPoints() else np.empty((0, 3))
    turns = np.flatnonzero(places[:, 1] != places[:1, 1])
    nx = int(turns[0]) if len(turns) else 0
    if nx < 2 or len(places) % nx or not _is_grid(places, nx):
        raise InputError("this needs the output of the Loss Surface Reader, or a .vts or .hdf that Paraloss wrote")
    ny = len(places) // nx
    grid = vtkStructuredGrid()
    grid.SetExtent(0, nx - 1, 0, ny - 1, 0, 0)
    grid.SetPoints(data.GetPoints())
    grid.GetPointData().ShallowCopy(data.GetPointData())
    grid.GetFieldData().ShallowCopy(data.GetFieldData())
    metric = data.GetFieldData().GetAbstractArray("height_metric")
    drawn = None if metric is None else data.GetPointData().GetArray(metric.GetValue(0))
    if drawn is not None:
        grid.GetPointData().SetActiveScalars(metric.GetValue(0))
        hide(grid, ~np.isfinite(vtk_to_numpy(drawn)).reshape(ny, nx))
    return grid


def _is_grid(places: np.ndarray, nx: int) -> bool:
    x, y = places[:, 0].reshape(-1, nx), places[:, 1].reshape(-1, nx)
    return bool((x == x[0]).all() and (y == y[:, :1]).all())
