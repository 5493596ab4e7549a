"""A structured grid that Paraloss made, as from a ``.vts`` file or from ParaView, back to a surface."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkStructuredGrid

from paraloss.converters.path_fields import paths_in
from paraloss.errors import InputError
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface
from paraloss.text import one_line

_WANTED = "this needs the output of the Loss Surface Reader, or a .vts that Paraloss wrote"
_NO_METRIC_ENDS = ("_clipped", "_drawn")
_NO_METRIC = ("clipped", "status", "Normals", "vtkGhostType", "basin")


def from_structured_grid(grid: vtkStructuredGrid) -> tuple[Surface, GridOptions]:
    """The surface of a grid of ``to_structured_grid``, and the options of its heights with scale and base as they are.

    Raises:
        InputError: a grid that Paraloss did not make, or that was damaged since.
    """
    try:
        return _from_grid(grid)
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise InputError(f"this grid is damaged, or another program's ({one_line(error)[:120]}): {_WANTED}") from error


def _from_grid(grid: vtkStructuredGrid) -> tuple[Surface, GridOptions]:
    record = grid.GetFieldData().GetAbstractArray("options")
    if record is None:
        raise InputError(_WANTED)
    i0, i1, j0, j1, _, _ = grid.GetExtent()
    shape = (j1 - j0 + 1, i1 - i0 + 1)
    places = vtk_to_numpy(grid.GetPoints().GetData()).astype(float).reshape(*shape, 3)
    arrays = {}
    for number in range(grid.GetPointData().GetNumberOfArrays()):
        name, components = (
            grid.GetPointData().GetArrayName(number),
            grid.GetPointData().GetArray(number).GetNumberOfComponents(),
        )
        if name not in _NO_METRIC and components == 1 and not name.startswith("log_") and not name.endswith(_NO_METRIC_ENDS):
            arrays[name] = vtk_to_numpy(grid.GetPointData().GetArray(number)).astype(float).reshape(shape)
    status = vtk_to_numpy(grid.GetPointData().GetArray("status")).reshape(shape)
    surface = Surface(places[0, :, 0], places[:, 0, 1], arrays, status.astype(np.uint8), _record(grid, "provenance"))
    surface = surface.with_paths(paths_in(grid))
    named = {option.name for option in fields(GridOptions)}
    options = GridOptions(**{name: value for name, value in json.loads(record.GetValue(0)).items() if name in named})
    scale, base = (float(_field(grid, name)[0]) for name in ("height_scale", "height_base"))
    return surface, replace(options, height_scale=scale, height_base=base)


def _record(grid: vtkStructuredGrid, name: str) -> dict[str, Any]:
    array = grid.GetFieldData().GetAbstractArray(name)
    return dict(json.loads(array.GetValue(0))) if array is not None else {}


def _field(grid: vtkStructuredGrid, name: str) -> Any:
    array = grid.GetFieldData().GetArray(name)
    return None if array is None else vtk_to_numpy(array)
