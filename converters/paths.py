"""Optimizer paths on a surface: their colors and the balls at their ends, tubes along them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkFiltersCore import vtkAppendPolyData
from vtkmodules.vtkFiltersSources import vtkSphereSource

from paraloss.camera import Vector
from paraloss.converters.cut import level_of, uncut_values
from paraloss.converters.facts import dimensions, height_facts
from paraloss.converters.geometry import bilinear, height_at, surface_width, tube
from paraloss.converters.grid import HeightMap, height_map, to_structured_grid
from paraloss.converters.path_fields import paths_in
from paraloss.errors import InputError
from paraloss.height import to_log
from paraloss.look import BALL_RADIUS, LOOKS, MARK_COLOR, MINIMUM_RADIUS, PATH_COLORS, PATH_RADIUS, START_COLOR, Color, Look
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface, Tensors


@dataclass(frozen=True)
class Ball:
    """A mark on a surface: center, radius and color of a ball."""

    center: Vector
    radius: float
    color: Color


@dataclass(frozen=True)
class DrawnPath:
    """An optimizer path as it is drawn.

    Attributes:
        number: place among the paths of the surface.
        label: name of the run; empty for one run alone.
        color: color of the line.
        balls: its start, white, and its end, where these places lie on the surface; of a single point its end alone.
    """

    number: int
    label: str
    color: Color
    balls: tuple[Ball, ...]


def drawn_paths(surface: Surface, heights: HeightMap, width: float, look: Look) -> tuple[DrawnPath, ...]:
    """Decide how the paths of ``surface`` are drawn: one in the color of lines, several in a color each.

    Args:
        surface: the surface.
        heights: its heights.
        width: its longer side, the unit of the balls' radius.
        look: gives the color of one path.
    """
    drawn = []
    for number, (label, path) in enumerate(surface.paths.items()):
        color, end = (PATH_COLORS[number % len(PATH_COLORS)],) * 2 if label else (look.line, MARK_COLOR)
        drawn.append(DrawnPath(number, label, color, _ends(path, surface, heights, BALL_RADIUS * width, end)))
    return tuple(drawn)


def _ends(path: Tensors, surface: Surface, heights: HeightMap, radius: float, end: Color) -> tuple[Ball, ...]:
    if not len(path["x"]):
        return ()
    x, y = (np.asarray(path[axis], float)[[0, -1]] for axis in "xy")
    z = height_between(surface, heights, x, y)
    places = list(zip(x.tolist(), y.tolist(), z.tolist(), (START_COLOR, end), strict=True))
    places = places[1:] if len(path["x"]) == 1 else places
    return tuple(Ball((a, b, c), radius, color) for a, b, c, color in places if np.isfinite([a, b, c]).all())


def height_between(surface: Surface, heights: HeightMap, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear heights of a surface at (x, y); NaN off the grid, beside blank points and above the upper limit."""
    axes = surface.x, np.asarray(surface.y)
    z = bilinear(*axes, heights.known, x, y)
    if heights.options.zmax is None:
        return z
    uncut = bilinear(*axes, uncut_values(surface.metric(heights.metric), heights), x, y)
    return np.where(uncut > level_of(heights), np.nan, z)


def lowest_ball(surface: Surface, heights: HeightMap, width: float) -> Ball | None:
    """The mark of the lowest point of a surface that is ``width`` wide; None where no point is drawn."""
    z = heights.known
    if not np.isfinite(z).any():
        return None
    row, column = np.unravel_index(int(np.nanargmin(z)), z.shape)
    center = (float(surface.x[column]), float(np.asarray(surface.y)[row]), float(z[row, column]))
    return Ball(center, MINIMUM_RADIUS * width, MARK_COLOR)


def drape_trajectory(grid: Any, own_loss: bool = False, radius: float = PATH_RADIUS, number: int | None = None) -> vtkPolyData:
    """The optimizer paths that the grid carries in its field data, as tubes.

    Args:
        grid: a whole grid of ``to_structured_grid``, of a surface with a trajectory.
        own_loss: height from each checkpoint's own loss; False lays the path onto the surface.
        radius: radius of the tube, in widths of the surface.
        number: one of several paths, counted from 0. Default: all.

    Returns:
        Tubes with the point arrays ``step``, ``loss``, ``residual``, and of several paths ``path``, the number of each. A
        checkpoint's own loss is not the surface's height at its projection: it lies ``residual`` away from the plane.

    Raises:
        InputError: the file has no trajectory, or none of that number.
    """
    paths = list(paths_in(grid).values())
    if not paths:
        raise InputError("this surface carries no trajectory; project a run's checkpoints onto it first")
    if number is not None and not 0 <= number < len(paths):
        raise InputError(f"there is no path {number}; the surface carries {len(paths)}, counted from 0")
    if len(paths) == 1:
        return _draped(grid, paths[0], own_loss, radius)
    joined = vtkAppendPolyData()
    for count, path in enumerate(paths):
        if number in (None, count):
            joined.AddInputData(_draped(grid, {**path, "path": np.full(len(path["x"]), float(count))}, own_loss, radius))
    joined.Update()
    result: vtkPolyData = joined.GetOutput()
    return result


def colored_paths(surface: Surface, options: GridOptions) -> vtkPolyData:
    """The paths of a surface as they are drawn on it: tubes and balls at their ends, for programs without our filters.

    Returns:
        Polygons with the point arrays ``color`` (RGB, 0 to 255) and ``path`` (number of the path), and the field array
        ``labels``.

    Raises:
        InputError: the surface has no path.
    """
    heights = height_map(surface, options)
    grid = to_structured_grid(surface, options)
    joined = vtkAppendPolyData()
    labels = vtkStringArray()
    labels.SetName("labels")
    for path in drawn_paths(surface, heights, surface_width(grid), LOOKS["paper"]):
        labels.InsertNextValue(path.label)
        joined.AddInputData(_painted(drape_trajectory(grid, number=path.number), path.color, path.number))
        for ball in path.balls:
            sphere = vtkSphereSource()
            sphere.SetCenter(ball.center)
            sphere.SetRadius(ball.radius)
            sphere.SetThetaResolution(32)
            sphere.SetPhiResolution(32)
            sphere.Update()
            joined.AddInputData(_painted(sphere.GetOutput(), ball.color, path.number))
    if not labels.GetNumberOfValues():
        raise InputError("this surface carries no trajectory; project a run's checkpoints onto it first")
    joined.Update()
    result: vtkPolyData = joined.GetOutput()
    result.GetFieldData().AddArray(labels)
    return result


def _painted(mesh: vtkPolyData, color: Color, number: int) -> vtkPolyData:
    """Polygons with the arrays ``color`` and ``path`` alone."""
    painted = vtkPolyData()
    painted.SetPoints(mesh.GetPoints())
    painted.SetPolys(mesh.GetPolys())
    painted.SetStrips(mesh.GetStrips())
    size = mesh.GetNumberOfPoints()
    bytes_of_color = np.tile((np.array(color) * 255).round().astype(np.uint8), (size, 1))
    for name, values in (("color", bytes_of_color), ("path", np.full(size, number, np.int32))):
        array = numpy_to_vtk(values, deep=True)
        array.SetName(name)
        painted.GetPointData().AddArray(array)
    return painted


def _draped(grid: Any, path: Tensors, own_loss: bool, radius: float) -> vtkPolyData:
    known = np.isfinite(path["x"]) & np.isfinite(path["y"])
    arrays = {key: array[known] for key, array in path.items()}
    if not own_loss:  # a straight line from checkpoint to checkpoint would run below the surface
        arrays = _finer_path(arrays, grid)
    x, y = arrays["x"], arrays["y"]
    _name, log, offset, base, scale = height_facts(grid)
    if own_loss:
        if "loss" not in arrays:
            raise InputError("the trajectory has no losses of its own; show it on the surface")
        z = ((to_log(arrays["loss"], offset) if log else arrays["loss"]) - base) * scale
    else:
        z = height_at(grid, x, y)
    there = np.isfinite(z)
    line = vtkPolyData()
    where = vtkPoints()
    where.SetData(numpy_to_vtk(np.ascontiguousarray(np.stack([x, y, z], axis=1)[there]), deep=True))
    line.SetPoints(where)
    cells = vtkCellArray()
    gaps = np.flatnonzero(np.diff(np.flatnonzero(there)) > 1) + 1  # where the path leaves the surface, and comes back
    for piece in np.split(np.arange(int(there.sum())), gaps):
        cells.InsertNextCell(len(piece))
        for k in piece:
            cells.InsertCellPoint(int(k))
    line.SetLines(cells)
    for key in ("step", "loss", "residual", "path"):
        if key in arrays:
            array = numpy_to_vtk(np.ascontiguousarray(arrays[key][there]), deep=True)
            array.SetName(key)
            line.GetPointData().AddArray(array)
    return tube(line, radius, grid, sides=16)


def _finer_path(arrays: dict[str, Any], grid: Any) -> dict[str, Any]:
    """The path with points between the checkpoints, no farther apart than half a cell of the grid."""
    bounds, (ni, nj, _) = grid.GetBounds(), dimensions(grid)
    cell = min((bounds[1] - bounds[0]) / max(1, ni - 1), (bounds[3] - bounds[2]) / max(1, nj - 1))
    if not len(arrays["x"]):
        return arrays
    lengths = np.hypot(np.diff(arrays["x"]), np.diff(arrays["y"]))
    parts = np.clip(np.ceil(2 * lengths / cell), 1, 10_000).astype(int)
    places = np.concatenate([k + np.arange(n) / n for k, n in enumerate(parts)] + [[float(len(lengths))]])
    known = np.arange(len(arrays["x"]), dtype=float)
    return {key: np.interp(places, known, array) for key, array in arrays.items()}
