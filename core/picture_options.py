"""Options of heights, pictures and movies: what Python users pass, the command line flattens, and every engine reads.

An option is a field here and is used where it takes effect; nothing in between names it. The text of a field under
``Attributes`` is its help on the command line. Light: no numpy, so that ``--help`` is quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from paraloss.errors import InputError
from paraloss.look import CAMERAS, COLOR_MAPS, LOOKS, OVERLAY_LINES, Camera, Look, camera_from
from paraloss.option import Options, at_least, combine, option, within

AUTO = "auto"
"""The camera direction that a composition chooses."""

LIT = "lit"
FROM_ABOVE = ("contour", "filled", "heat")
OF_VOLUMES = ("iso", "fog")


@dataclass(frozen=True)
class GridOptions(Options):
    """How a metric becomes a height.

    Attributes:
        metric: Metric that gives the height. Default: train_loss if present, else the first loss.
        log: Height from ln(metric + offset). Default: for losses only.
        log_offset: Number added before the logarithm, in the metric's unit; 0.1 as in Li et al. 2018. Grows where losses are
            negative, so that all are drawn.
        zmax: Upper limit in the metric's unit: the surface is cut there. Grids (.vts) cannot be cut: larger values lie at the
            limit, and the array "clipped" marks them.
        zmin: Lower limit in the metric's unit: smaller values are drawn at it.
        height_scale: Height per unit of the (log) metric. Default: the surface is 0.55 times as high as wide.
        height_base: Value of the (log) metric at height 0, if the height scale is given.
    """

    metric: str | None = None
    log: bool | None = None
    log_offset: float = 0.1
    zmax: float | None = None
    zmin: float | None = None
    height_scale: float | None = None
    height_base: float = 0.0


@dataclass(frozen=True)
class PictureOptions(Options):
    """What a picture of surfaces shows, and how.

    Attributes:
        style: lit in 3D, or from above: contour (lines with labels), filled, heat. Default: lit; contour for .pdf and .svg.
            Volumes: iso (shells of equal loss) or fog.
        view: Camera direction: paper, front, corner or top. Default: paper, or the nearest to it from where the surface
            does not hide its basin, its minimum and its paths.
        azimuth: Where the viewer stands, degrees: 0 in front, 90 on the right. Default: the view's.
        elevation: Angle above the surface's plane, degrees; 90 looks straight down. Default: the view's.
        look: Lights, material, colors: paper, dark, flat (unlit, with contour lines) or clay (one color).
        color_map: cool-to-warm, viridis or gray. Default: the look's.
        color_by: Metric that gives the color. Default: the one that gives the height.
        scalar_bar: Draw the color scale.
        contours: Number of contour lines on the surface, evenly spaced in height; of shells in a volume. Default: the
            look's; round values for pictures from above.
        floor: Draw contour lines on a floor below the surface.
        minimum: Mark the lowest point.
        trajectory: Draw the optimizer's path if the file has one.
        axes: Draw axes with ticks, the vertical one in the metric's unit.
        overlay: Draw several surfaces in one place, in a color each: the lowest solid, those above translucent.
        columns: Columns of a grid of several surfaces. Default: one row for up to three, else about square.
        transparent: Leave the background out (.png).

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    style: str | None = None
    view: str = AUTO
    azimuth: float | None = option(None, within(-360, 360))
    elevation: float | None = option(None, within(-90, 90))
    look: str = "paper"
    color_map: str | None = None
    color_by: str | None = None
    scalar_bar: bool = True
    contours: int | None = option(None, within(0, 200))
    floor: bool = False
    minimum: bool = False
    trajectory: bool = True
    axes: bool = False
    overlay: bool = False
    columns: int | None = option(None, at_least(1))
    transparent: bool = False

    def check(self) -> None:
        """Check that names are known."""
        if self.style is not None:
            _one_of(self.style, (LIT, *FROM_ABOVE, *OF_VOLUMES), "style")
        _one_of(self.view, (AUTO, *CAMERAS), "view")
        _one_of(self.look, LOOKS, "look")
        if self.color_map is not None:
            _one_of(self.color_map, COLOR_MAPS, "color map")

    @property
    def preset(self) -> Look:
        """The look itself."""
        return LOOKS[self.look]

    @property
    def camera(self) -> Camera:
        """The direction of the camera; the usual one where it is left open."""
        named = CAMERAS["paper" if self.view == AUTO else self.view]
        if self.azimuth is None and self.elevation is None:
            return named
        return camera_from(named, self.azimuth, self.elevation)

    @property
    def seeks_view(self) -> bool:
        """Whether a composition chooses the direction of the camera."""
        return self.view == AUTO and self.azimuth is None and self.elevation is None and not self.from_above

    @property
    def colors(self) -> str:
        """Name of the color map in use."""
        return self.color_map or self.preset.color_map

    @property
    def color_is_value(self) -> bool:
        """Whether colors stand for values: not for surfaces of one color each."""
        return self.from_above or self.style in OF_VOLUMES or not (self.overlay or self.preset.surface_color is not None)

    @property
    def from_above(self) -> bool:
        """Whether the picture is a plot from above."""
        return self.style in FROM_ABOVE

    @property
    def lines(self) -> int:
        """Number of evenly spaced contour lines on a lit surface."""
        usual = max(OVERLAY_LINES, self.preset.contours) if self.overlay else self.preset.contours
        return usual if self.contours is None else self.contours

    def shape(self, surfaces: int) -> tuple[int, int]:
        """(rows, columns) of the grid that ``surfaces`` are drawn in."""
        if self.overlay:
            return 1, 1
        usual = surfaces if surfaces <= 3 or self.from_above else -int(-(surfaces**0.5) // 1)
        columns = min(self.columns or usual, surfaces)
        return -(-surfaces // columns), columns

    def beyond(self, *drawn: str) -> list[str]:
        """Names of the options that are set to something else than their default and are not among ``drawn``."""
        return [
            option.name for option in fields(self) if option.name not in drawn and getattr(self, option.name) != option.default
        ]


@dataclass(frozen=True)
class MovieOptions(Options):
    """How a movie runs.

    Attributes:
        movie: orbit (one turn), morph (the files are steps in time) or walk (the path grows). Default: orbit, or morph for
            several files.
        frames: Number of frames in all.
        fps: Frames per second.
    """

    movie: Literal["orbit", "morph", "walk"] | None = None
    frames: int = 120
    fps: int = 24


DRAWN_BY_PARAVIEW = (
    "style", "view", "azimuth", "elevation", "look", "color_map", "color_by", "scalar_bar", "contours", "minimum", "trajectory",
    "transparent",
)  # fmt: skip
DRAWN_IN_A_PAGE = (
    "style", "view", "azimuth", "elevation", "look", "color_map", "color_by", "contours", "minimum", "trajectory",
)  # fmt: skip
DRAWN_FROM_ABOVE = (
    "style", "look", "color_map", "color_by", "scalar_bar", "contours", "trajectory", "columns", "transparent",
)  # fmt: skip
"""Options of a picture that an engine draws; it refuses others by name."""


@dataclass(frozen=True)
class DrawingOptions(GridOptions, PictureOptions):
    """Options of heights and of the picture, as ``render`` takes them by name."""


def combined(
    options: GridOptions | None, picture: PictureOptions | None, chosen: Mapping[str, Any], caller: str
) -> tuple[GridOptions, PictureOptions]:
    """Return options of heights and of a picture, with the single fields in ``chosen`` replaced.

    ``render(surfaces, path, options=GridOptions(log=False), zmax=3.0)`` means both.

    Raises:
        TypeError: a name in ``chosen`` that is no option.
        InputError: a value that does not fit.
    """
    groups = (options or GridOptions(), picture or PictureOptions())
    both = combine(DrawingOptions, groups, chosen, caller)
    return both.part(GridOptions), both.part(PictureOptions)


def _one_of(name: str, known: Iterable[str], kind: str) -> None:
    if name not in known:
        raise InputError(f"unknown {kind} '{name}'; there are {', '.join(known)}")
