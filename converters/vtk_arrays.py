"""vtk arrays that numpy fills in place, and their ranges, found once while the numbers are at hand.

ParaView and vtk's writers ask for the range of every component of every array, finite and not, and for the lengths of vectors.
vtk finds these in passes of their own, which take longer than the reading at millions of points, and keeps them in the array's
information. Numbers of this module go there beforehand; where they are not finite, vtk finds them as usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import create_vtk_array, get_vtk_array_type, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkDataArray, vtkInformationVector

_BLOCK = 1 << 16  # numbers of one array that are worked on together: what stays in a processor's cache


def new_array(name: str, points: int, components: int, kind: Any) -> tuple[Any, np.ndarray]:
    """A vtk array without values, and a numpy view of it to fill.

    Args:
        name: name of the array.
        points: number of tuples.
        components: numbers in each tuple.
        kind: numpy type of the numbers.

    Returns:
        The array, and its view: (points,) for one component, else (points, components).
    """
    array = create_vtk_array(get_vtk_array_type(np.dtype(kind)))
    array.SetName(name)
    array.SetNumberOfComponents(components)
    array.SetNumberOfTuples(points)
    return array, vtk_to_numpy(array)


def filled_array(name: str, values: np.ndarray) -> Any:
    """A copy of ``values``, of any shape, as a vtk array of one component whose range is known."""
    array, view = new_array(name, values.size, 1, values.dtype)
    view.reshape(values.shape)[...] = values
    know_ranges(array, view.reshape(-1, 1))
    return array


def know_ranges(array: Any, rows: np.ndarray) -> None:
    """Put the ranges of an array where vtk looks for them; leaves it as it is where a number is not finite.

    Args:
        array: vtk array that does not change any more.
        rows: (points, components), its numbers.
    """
    found = [_ends(rows[first:last]) for first, last in row_blocks(*rows.shape)]
    if not np.isfinite(found).all() or not found:
        return
    lows, highs = np.min(found, axis=0)[:, 0].tolist(), np.max(found, axis=0)[:, 1].tolist()
    *components, length = zip(lows, highs, strict=True)
    for key in (vtkDataArray.PER_COMPONENT(), vtkDataArray.PER_FINITE_COMPONENT()):
        each = vtkInformationVector()
        each.SetNumberOfInformationObjects(len(components))
        for number, ends in enumerate(components):
            each.GetInformationObject(number).Set(vtkDataArray.COMPONENT_RANGE(), ends, 2)
        array.GetInformation().Set(key, each)
    if len(components) > 1:
        for norm in (vtkDataArray.L2_NORM_RANGE(), vtkDataArray.L2_NORM_FINITE_RANGE()):
            array.GetInformation().Set(norm, length, 2)


def _ends(rows: np.ndarray) -> np.ndarray:
    """(components + 1, 2): smallest and largest number of each component, and of the lengths of the rows."""
    columns = np.ascontiguousarray(rows.T)
    ends = np.zeros((len(columns) + 1, 2))
    ends[:-1, 0], ends[:-1, 1] = columns.min(axis=1), columns.max(axis=1)
    if len(columns) > 1:
        squares = np.einsum("ij,ij->j", columns, columns, dtype=np.float64)
        ends[-1] = np.sqrt((squares.min(), squares.max()))
    return ends


def row_blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """(first, last) of blocks of rows that together have few enough numbers for a processor's cache; last is not included."""
    step = max(1, _BLOCK // max(1, columns))
    return ((first, min(first + step, rows)) for first in range(0, rows, step))
