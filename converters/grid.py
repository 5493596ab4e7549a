"""A surface as VTK data: a structured grid with all metrics as point arrays; ``polygons`` makes polygons of it.

Point (i, j) of the grid is (x[i], y[j], height); x runs fastest, as in VTK and in the surface file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkDataSetAttributes, vtkStructuredGrid

from paraloss.converters.normals import surface_normals
from paraloss.converters.path_fields import keep_paths
from paraloss.converters.vtk_arrays import filled_array, know_ranges, new_array
from paraloss.errors import InputError
from paraloss.height import finite_range, is_loss, metric_scale
from paraloss.look import HEIGHT_OF_WIDTH
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface


@dataclass(frozen=True)
class HeightMap:
    """Heights of a surface, with scale, base and options.

    Attributes:
        values: array of the surface's shape: (log) metric after clipping, NaN at blank points.
        blank: bool array: points that are not drawn, because they are pending or not finite.
        clipped: bool array: points whose value lies outside zmin..zmax.
        base: the value at height 0.
        scale: height per unit of ``values``.
        metric: the metric's name.
        array: name of the point array that ``values`` are in: the metric, or ``log_<metric>``.
        options: options that the heights were made with; the log offset is the one in use.
        ranges: metric -> (smallest, largest) value of the whole surface, where this is a part of it.
        note: what a picture must say about the scale, see ``paraloss.height.MetricScale``.
    """

    values: np.ndarray
    blank: np.ndarray
    clipped: np.ndarray
    base: float
    scale: float
    metric: str
    array: str
    options: GridOptions
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def is_log(self) -> bool:
        """Whether ``values`` are ln(metric + offset)."""
        return self.array != self.metric

    @property
    def known(self) -> np.ndarray:
        """z of each point, NaN where it is blank."""
        with np.errstate(over="ignore", invalid="ignore"):  # in halves: numbers near the largest there are
            heights = self.values / 2
            heights -= self.base / 2
            heights *= 2 * self.scale
        return heights

    @property
    def heights(self) -> np.ndarray:
        """z of each point; blank points lie at the lowest height, so that they stretch no bounding box."""
        return self.grounded(self.known)

    def grounded(self, z: np.ndarray) -> np.ndarray:
        """``z`` with blank points at the lowest height."""
        return np.where(self.blank, 0.0, z) if self.blank.any() else z

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value that is drawn."""
        low, high = finite_range(self.values)
        return (low, high) if np.isfinite(low) else (0.0, 1.0)


def as_float32(values: np.ndarray) -> np.ndarray:
    """float32, where what is larger than it can hold becomes the largest that it can; NaN and infinity stay."""
    largest = float(np.finfo(np.float32).max)
    return np.where(np.isfinite(values), np.clip(values, -largest, largest), values).astype(np.float32)


def height_map(
    surface: Surface,
    options: GridOptions | None = None,
    width: float | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> HeightMap:
    """Decide the heights of a surface.

    Args:
        surface: a surface or a curve, finished or not.
        options: see ``GridOptions``.
        width: the width that an automatic scale refers to; the surface's own longer side by default.
        ranges: metric -> (smallest, largest) value, where ``surface`` is a part of a larger one.

    Raises:
        InputError: no such metric, zmin not below zmax, or a negative log offset.
    """
    options = options or GridOptions()
    metric = options.metric or surface.default_metric
    raw = np.asarray(surface.metric(metric), np.float64)
    if options.zmax is not None and options.zmin is not None and not options.zmin < options.zmax:
        raise InputError(f"{{zmin}} ({options.zmin}) must be below {{zmax}} ({options.zmax})", arguments=("zmin", "zmax"))
    if options.height_scale is not None and not options.height_scale > 0:
        raise InputError(f"the height scale must be above zero, not {options.height_scale}")
    if not options.log_offset >= 0:
        raise InputError(f"the log offset must be zero or above, not {options.log_offset}")
    log = options.log if options.log is not None else is_loss(metric)
    low = -np.inf if options.zmin is None else options.zmin
    high = np.inf if options.zmax is None else options.zmax
    whole_range = options.zmin is None and options.zmax is None
    clipped = np.zeros(raw.shape, bool) if whole_range else (raw < low) | (raw > high)
    values = raw if whole_range else np.clip(raw, low, high)
    ends = np.array((ranges or {}).get(metric, (np.nan, np.nan)))
    whole = np.clip(ends, low, high) if np.isfinite(ends).all() else values
    chosen = metric_scale(whole, log, options.log_offset)
    values = chosen.heights(values)
    # An infinite loss under a clip is known to lie above it; without one there is no height to draw it at.
    blank = ~np.isfinite(values)
    base, top = finite_range(chosen.heights(whole) if np.isfinite(ends).all() else values)
    if not np.isfinite(base):
        base, top = 0.0, 1.0
    if options.height_scale is not None:
        scale, base = options.height_scale, options.height_base
    else:
        if width is None:
            width = max(np.ptp(axis) for axis in (surface.x, surface.y) if axis is not None)
        scale = usual_scale(float(width), base, top)
    if not log or blank.any():  # a new array, never the surface's own
        values = np.where(blank, np.nan, values)
    array, used = f"log_{metric}" if log else metric, replace(options, log_offset=chosen.offset)
    return HeightMap(values, blank, clipped, base, scale, metric, array, used, ranges or {}, chosen.note)


def usual_scale(width: float, low: float, high: float) -> float:
    """Height per unit of the drawn values, so that ``low`` to ``high`` are 0.55 ``width`` high; in halves, as ``heights``."""
    return HEIGHT_OF_WIDTH * width / 2 / (high / 2 - low / 2) if high / 2 > low / 2 else 1.0


def check_grid(surface: Surface) -> None:
    """Refuse what has no grid of cells along two axes.

    Raises:
        InputError: a curve, a volume, or a single row or column.
    """
    if surface.y is None:
        raise InputError("this is a curve (1D); a grid needs two axes: compute it with --y, or convert it to .csv")
    if surface.z is not None:
        raise InputError("this is a volume (3D); convert it to .vti or .vtkhdf")
    if min(surface.shape) < 2:
        raise InputError(f"{surface.shape[1]} x {surface.shape[0]} points span no area; two along each axis are needed")


def to_structured_grid(
    surface: Surface,
    options: GridOptions | None = None,
    heights: HeightMap | None = None,
    extent: tuple[int, int, int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> vtkStructuredGrid:
    """The surface as a ``vtkStructuredGrid``.

    Args:
        surface: two-dimensional.
        options: see ``GridOptions``.
        heights: decided before, for example with a scale that several surfaces share.
        extent: (i0, i1, j0, j1), inclusive: only this part of ``surface``.
        origin: column and row of the whole surface at which ``surface`` begins, if it is a part itself.

    Returns:
        Dimensions (nx, ny, 1). Point arrays: every metric, ``log_<metric>`` of every loss, ``clipped``, ``status``,
        ``Normals``; blank points and the cells around them are hidden by VTK's ghost arrays. Field data: metric,
        ``log_offset``, ``zmax``, ``height_scale``, ``height_base``, ``height_note``, provenance, and the paths, see
        ``paraloss.converters.path_fields.keep_paths``.

    Raises:
        InputError: a curve was given, or the options do not fit.
    """
    check_grid(surface)
    heights = heights or height_map(surface, options)
    known, x, y = heights.known, surface.x, np.asarray(surface.y)
    z = heights.grounded(known)
    i0, i1, j0, j1 = extent or (0, len(x) - 1, 0, len(y) - 1)
    part = np.s_[j0 : j1 + 1, i0 : i1 + 1]
    grid = vtkStructuredGrid()
    grid.SetExtent(i0 + origin[0], i1 + origin[0], j0 + origin[1], j1 + origin[1], 0, 0)
    grid.SetPoints(_points(x[i0 : i1 + 1], y[j0 : j1 + 1], z[part]))
    for name, values in point_arrays(surface, heights).items():
        grid.GetPointData().AddArray(filled_array(name, values[part]))
    grid.GetPointData().SetNormals(_normals(x, y, known, part))
    grid.GetPointData().SetActiveScalars(heights.array)
    hide(grid, heights.blank[part])
    add_field_data(grid, surface, heights)
    return grid


def point_arrays(surface: Surface, heights: HeightMap) -> dict[str, np.ndarray]:
    """Name -> array of the surface's shape: what every VTK form of the surface carries."""
    arrays: dict[str, np.ndarray] = {}
    for name, values in surface.metrics.items():
        arrays[name] = np.asarray(values, np.float64)
        if is_loss(name) and f"log_{name}" != heights.array:
            known = np.array(heights.ranges.get(name, (np.nan, np.nan)))
            whole = known if np.isfinite(known).all() else arrays[name]
            arrays[f"log_{name}"] = metric_scale(whole, offset=heights.options.log_offset).heights(arrays[name])
    # The drawn array is the clipped one: color and height agree. The metric itself stays as it was computed.
    drawn = heights.array if heights.array.startswith("log_") or not heights.clipped.any() else f"{heights.array}_clipped"
    arrays[drawn] = heights.values
    arrays["clipped"] = heights.clipped.astype(np.uint8)
    arrays["status"] = surface.status
    return arrays


def hide(grid: vtkStructuredGrid, blank: np.ndarray) -> None:
    """Hide the points of a grid that are blank, a bool array of its shape, and the cells around them."""
    if not blank.any():
        return
    name = vtkDataSetAttributes.GhostArrayName()
    points = np.where(blank, vtkDataSetAttributes.HIDDENPOINT, 0).astype(np.uint8)
    cells = np.where(blank_cells(blank), vtkDataSetAttributes.HIDDENCELL, 0).astype(np.uint8)
    grid.GetPointData().AddArray(filled_array(name, points))
    grid.GetCellData().AddArray(filled_array(name, cells))


def blank_cells(blank: np.ndarray) -> np.ndarray:
    """(ny-1, nx-1): whether any corner of the cell is blank."""
    return np.asarray(blank[:-1, :-1] | blank[1:, :-1] | blank[:-1, 1:] | blank[1:, 1:])


def add_field_data(grid: vtkStructuredGrid, surface: Surface, heights: HeightMap) -> None:
    """Put the facts of the heights, the provenance and the paths into the field data of a grid, see ``to_structured_grid``."""
    numbers: dict[str, float] = {
        "log_offset": heights.options.log_offset,
        "height_scale": heights.scale,
        "height_base": heights.base,
        "zmax": np.nan if heights.options.zmax is None else heights.options.zmax,
        "zmin": np.nan if heights.options.zmin is None else heights.options.zmin,
    }
    for name, number in numbers.items():
        grid.GetFieldData().AddArray(filled_array(name, np.array([number])))
    texts: dict[str, Any] = {
        "height_metric": heights.array,
        "options": json.dumps(asdict(heights.options)),
        "height_note": heights.note,
        "provenance": json.dumps(dict(surface.provenance)),
    }
    for name, text in texts.items():
        array = vtkStringArray()
        array.SetName(name)
        array.InsertNextValue(text)
        grid.GetFieldData().AddArray(array)
    keep_paths(grid, surface.paths)


def _points(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> vtkPoints:
    array, rows = new_array("Points", z.size, 3, np.float64)
    places = rows.reshape(*z.shape, 3)
    places[..., 0], places[..., 1], places[..., 2] = x, y[:, None], z
    points = vtkPoints()
    points.SetData(array)  # which forgets what was known of the array
    know_ranges(array, rows)
    return points


def _normals(x: np.ndarray, y: np.ndarray, z: np.ndarray, part: tuple[slice, slice]) -> Any:
    """Normals of ``z[part]`` by heights around it."""
    shape = z[part].shape
    array, rows = new_array("Normals", shape[0] * shape[1], 3, np.float32)
    surface_normals(x, y, z, part, rows.reshape(*shape, 3))
    know_ranges(array, rows)
    return array
