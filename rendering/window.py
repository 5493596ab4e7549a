"""A window with sliders, by pyvista: turn, clip, offset, height, contours, step; click for values."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters import open_surface, to_structured_grid
from paraloss.converters.composition import Composition, compose
from paraloss.converters.finer import drawn_finer
from paraloss.converters.layout import bare
from paraloss.errors import InputError, MissingPackage, ParalossError
from paraloss.height import is_loss
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.rendering.plotter import add_contours, add_lights, add_sheet, aim
from paraloss.surface import Surface

_SIZE = (1400, 900)
_REFRESH_MS = 1500


def show_window(
    files: Sequence[Path], labels: Sequence[str], options: GridOptions, picture: PictureOptions | None = None
) -> None:
    """Open the window; returns when it is closed.

    Args:
        files: surface files; several are steps of a slider. A file that grows is drawn again.
        labels: one title per file.
        options: options of heights, as shown first.
        picture: options of the picture; the sliders change its contours.

    Raises:
        InputError: a file that cannot be shown, or no display.
        MissingPackage: pyvista is not installed.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError("there is no display for a window; use --web, or: paraloss render surface.h5 surface.html")
    _Window(files, labels, options, picture or PictureOptions()).show()


class _Window:
    def __init__(self, files: Sequence[Path], labels: Sequence[str], options: GridOptions, picture: PictureOptions) -> None:
        try:
            import pyvista
        except ImportError as error:
            raise MissingPackage("a window needs pyvista: pip install 'paraloss[render]'") from error
        self._files, self._labels, self._options, self._picture = list(files), list(labels), options, picture
        self._look = picture.preset
        self._step, self._height, self._lines, self._clip, self._offset = 0, 1.0, picture.lines, 1.0, options.log_offset
        self._chart: Any = None
        self._read()
        self._plotter: Any = pyvista.Plotter(off_screen=False, title="Paraloss", window_size=list(_SIZE), lighting="none")
        self._pyvista = pyvista

    def _read(self) -> None:
        self._times = [file.stat().st_mtime_ns for file in self._files]
        self._surfaces: list[Surface] = [open_surface(file).drawable() for file in self._files]
        self._drawn = drawn_finer(self._surfaces, self._options, self._picture)
        self._compose()  # raises for what cannot be shown

    def _compose(self) -> Composition:
        """The composition for the sliders' present values."""
        options = replace(self._options, log_offset=self._offset)
        picture = replace(self._picture, contours=self._lines)
        layout = bare(_SIZE, replace(picture, scalar_bar=False), 1)
        composition = compose(self._drawn, options, picture, self._labels, layout)
        if self._clip < 1:
            (low, high), log = composition.ends, composition.panels[0].options.log
            top = low + self._clip * (high - low)
            offset = composition.panels[0].options.log_offset
            options = replace(options, zmax=float(np.exp(top) - offset) if log else float(top))
            composition = compose(self._drawn, options, picture, self._labels, layout)
        if self._height != 1:
            scale = composition.panels[0].options.height_scale or 1.0
            base = composition.panels[0].options.height_base
            options = replace(options, height_scale=scale * self._height, height_base=base)
            composition = compose(self._drawn, options, picture, self._labels, layout)
        return composition

    def show(self) -> None:
        plotter, look = self._plotter, self._look
        plotter.set_background(look.background)
        composition = self._draw()
        add_lights(plotter, composition)
        aim(plotter, replace(composition.camera, view_angle=composition.camera.view_angle / 0.85))  # room for the sliders
        sliders: list[tuple[str, str, float, float, float]] = [
            ("_clip", "clip above (share)", 0.02, 1.0, 1.0),
            ("_offset", "log10 of the offset", -4.0, 2.0, float(np.log10(max(self._offset, 1e-4)))),
            ("_height", "height", 0.1, 3.0, 1.0),
            ("_lines", "contours", 0, 40, float(self._lines)),
        ]
        if len(self._surfaces) > 1:
            sliders.append(("_step", "surface", 0, len(self._surfaces) - 1, 0.0))
        for number, (name, title, low, high, value) in enumerate(sliders):
            plotter.add_slider_widget(
                lambda new, name=name: self._set(name, new), [low, high], value=value, title=title, color=look.text,
                pointa=(0.02, 0.93 - 0.11 * number), pointb=(0.24, 0.93 - 0.11 * number), style="modern",
                title_height=0.018, tube_width=0.003, slider_width=0.012, fmt="%.3g",
            )  # fmt: skip
        plotter.enable_point_picking(self._picked, show_message=False, left_clicking=True, show_point=True)
        plotter.add_text("drag to turn, click for values", position="lower_left", font_size=9, color=look.text)
        plotter.add_timer_event(max_steps=10**9, duration=_REFRESH_MS, callback=lambda _step: self._refresh())
        plotter.show()

    def _set(self, name: str, value: float) -> None:
        if name == "_offset":
            value = 10.0**value
        elif name in ("_lines", "_step"):
            value = round(value)
        if getattr(self, name) != value:
            setattr(self, name, value)
            self._draw()

    def _refresh(self) -> None:
        if [file.stat().st_mtime_ns for file in self._files if file.exists()] == self._times:
            return
        with suppress(ParalossError, OSError):  # in the middle of being written, or gone: what is here stays
            self._read()
            self._draw()

    def _draw(self) -> Composition:
        """Draw the chosen surface as the sliders say."""
        composition, plotter, surface = self._compose(), self._plotter, self._drawn[self._step]
        panel = composition.panels[self._step]
        grid = self._pyvista.wrap(to_structured_grid(surface, panel.options))
        add_sheet(plotter, composition, self._step, grid, name="surface", reset_camera=False)
        if not add_contours(plotter, composition, grid, name="lines", reset_camera=False):
            plotter.remove_actor("lines", render=False)
        ticks = composition.scale.ticks if composition.scale else ()
        metric = str(panel.options.metric)
        title = f"{panel.label}\n{metric}: {ticks[0][1]} to {ticks[-1][1]}" if ticks else metric
        title = "\n".join(filter(None, [title, composition.note]))
        plotter.add_text(title, name="title", position="upper_right", font_size=10, color=self._look.text)
        return composition

    def _picked(self, place: Any) -> None:
        if place is None or len(np.ravel(place)) != 3:
            return
        surface = self._surfaces[self._step]
        x, y = float(place[0]), float(place[1])
        i, j = int(np.abs(surface.x - x).argmin()), int(np.abs(np.asarray(surface.y) - y).argmin())
        lines = [f"x = {surface.x[i]:.4g}", f"y = {np.asarray(surface.y)[j]:.4g}"]
        lines += [f"{name.replace('_', ' ')} = {values[j, i]:.5g}" for name, values in surface.metrics.items()]
        self._plotter.add_text("\n".join(lines), name="values", position="lower_right", font_size=10, color=self._look.text)
        self._show_cuts(surface, i, j)

    def _show_cuts(self, surface: Surface, i: int, j: int) -> None:
        """Plot the metric along x and along y through the point that was picked."""
        if self._chart is not None:
            self._plotter.remove_chart(self._chart)
        values = surface.metric(self._options.metric)
        log = is_loss(self._options.metric or surface.default_metric) if self._options.log is None else self._options.log
        chart = self._pyvista.Chart2D(size=(0.27, 0.30), loc=(0.71, 0.22), x_label="step", y_label="")
        name = self._options.metric or surface.default_metric
        chart.title = name.replace("_", " ")
        chart.background_color = (1.0, 1.0, 1.0, 0.85)  # its letters are black in every look
        for axis, cut, color, label in (
            (surface.x, values[j], "#3b6fd4", "along x"),
            (np.asarray(surface.y), values[:, i], "#d1482f", "along y"),
        ):
            known = np.isfinite(cut)
            if known.sum() > 1:
                chart.line(axis[known], cut[known], color=color, width=2.0, label=label)
        finite = values[np.isfinite(values)]
        chart.y_axis.log_scale = bool(log and finite.min() > 0)
        for part in (chart.x_axis, chart.y_axis):
            part.label_size = 11
        self._plotter.add_chart(chart)
        self._chart = chart
