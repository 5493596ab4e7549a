"""The composition of a picture: heights, color range, contour levels, ticks, camera, lights and marks as one value.

``compose`` decides everything once for a list of surfaces. pyvista, ParaView (as JSON), the web page and matplotlib draw the
value and decide nothing, so that they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from paraloss.camera import (
    Cylinder,
    PlacedCamera,
    Vector,
    camera_for,
    camera_points,
    cylinder_around,
    line_radius,
    placed,
    turned,
)
from paraloss.converters.axes import Axes
from paraloss.converters.cut import beyond_rim, check_below
from paraloss.converters.grid import HeightMap, height_map
from paraloss.converters.layout import Layout, framed, usual_size
from paraloss.converters.paths import Ball, DrawnPath, drawn_paths, lowest_ball
from paraloss.converters.scale import (
    color_range,
    drawn_value,
    even_levels,
    joint_range,
    level_text,
    nonempty,
    picture_scale,
    round_levels,
    scale_ticks,
    shared_heights,
)
from paraloss.converters.viewpoint import best_view, sight_of
from paraloss.errors import InputError
from paraloss.height import MetricScale
from paraloss.look import FLOOR_BELOW, OVERLAY_COLORS, OVERLAY_DARKER, OVERLAY_OPACITY, Color, Look
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.surface import Surface
from paraloss.text import printable

Tick = tuple[float, str]


@dataclass(frozen=True)
class ColorScale:
    """The color scale.

    Attributes:
        array: point array that gives the color.
        title: text above the scale.
        low: lower end, on the drawn scale (a logarithm for losses).
        high: upper end; above ``low``.
        ticks: (value on the drawn scale, text) of each tick.
        color_map: a name in ``paraloss.look.COLOR_MAPS``.
    """

    array: str
    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]
    color_map: str


@dataclass(frozen=True)
class PlacedLight:
    """A directional light: shines from ``position`` towards ``focal_point``; RGB color and intensity, 0 to 1."""

    position: Vector
    focal_point: Vector
    color: Color
    intensity: float


@dataclass(frozen=True)
class Panel:
    """One surface in the picture.

    Attributes:
        label: title.
        options: options of its heights, with metric, logarithm, scale and base decided.
        color: color of the whole surface; None: that of the scale.
        line: color of its contour lines; None: the look's.
        opacity: opacity, 1 is solid.
        paths: the optimizer paths on it.
        minimum: mark of its lowest point, where the picture shows one.
    """

    label: str
    options: GridOptions
    color: Color | None
    paths: tuple[DrawnPath, ...] = ()
    minimum: Ball | None = None
    line: Color | None = None
    opacity: float = 1.0

    @property
    def balls(self) -> tuple[Ball, ...]:
        """All round marks: of the minimum, of the ends of the paths."""
        ends = tuple(ball for path in self.paths for ball in path.balls)
        return ends if self.minimum is None else (self.minimum, *ends)

    @property
    def legend(self) -> tuple[tuple[str, Color], ...]:
        """(label, color) of each of several paths."""
        return tuple((path.label, path.color) for path in self.paths if path.label)


@dataclass(frozen=True)
class Composition:
    """Everything that is decided about a picture of surfaces before an engine draws it.

    Attributes:
        panels: the surfaces, in the order of the files.
        picture: what is shown; the engines read from it whether to draw something, never where or how large.
        look: background, material and colors.
        scale: the color scale; None if every surface has one color.
        ends: lowest and highest value drawn, on the drawn scale.
        levels: contour levels in the metric's unit.
        floor_levels: levels of the contour lines on the floor.
        layout: cells of the picture.
        camera: the camera of every cell.
        cylinder: space that a turning camera keeps in the frame.
        lights: directional lights.
        width: longer side of what is drawn; the unit of the radii below.
        floor: height of the floor.
        line_radius: radius of contour lines, in widths.
        note: remark in the corner.
        axes: lines and labels of the axes, for engines that draw them; not part of the JSON.
    """

    panels: tuple[Panel, ...]
    picture: PictureOptions
    look: Look
    scale: ColorScale | None
    ends: tuple[float, float]
    levels: tuple[float, ...]
    floor_levels: tuple[float, ...]
    layout: Layout
    camera: PlacedCamera
    cylinder: Cylinder
    lights: tuple[PlacedLight, ...]
    width: float
    floor: float
    line_radius: float
    note: str = ""
    axes: Axes | None = field(default=None, compare=False)

    def turned(self, degrees: float) -> PlacedCamera:
        """The camera of a turn around the vertical axis."""
        return turned(self.cylinder, self.picture.camera, self.layout.aspect, degrees, self.layout.margin)

    def alone(self, surface: Surface, label: str) -> Composition:
        """The same for another surface in the first cell: same heights, scale, camera and lights."""
        first = self.panels[0]
        heights = height_map(surface, first.options)
        return replace(self, panels=(_panel(surface, heights, label, self.picture, self.width, first.color),))


def compose(
    surfaces: Sequence[Surface],
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    labels: Sequence[str] | None = None,
    layout: Layout | None = None,
) -> Composition:
    """Decide how surfaces are drawn together: on one scale, seen by one camera.

    Args:
        surfaces: one or more two-dimensional surfaces, finished or not.
        options: options of heights.
        picture: options of the picture.
        labels: one title per surface. Default: none.
        layout: cells of the picture. Default: framed, in the usual size.

    Raises:
        InputError: a curve, nothing evaluated yet, no such metric, or options that do not fit.
    """
    options, picture = options or GridOptions(), picture or PictureOptions()
    labels = list(labels) if labels is not None else [""] * len(surfaces)
    if any(surface.z is not None for surface in surfaces):
        raise InputError("a volume (3D) is drawn by itself, as .png or .jpg")
    chosen = picture_scale(surfaces, options, picture.color_by) if options.log_offset >= 0 else MetricScale(True)
    options = replace(options, log_offset=chosen.offset) if chosen.note else options
    heights = shared_heights(surfaces, options, lit=not picture.from_above)
    for one, label in zip(heights, labels, strict=True):
        check_below(one, label if len(surfaces) > 1 else "")
    ends = joint_range(heights)
    if picture.seeks_view:
        picture = _seen_best(surfaces, heights, picture)
    levels = _levels(heights[0], ends, picture)
    points = camera_points(np.concatenate([drawn_points(s, h) for s, h in zip(surfaces, heights, strict=True)]))
    width = float(np.ptp(points[:, :2], axis=0).max())
    if picture.floor:
        below = points.copy()
        below[:, 2] = points[:, 2].min() - FLOOR_BELOW * width
        points = np.concatenate([points, below])
    axes = _axes(points, picture, heights[0], ends) if picture.axes else None
    seen = points if axes is None else np.concatenate([points, axes.corners])
    layout = layout or framed(usual_size(picture, len(surfaces)), picture, labels)
    colors = [None if picture.color_is_value else _one_color(number, picture) for number in range(len(surfaces))]
    panels = tuple(
        _panel(surface, one, label, picture, width, color)
        for surface, one, label, color in zip(surfaces, heights, labels, colors, strict=True)
    )
    smoothed = sorted({f"smoothed {s.provenance['smoothed']}×" for s in surfaces if "smoothed" in s.provenance})
    return Composition(
        panels=_overlaid(panels, heights) if picture.overlay else panels,
        picture=picture,
        look=picture.preset,
        scale=_color_scale(surfaces, heights, options, picture, levels, chosen) if picture.color_is_value else None,
        ends=ends,
        levels=levels,
        floor_levels=(levels or even_levels(heights[0], *ends, 12)) if picture.floor else (),
        layout=layout,
        camera=placed(camera_for(seen, picture.camera, layout.aspect, layout.margin)),
        cylinder=cylinder_around(seen),
        lights=_lights(points, width, picture.preset),
        width=width,
        floor=float(points[:, 2].min()),
        line_radius=line_radius(layout.cell[1]),
        note=", ".join([*smoothed, *filter(None, [chosen.note])]),
        axes=axes,
    )


def _seen_best(surfaces: Sequence[Surface], heights: Sequence[HeightMap], picture: PictureOptions) -> PictureOptions:
    """The options with the view decided that they leave open."""
    sights = [sight_of(surface, one, picture.trajectory) for surface, one in zip(surfaces, heights, strict=True)]
    azimuth, elevation = best_view(sights) or (None, None)
    return replace(picture, view="paper", azimuth=azimuth, elevation=elevation)


def drawn_points(surface: Surface, heights: HeightMap) -> np.ndarray:
    """(n, 3) coordinates of the points of all cells that are drawn, in part at least."""
    x, y = np.meshgrid(surface.x, np.asarray(surface.y))
    return np.asarray(np.stack([x, y, heights.heights], axis=-1)[~heights.blank & ~beyond_rim(surface, heights)])


def _levels(heights: HeightMap, ends: tuple[float, float], picture: PictureOptions) -> tuple[float, ...]:
    if picture.from_above and picture.contours is None:
        return round_levels(heights, *nonempty(*ends))
    return even_levels(heights, *ends, picture.contours if picture.contours is not None else picture.lines)


def _color_scale(
    surfaces: Sequence[Surface],
    heights: Sequence[HeightMap],
    options: GridOptions,
    picture: PictureOptions,
    levels: Sequence[float],
    chosen: MetricScale,
) -> ColorScale:
    """The scale of the heights themselves, or of another metric."""
    colored = heights
    if picture.color_by not in (None, heights[0].metric):
        other = GridOptions(metric=picture.color_by, log_offset=options.log_offset)
        colored = [height_map(surface, other) for surface in surfaces]
    low, high = nonempty(*color_range(colored))
    if picture.from_above and colored is heights:  # the lines are labeled, and the scale shows the same numbers
        ticks = [(drawn_value(heights[0], level), level_text(level)) for level in levels]
    else:
        ticks = scale_ticks(colored[0], low, high)
    title = printable(colored[0].metric.replace("_", " "))
    if chosen.note and colored[0].is_log:
        title = f"{title}, ln(loss + {chosen.offset:.4g})"
    return ColorScale(colored[0].array, title, low, high, tuple(ticks), picture.colors)


def _panel(
    surface: Surface, heights: HeightMap, label: str, picture: PictureOptions, width: float, color: Color | None
) -> Panel:
    options = replace(
        heights.options,
        metric=heights.metric,
        log=heights.is_log,
        height_scale=heights.scale,
        height_base=heights.base,
    )
    paths = drawn_paths(surface, heights, width, picture.preset) if picture.trajectory else ()
    return Panel(label, options, color, paths, lowest_ball(surface, heights, width) if picture.minimum else None)


def _overlaid(panels: Sequence[Panel], heights: Sequence[HeightMap]) -> tuple[Panel, ...]:
    """Panels that share a place: the lowest on average solid, those above it translucent, lines in the surfaces' colors."""
    means = [float(np.nanmean(one.known)) for one in heights]
    lowest = int(np.argmin(means))
    return tuple(
        replace(
            panel,
            opacity=1.0 if number == lowest else OVERLAY_OPACITY,
            line=None if panel.color is None else _darker(panel.color),
            minimum=panel.minimum and replace(panel.minimum, color=panel.color or panel.minimum.color),
        )
        for number, panel in enumerate(panels)
    )


def _darker(color: Color) -> Color:
    red, green, blue = color
    return red * OVERLAY_DARKER, green * OVERLAY_DARKER, blue * OVERLAY_DARKER


def _one_color(number: int, picture: PictureOptions) -> Color | None:
    return OVERLAY_COLORS[number % len(OVERLAY_COLORS)] if picture.overlay else picture.preset.surface_color


def _lights(points: np.ndarray, width: float, look: Look) -> tuple[PlacedLight, ...]:
    low, high = points.min(axis=0), points.max(axis=0)
    middle = np.array([*(low + high)[:2] / 2, low[2]])

    def vector(place: np.ndarray) -> Vector:
        x, y, z = (float(number) for number in place)
        return x, y, z

    return tuple(
        PlacedLight(vector(middle + width * np.array(spec.position)), vector(middle), spec.color, spec.intensity)
        for spec in look.lights
    )


def _axes(points: np.ndarray, picture: PictureOptions, heights: HeightMap, ends: tuple[float, float]) -> Axes:
    ticks = [((value - heights.base) * heights.scale, text) for value, text in scale_ticks(heights, *ends)]
    return Axes(points, picture.camera, ticks)
