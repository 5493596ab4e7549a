"""A surface as polygons: its visible cells, cut at ``zmax``.

A structured grid cannot be cut: its points above the level lie at the level, and the array ``clipped`` marks them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import VTK_LONG_LONG, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkDataSetAttributes, vtkPolyData

from paraloss.converters.cut import all_above, cut_triangles, limit_as_drawn, uncut
from paraloss.converters.facts import dimensions, drawn_values, height_facts, limits, point_array
from paraloss.converters.grid import HeightMap, blank_cells, to_structured_grid
from paraloss.converters.normals import surface_normals
from paraloss.converters.quads import quad_cells, quad_corners
from paraloss.picture_options import GridOptions
from paraloss.surface import INTERPOLATED, Surface


def to_polydata(surface: Surface, options: GridOptions | None = None, heights: HeightMap | None = None) -> vtkPolyData:
    """The surface as polygons, see ``visible_polygons``; cells that touch a blank point are left out.

    Same arrays as ``to_structured_grid``; raises the same errors, and one where ``zmax`` leaves nothing.
    """
    return visible_polygons(to_structured_grid(surface, options, heights))


def visible_polygons(grid: Any) -> vtkPolyData:
    """The visible cells of a whole grid of ``to_structured_grid``, cut at its ``zmax``.

    Returns:
        Quads (i, i+1, i+nx+1, i+nx), and triangles and quads at the rim. Points below the level keep all their arrays;
        those on the rim have the level as value and height, the status 3 (interpolated), and other arrays linearly between
        the two points beside them. Where nothing lies above the level, every point of the grid is kept, and in its order.

    Raises:
        InputError: another grid, or one that lies above the level as a whole.
    """
    if not np.isfinite(limits(grid)[1]):
        return visible_quads(grid)
    field, level = uncut_field(grid)
    if not (field > level).any():
        return visible_quads(grid)
    if not (field < level).any():
        raise all_above(_raw_name(grid), limits(grid)[1])
    nj, ni = field.shape
    return _cut(grid, field, level, quad_corners(nj, ni, blank_cells(np.isnan(field))).astype(np.int64))


def uncut_field(grid: Any) -> tuple[np.ndarray, float]:
    """The values that a whole grid draws, without the upper limit: (ny, nx), NaN where blank; that limit on their scale."""
    name, log, offset, _, _ = height_facts(grid)
    ni, nj, _ = dimensions(grid)
    low, high = limits(grid)
    raw = _raw_name(grid)
    known = grid.GetPointData().GetArray(raw) is not None
    values = point_array(grid, raw if known else name).astype(float).reshape(nj, ni)
    return uncut(values, log and known, offset, low, high), limit_as_drawn(high, log, offset)


def _raw_name(grid: Any) -> str:
    name, log, _, _, _ = height_facts(grid)
    return name.removeprefix("log_") if log else name


def visible_quads(grid: Any) -> vtkPolyData:
    """The quads (i, i+1, i+nx+1, i+nx) of a whole grid, without those that touch a blank point; every point is kept."""
    ni, nj, _ = dimensions(grid)
    blank = ~np.isfinite(drawn_values(grid)).reshape(nj, ni)
    mesh = vtkPolyData()
    mesh.SetPoints(grid.GetPoints())
    mesh.SetPolys(quad_cells(quad_corners(nj, ni, blank_cells(blank))))
    mesh.GetPointData().ShallowCopy(grid.GetPointData())
    mesh.GetPointData().RemoveArray(vtkDataSetAttributes.GhostArrayName())
    mesh.GetFieldData().ShallowCopy(grid.GetFieldData())
    return mesh


def triangles_of(mesh: vtkPolyData) -> np.ndarray:
    """(triangles, 3) corners of the triangles of a mesh of triangles and quads; quads are cut from their first corner."""
    starts, corners = corners_of(mesh)
    first, sizes = starts[:-1], np.diff(starts)
    quads = first[sizes == 4]
    begins = np.concatenate([first, quads])
    seconds = np.concatenate([first + 1, quads + 2])
    return np.stack([corners[begins], corners[seconds], corners[seconds + 1]], axis=1)


def corners_of(mesh: vtkPolyData) -> tuple[np.ndarray, np.ndarray]:
    """Where each polygon begins, and one number more, in the array of all corners; that array."""
    cells = mesh.GetPolys()
    return np.asarray(vtk_to_numpy(cells.GetOffsetsArray())), np.asarray(vtk_to_numpy(cells.GetConnectivityArray()))


def _cut(grid: Any, field: np.ndarray, level: float, quads: np.ndarray) -> vtkPolyData:
    """The polygons of a grid with the drawn values ``field`` (ny, nx), of which some lie below ``level`` and some above."""
    name, _, _, base, scale = height_facts(grid)
    raw = _raw_name(grid)
    flat = np.where(np.isnan(field), np.inf, field).ravel()
    below = (flat <= level)[quads]
    crossing = quads[below.any(axis=1) & ~below.all(axis=1)]
    parts, rim = cut_triangles(np.concatenate([crossing[:, [0, 1, 2]], crossing[:, [0, 2, 3]]]), flat, level)
    arrays = _arrays(grid)
    points = _points(grid).astype(float)
    # Light at the rim is that of the surface going on, but for spikes beyond it.
    going_on = (np.minimum(field, 2 * level - np.nanmin(field)) - base) * scale
    x, y = (points.reshape(*field.shape, 3)[place][:, axis] for axis, place in ((0, np.s_[0]), (1, np.s_[:, 0])))
    arrays["Normals"] = surface_normals(x, y, going_on).reshape(-1, 3)
    made = {array: rim.between(values) for array, values in arrays.items()}
    made["Normals"] /= np.maximum(np.linalg.norm(made["Normals"], axis=1, keepdims=True), 1e-30)
    constant = {name: level, f"{raw}_clipped": level, f"{raw}_drawn": level, raw: limits(grid)[1], "status": INTERPOLATED}
    for array, value in {**constant, "clipped": 0}.items():
        if array in made:
            made[array] = np.full(len(rim.share), value)
    ends = rim.between(points)
    ends[:, 2] = (level - base) * scale
    kept = [quads[below.all(axis=1)], *parts]
    used, corners = np.unique(np.concatenate([part.ravel() for part in kept]), return_inverse=True)
    pieces = np.split(corners.ravel(), np.cumsum([part.size for part in kept])[:-1])
    cells = [piece.reshape(part.shape) for piece, part in zip(pieces, kept, strict=True)]
    joined = {array: np.concatenate([values, made[array].astype(values.dtype)])[used] for array, values in arrays.items()}
    return _polygons(grid, np.concatenate([points, ends])[used], cells, joined)


def _arrays(grid: Any) -> dict[str, np.ndarray]:
    """The point arrays of a grid by name, without the marks of what is hidden."""
    data = grid.GetPointData()
    names = [data.GetArrayName(number) for number in range(data.GetNumberOfArrays())]
    return {name: point_array(grid, name) for name in names if name and name != vtkDataSetAttributes.GhostArrayName()}


def _points(grid: Any) -> np.ndarray:
    return np.asarray(vtk_to_numpy(grid.GetPoints().GetData()))


def _polygons(grid: Any, points: np.ndarray, cells: list[np.ndarray], arrays: dict[str, np.ndarray]) -> vtkPolyData:
    """Polygons with the field data and the active arrays of ``grid``."""
    mesh, where = vtkPolyData(), vtkPoints()
    where.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    mesh.SetPoints(where)
    mesh.SetPolys(_cells(cells))
    for name, values in arrays.items():
        array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
        array.SetName(name)
        mesh.GetPointData().AddArray(array)
    active = grid.GetPointData().GetScalars()
    if active is not None:
        mesh.GetPointData().SetActiveScalars(active.GetName())
    if "Normals" in arrays:
        mesh.GetPointData().SetActiveNormals("Normals")
    mesh.GetFieldData().ShallowCopy(grid.GetFieldData())
    return mesh


def _cells(parts: list[np.ndarray]) -> vtkCellArray:
    """Polygons of several numbers of corners as vtk's cells."""
    sizes = np.concatenate([np.full(len(part), part.shape[1], np.int64) for part in parts])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    corners = np.concatenate([part.ravel() for part in parts]).astype(np.int64)
    cells = vtkCellArray()
    cells.SetData(*(numpy_to_vtk(array, deep=True, array_type=VTK_LONG_LONG) for array in (starts, corners)))
    return cells
