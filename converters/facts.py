"""What a structured grid that Paraloss made says of itself: its size, its arrays, how its heights were made."""

from __future__ import annotations

from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from paraloss.errors import InputError


def height_facts(grid: Any) -> tuple[str, bool, float, float, float]:
    """Drawn array, whether it is a logarithm, log offset, base and scale of a grid that Paraloss made."""
    text = grid.GetFieldData().GetAbstractArray("height_metric")
    if text is None:
        raise InputError("this needs the output of the Loss Surface Reader, or a .vts that Paraloss wrote")
    name = text.GetValue(0)
    numbers = [float(field_array(grid, key)[0]) for key in ("log_offset", "height_base", "height_scale")]
    return name, name.startswith("log_"), numbers[0], numbers[1], numbers[2]


def drawn_values(grid: Any) -> np.ndarray:
    """(points,) what heights and colors are made of: the clipped array where there is one."""
    name = height_facts(grid)[0]
    clipped = f"{name}_clipped"
    return point_array(grid, name if grid.GetPointData().GetArray(clipped) is None else clipped)


def limits(grid: Any) -> tuple[float, float]:
    """Lower and upper limit of the metric that is drawn, in its own unit; infinite where there is none."""
    low, high = (field_array(grid, name) for name in ("zmin", "zmax"))
    ends = [np.nan if end is None or not len(end) else float(end[0]) for end in (low, high)]
    return (-np.inf if np.isnan(ends[0]) else ends[0], np.inf if np.isnan(ends[1]) else ends[1])


def dimensions(data: Any) -> tuple[int, int, int]:
    """Points along each axis; the extent has one form in every class and version, ``GetDimensions`` has not."""
    i0, i1, j0, j1, k0, k1 = data.GetExtent()
    return i1 - i0 + 1, j1 - j0 + 1, k1 - k0 + 1


def point_array(data: Any, name: str) -> np.ndarray:
    """A point array as numpy."""
    return np.asarray(vtk_to_numpy(data.GetPointData().GetArray(name)))


def field_array(data: Any, name: str) -> Any:
    """A field array as numpy; None where there is none."""
    array = data.GetFieldData().GetArray(name)
    return None if array is None else vtk_to_numpy(array)
