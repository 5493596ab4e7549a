"""What a picture of surfaces shows beside them, and how: one value for all that a user may choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paraloss.errors import InputError
from paraloss.look import CAMERAS, COLOR_MAPS, LOOKS, Look


@dataclass(frozen=True)
class PictureStyle:
    """How lit surfaces are drawn.

    Attributes:
        view: a name in ``paraloss.look.CAMERAS``.
        look: a name in ``paraloss.look.LOOKS``.
        color_map: a name in ``paraloss.look.COLOR_MAPS``; None takes the look's.
        color_by: metric that gives the color; None: the one that gives the height.
        scalar_bar: draw the color scale.
        contours: number of contour lines on the surface; None: as the look has it.
        floor: draw contour lines on a floor below the surface.
        minimum: mark the lowest point.
        trajectory: draw the optimizer's path where the file has one.
        axes: draw axes with ticks, the vertical one in the metric's own unit.
        overlay: draw several surfaces in one place, translucent.
        columns: of a grid of several surfaces; None: all in a row up to three, else about square.

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    view: str = "paper"
    look: str = "paper"
    color_map: str | None = None
    color_by: str | None = None
    scalar_bar: bool = True
    contours: int | None = None
    floor: bool = False
    minimum: bool = False
    trajectory: bool = True
    axes: bool = False
    overlay: bool = False
    columns: int | None = None

    def __post_init__(self) -> None:
        _one_of(self.view, CAMERAS, "view")
        _one_of(self.look, LOOKS, "look")
        if self.color_map is not None:
            _one_of(self.color_map, COLOR_MAPS, "color map")
        if self.contours is not None and not 0 <= self.contours <= 200:
            raise InputError(f"{self.contours} contour lines: give 0 to 200")
        if self.columns is not None and self.columns < 1:
            raise InputError(f"{self.columns} columns: give one at least")

    @property
    def preset(self) -> Look:
        """The look itself."""
        return LOOKS[self.look]

    @property
    def colors(self) -> str:
        """The color map that is used."""
        return self.color_map or self.preset.color_map

    @property
    def lines(self) -> int:
        """The number of contour lines that are drawn."""
        return self.preset.contours if self.contours is None else self.contours

    @property
    def beyond_paraview(self) -> list[str]:
        """Names of what is asked for and drawn by pyvista only."""
        asked = {"floor": self.floor, "axes": self.axes, "overlay": self.overlay, "columns": self.columns is not None}
        return [name for name, wanted in asked.items() if wanted]

    def shape(self, surfaces: int) -> tuple[int, int]:
        """(rows, columns) of the grid that ``surfaces`` are drawn in."""
        if self.overlay:
            return 1, 1
        columns = min(self.columns or (surfaces if surfaces <= 3 else -int(-(surfaces**0.5) // 1)), surfaces)
        return -(-surfaces // columns), columns


def _one_of(name: str, known: Iterable[str], told: str) -> None:
    if name not in known:
        raise InputError(f"unknown {told} '{name}'; there are {', '.join(known)}")
