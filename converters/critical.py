"""Critical points and basins as VTK geometry on the surface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter, vtkXMLStructuredGridWriter

from paraloss.analysis.topology import KINDS, CriticalPoint
from paraloss.converters.grid import height_map, to_structured_grid
from paraloss.converters.xml_files import write_xml
from paraloss.errors import InputError
from paraloss.files import check_output, replacing
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface


def critical_polydata(surface: Surface, points: Sequence[CriticalPoint], options: GridOptions | None = None) -> vtkPolyData:
    """One vertex per critical point, at its height on the surface.

    Point arrays: ``kind`` (0 minimum, 1 saddle, 2 maximum), ``persistence`` (of ln(loss + 0.1); infinite for the lowest
    minimum), ``value`` of the metric, ``x``, ``y``. Field data ``kinds`` names the numbers.
    """
    if surface.y is None:
        raise InputError("a curve (1D) has no critical points on a surface")
    heights = height_map(surface, options)
    rows, columns = (np.array([getattr(p, name) for p in points], int) for name in ("row", "column"))
    x, y, z = surface.x[columns], surface.y[rows], heights.heights[rows, columns]
    mesh, where, cells = vtkPolyData(), vtkPoints(), vtkCellArray()
    where.SetData(numpy_to_vtk(np.stack([x, y, z], axis=1).reshape(-1, 3), deep=True))
    for index in range(len(points)):
        cells.InsertNextCell(1)
        cells.InsertCellPoint(index)
    mesh.SetPoints(where)
    mesh.SetVerts(cells)
    arrays = {
        "kind": np.array([p.kind for p in points], np.uint8),
        "persistence": np.array([p.persistence for p in points], float),
        "value": surface.metric(options.metric if options else None)[rows, columns].astype(float),
        "x": x.astype(float),
        "y": y.astype(float),
    }
    for name, values in arrays.items():
        array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
        array.SetName(name)
        mesh.GetPointData().AddArray(array)
    kinds = vtkStringArray()
    kinds.SetName("kinds")
    for kind in KINDS:
        kinds.InsertNextValue(kind)
    mesh.GetFieldData().AddArray(kinds)
    return mesh


def write_critical_points(surface: Surface, points: Sequence[CriticalPoint], path: Path, options: GridOptions) -> Path:
    """Write ``critical_polydata`` as ``.vtp``."""
    _check(path, ".vtp")
    mesh = critical_polydata(surface, points, options)
    with replacing(path) as temporary:
        write_xml(vtkXMLPolyDataWriter(), mesh, temporary, purpose="analysis")
    return path


def write_basins(surface: Surface, labels: np.ndarray, path: Path, options: GridOptions) -> Path:
    """Write the surface as ``.vts`` with the point array ``basin``: the number of the minimum each point belongs to."""
    _check(path, ".vts")
    grid = to_structured_grid(surface, options)
    array = numpy_to_vtk(np.ascontiguousarray(labels, np.int32).ravel(), deep=True)
    array.SetName("basin")
    grid.GetPointData().AddArray(array)
    with replacing(path) as temporary:
        write_xml(vtkXMLStructuredGridWriter(), grid, temporary, purpose="analysis")
    return path


def _check(path: Path, suffix: str) -> None:
    if path.suffix.lower() != suffix:
        raise InputError(f"{path}: this is written as {suffix}")
    check_output(path)
