"""Lit pictures of surfaces: cells drawn by pyvista off screen or by ParaView, titles and scale around them by matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from paraloss.converters.axes import projected
from paraloss.converters.composition import Composition
from paraloss.errors import InputError
from paraloss.picture_options import DRAWN_BY_PARAVIEW
from paraloss.print_size import PrintSize
from paraloss.rendering.figures import shown
from paraloss.rendering.frame import Frame
from paraloss.rendering.paraview_backend import paraview_cells, paraview_turn
from paraloss.rendering.plotter import add_effects, add_lights, add_panel, aim, photograph, quiet_pyvista
from paraloss.surface import Surface
from paraloss.ways import way_in_words

BACKENDS = ("pyvista", "paraview")
_WIDTH = 20  # of the titles of axes, in letters: a long line would run into the numbers beside it


class SurfacePicture:
    """A picture of surfaces that share color scale, height scale and camera.

    Args:
        surfaces: the surfaces that ``composition`` was made for.
        composition: composition of the picture.
        backend: ``pyvista`` or ``paraview``, the engine that draws the surfaces; titles and scale are the same.

    Raises:
        InputError: an unknown backend, or something that ParaView does not draw.
        MissingPackage: pyvista is not installed.
    """

    def __init__(self, surfaces: Sequence[Surface], composition: Composition, backend: str = "pyvista") -> None:
        if backend not in BACKENDS:
            raise InputError(f"unknown backend '{backend}'; there are {', '.join(BACKENDS)}")
        asked = beyond_paraview(composition) if backend == "paraview" else []
        if asked:
            raise InputError(f"{', '.join(asked)}: drawn by pyvista only; use backend pyvista")
        self.surfaces, self.composition, self.backend = surfaces, composition, backend

    def save(self, path: Path, printed: PrintSize | None = None) -> None:
        """Draw into ``path``, a ``.png`` or ``.jpg``, which records the dots per inch of ``printed``."""
        frame = self._frame()
        frame.fill(self._cells())
        if printed is None:
            frame.save(path)
        else:
            frame.save(path, printed.dpi)

    def pixels(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        frame = self._frame()
        frame.fill(self._cells())
        return frame.pixels()

    def turning(self, frames: int) -> Iterator[np.ndarray]:
        """(height, width, 3) uint8 pictures of one full turn around the vertical axis; scale and titles stand still."""
        frame = self._frame()
        turn = paraview_turn(self.surfaces, self.composition, frames) if self.backend == "paraview" else self._turn(frames)
        for cells in turn:
            frame.fill(cells)
            yield frame.pixels()

    def alone(self, surface: Surface, label: str) -> np.ndarray:
        """(height, width, 3) uint8: ``surface`` by itself, on the scale and seen by the camera of this picture."""
        return SurfacePicture([surface], self.composition.alone(surface, label), self.backend).pixels()

    def _frame(self) -> Frame:
        frame = Frame(self.composition)
        if self.composition.axes is not None:
            self._label_axes(frame)
        return frame

    def _cells(self) -> list[np.ndarray | None]:
        """(height, width, 3 or 4) uint8 for each cell of the grid; None where there is no surface."""
        if self.backend == "paraview":
            return paraview_cells(self.surfaces, self.composition)
        cells: list[np.ndarray | None] = []
        for plotter in self._plotters():
            if plotter is None:
                cells.append(None)
                continue
            aim(plotter, self.composition.camera)
            transparent = self.composition.picture.transparent
            cells.append(photograph(plotter, transparent))
            plotter.close()
        return cells

    def _turn(self, frames: int) -> Iterator[list[np.ndarray | None]]:
        plotters = list(self._plotters())
        try:
            for step in range(frames):
                cells: list[np.ndarray | None] = []
                for plotter in plotters:
                    if plotter is None:
                        cells.append(None)
                        continue
                    aim(plotter, self.composition.turned(360.0 * step / frames))
                    plotter.render()
                    cells.append(photograph(plotter))
                yield cells
        finally:
            for plotter in plotters:
                if plotter is not None:
                    plotter.close()

    def _plotters(self) -> Iterator[Any | None]:
        """A plotter for each cell, the camera not aimed yet; None for an empty cell.

        Several renderers of one window would share their lights and add them up.
        """
        layout, overlay = self.composition.layout, self.composition.picture.overlay
        for number in range(layout.rows * layout.columns):
            if number >= len(self.surfaces):
                yield None
                continue
            plotter = quiet_pyvista().Plotter(off_screen=True, window_size=list(layout.cell), lighting="none")
            plotter.set_background(self.composition.look.background)
            for index in range(len(self.surfaces)) if overlay else [number]:
                add_panel(plotter, self.composition, index, self.surfaces[index])
            add_lights(plotter, self.composition)
            add_effects(plotter, self.composition)
            yield plotter

    def _label_axes(self, frame: Frame) -> None:
        """Labels where the camera sees their places; drawn by matplotlib, so that they stay legible at any size."""
        axes, camera = self.composition.axes, self.composition.camera
        assert axes is not None
        ways = {axis: way_in_words(self.surfaces[0].provenance, axis) if len(self.surfaces) == 1 else "" for axis in "xy"}
        names = {
            **{axis: shown(fill(f"{axis}: {way}", _WIDTH)) if way else axis for axis, way in ways.items()},
            "z": str(self.composition.panels[0].options.metric).replace("_", " "),
        }
        texts = [(place, text, align, 0.78) for place, text, align in axes.labels]
        texts += [(place, names[name], align, 0.95) for name, place, align in axes.titles]
        for number in range(1 if self.composition.picture.overlay else len(self.surfaces)):
            for place, text, align, scale in texts:
                where = projected(place, camera, self.composition.layout.cell)
                frame.add_text(number, where, text, align, scale)


def beyond_paraview(composition: Composition) -> list[str]:
    """Names of what the composition shows and ParaView does not draw."""
    asked = composition.picture.beyond(*DRAWN_BY_PARAVIEW)
    return asked or (["more than one row"] if composition.layout.rows > 1 else [])
