"""Geometry on a surface: warping any structured data, contour lines, the minimum; the paths on it are in ``paths``."""

from __future__ import annotations

from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import VTK_ID_TYPE, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkDataSetAttributes, vtkPolyData, vtkStructuredGrid
from vtkmodules.vtkFiltersCore import vtkAppendPolyData, vtkContourFilter, vtkStripper, vtkTubeFilter
from vtkmodules.vtkFiltersSources import vtkSphereSource

from paraloss.converters.facts import dimensions, height_facts, limits, point_array
from paraloss.converters.grid import add_field_data, height_map
from paraloss.converters.polygons import triangles_of, uncut_field, visible_polygons
from paraloss.errors import InputError
from paraloss.height import to_log
from paraloss.look import MINIMUM_RADIUS
from paraloss.picture_options import GridOptions
from paraloss.surface import DONE, Surface


def warp_structured(data: Any, name: str, options: GridOptions) -> vtkStructuredGrid:
    """Height from a point array of any flat structured grid or image, as ``to_structured_grid`` makes it.

    Args:
        data: ``vtkStructuredGrid``, ``vtkImageData`` or ``vtkRectilinearGrid`` of one layer, (ni, nj, 1) points.
        name: the point array that gives the height.
        options: options of heights; ``metric`` is ignored.

    Raises:
        InputError: more than one layer, or no such point array.
    """
    ni, nj, nk = dimensions(data)
    if nk != 1:
        raise InputError(f"the data have {nk} layers; a surface has one (nx, ny, 1)")
    array = data.GetPointData().GetArray(name)
    if array is None:
        known = [data.GetPointData().GetArrayName(k) for k in range(data.GetPointData().GetNumberOfArrays())]
        raise InputError(f"no point array '{name}'; there are: {', '.join(map(str, known))}")
    points = (
        np.array([data.GetPoint(k) for k in range(ni * nj)])
        if not hasattr(data, "GetPoints")
        else (vtk_to_numpy(data.GetPoints().GetData()).astype(float).copy())
    )
    values = vtk_to_numpy(array).astype(float).reshape(nj, ni)
    surface = Surface(np.arange(ni), np.arange(nj), {name: values}, np.full((nj, ni), DONE, np.uint8))
    plain = GridOptions(name, options.log, options.log_offset, options.zmax, options.zmin, options.height_scale)
    heights = height_map(surface, plain, width=float(np.ptp(points[:, :2], axis=0).max()))
    points[:, 2] = heights.heights.ravel()
    grid = vtkStructuredGrid()
    grid.SetExtent(*data.GetExtent())
    where = vtkPoints()
    where.SetData(numpy_to_vtk(points, deep=True))
    grid.SetPoints(where)
    grid.GetPointData().ShallowCopy(data.GetPointData())
    drawn = numpy_to_vtk(heights.values.ravel(), deep=True)
    drawn.SetName(f"log_{name}" if heights.array != name else f"{name}_drawn")
    grid.GetPointData().AddArray(drawn)
    grid.GetPointData().SetActiveScalars(drawn.GetName())
    corners = points.reshape(nj, ni, 3)
    normal = np.cross(np.gradient(corners, axis=1), np.gradient(corners, axis=0))
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normals = numpy_to_vtk((normal / np.maximum(length, 1e-300)).astype(np.float32).reshape(-1, 3), deep=True)
    normals.SetName("Normals")
    grid.GetPointData().SetNormals(normals)
    if grid.GetPointData().GetArray("status") is None:
        status = numpy_to_vtk(np.where(heights.blank, 0, DONE).astype(np.uint8).ravel(), deep=True)
        status.SetName("status")
        grid.GetPointData().AddArray(status)
    add_field_data(grid, surface, heights)
    if heights.blank.any():
        hidden = numpy_to_vtk(np.where(heights.blank, vtkDataSetAttributes.HIDDENPOINT, 0).astype(np.uint8).ravel(), deep=True)
        hidden.SetName(vtkDataSetAttributes.GhostArrayName())
        grid.GetPointData().AddArray(hidden)
    return grid


def default_levels(grid: Any, number: int = 10) -> list[float]:
    """``number`` levels of the drawn metric, evenly spaced in height, in the metric's own unit."""
    name, log, offset, _, _ = height_facts(grid)
    values = point_array(grid, name)
    values = values[np.isfinite(values)]
    if not values.size:
        raise InputError("no point has a finite value, so there are no contour lines")
    steps = np.linspace(values.min(), values.max(), number + 2)[1:-1]
    return [float(level) for level in (np.exp(steps) - offset if log else steps)]


def contour_lines(grid: Any, levels: list[float], radius: float = 0.0) -> vtkPolyData:
    """Contour lines at ``levels`` (in the metric's unit) on a grid that Paraloss made.

    Args:
        grid: a grid of ``to_structured_grid``.
        levels: in the metric's unit; those outside its range give no line.
        radius: in widths of the surface: the lines become tubes, which no surface swallows, from above and from below.
            0 leaves lines.

    Returns:
        Lines or tubes; the point array ``level``, the only one, holds each line's value in the metric's unit. With the
        surface's own arrays ParaView would color the lines as the surface, on which they could not be seen.
    """
    name, log, offset, _, _ = height_facts(grid)
    contour = vtkContourFilter()
    contour.SetInputData(_as_drawn(grid))
    contour.SetInputArrayToProcess(0, 0, 0, 0, name)
    kept = 0
    for level in levels:
        value = float(to_log(np.array(level), offset)) if log else level
        if np.isfinite(value):
            contour.SetValue(kept, value)
            kept += 1
    contour.SetNumberOfContours(kept)
    contour.Update()
    lines = vtkPolyData()
    lines.ShallowCopy(contour.GetOutput())
    if lines.GetNumberOfPoints() == 0:
        return lines
    drawn = point_array(lines, name)
    level_array = numpy_to_vtk(np.exp(drawn) - offset if log else drawn, deep=True)
    level_array.SetName("level")
    lines.GetPointData().Initialize()
    lines.GetPointData().AddArray(level_array)
    if not radius:
        return lines
    joined = vtkStripper()
    joined.SetInputData(lines)
    joined.JoinContiguousSegmentsOn()
    joined.Update()
    return tube(joined.GetOutput(), radius, grid, sides=8)


def _as_drawn(grid: Any) -> vtkPolyData:
    """The triangles that the renderer makes of a grid's visible cells: a line along bilinear cells would dive below them."""
    mesh = visible_polygons(grid)
    cells = vtkCellArray()
    triangles = np.ascontiguousarray(triangles_of(mesh).ravel(), dtype=np.int64)
    cells.SetData(3, numpy_to_vtk(triangles, deep=True, array_type=VTK_ID_TYPE))
    mesh.SetPolys(cells)
    return mesh


def tube(line: vtkPolyData, radius: float, grid: Any, sides: int) -> vtkPolyData:
    """A tube around ``line``; ``radius`` in widths of ``grid``."""
    tube = vtkTubeFilter()
    tube.SetInputData(line)
    tube.SetRadius(radius * surface_width(grid))
    tube.SetNumberOfSides(sides)
    tube.CappingOn()
    tube.Update()
    result: vtkPolyData = tube.GetOutput()
    return result


def surface_width(grid: Any) -> float:
    """The longer side of a grid along x or y, the unit of radii."""
    bounds = grid.GetBounds()
    return float(max(bounds[1] - bounds[0], bounds[3] - bounds[2]))


def minimum_marker(grid: Any, radius: float = MINIMUM_RADIUS) -> vtkPolyData:
    """A sphere at the lowest evaluated point, with its place and value as point arrays ``x``, ``y``, ``value``."""
    name, log, offset, _, _ = height_facts(grid)
    values = point_array(grid, name)
    if not np.isfinite(values).any():
        raise InputError("no point is evaluated yet, so there is no minimum")
    lowest = int(np.nanargmin(values))
    place = grid.GetPoint(lowest)
    sphere = vtkSphereSource()
    sphere.SetCenter(place)
    sphere.SetRadius(radius * surface_width(grid))
    sphere.SetThetaResolution(32)
    sphere.SetPhiResolution(32)
    joined = vtkAppendPolyData()
    joined.AddInputConnection(sphere.GetOutputPort())
    joined.Update()
    mesh: vtkPolyData = joined.GetOutput()
    value = float(np.exp(values[lowest]) - offset) if log else float(values[lowest])
    for key, number in (("x", place[0]), ("y", place[1]), ("value", value)):
        array = numpy_to_vtk(np.full(mesh.GetNumberOfPoints(), number), deep=True)
        array.SetName(key)
        mesh.GetPointData().AddArray(array)
    return mesh


def height_at(grid: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear heights of a grid at (x, y); NaN off the grid, beside blank points and above its upper limit."""
    ni, nj, _ = dimensions(grid)
    points = vtk_to_numpy(grid.GetPoints().GetData()).reshape(nj, ni, 3)
    xs, ys = points[0, :, 0], points[:, 0, 1]
    field, level = uncut_field(grid)
    heights = bilinear(xs, ys, np.where(np.isnan(field), np.nan, points[:, :, 2]), x, y)
    if np.isfinite(limits(grid)[1]):
        heights = np.where(bilinear(xs, ys, field, x, y) > level, np.nan, heights)
    return heights


def bilinear(xs: np.ndarray, ys: np.ndarray, z: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of (ny, nx) values ``z`` at (x, y); NaN off the grid."""
    i = np.clip(np.searchsorted(xs, x) - 1, 0, len(xs) - 2)
    j = np.clip(np.searchsorted(ys, y) - 1, 0, len(ys) - 2)
    u, v = (x - xs[i]) / (xs[i + 1] - xs[i]), (y - ys[j]) / (ys[j + 1] - ys[j])
    heights = (1 - v) * ((1 - u) * z[j, i] + u * z[j, i + 1]) + v * ((1 - u) * z[j + 1, i] + u * z[j + 1, i + 1])
    inside = (x >= xs[0]) & (x <= xs[-1]) & (y >= ys[0]) & (y <= ys[-1])
    return np.where(inside, heights, np.nan)
