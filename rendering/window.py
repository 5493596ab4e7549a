"""A window of its own with sliders, by pyvista: turn, clip, offset, height, contours, step; click for values."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters import GridOptions, open_surface, to_structured_grid
from paraloss.converters.geometry import contour_lines, default_levels
from paraloss.converters.scale import joint_range, scale_ticks, shared_heights
from paraloss.errors import InputError, MissingPackage, ParalossError
from paraloss.look import LOOKS, VIEW_ANGLE, camera_for, camera_points, line_radius
from paraloss.rendering.surface_picture import drawn_points, lookup_table
from paraloss.surface import Surface

_REFRESH_MS = 1500


def show_window(files: Sequence[Path], labels: Sequence[str], options: GridOptions, look: str = "paper") -> None:
    """Open the window; returns when it is closed.

    Args:
        files: surface files; several are steps of a slider. A file that grows is drawn again.
        labels: a title each.
        options: ``metric`` gives the height.
        look: a name in ``paraloss.look.LOOKS``.

    Raises:
        InputError: an unknown look, a file that cannot be shown, or no display.
        MissingPackage: pyvista is not installed.
    """
    if look not in LOOKS:
        raise InputError(f"unknown look '{look}'; there are {', '.join(LOOKS)}")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError("there is no display for a window; use --web, or: paraloss render surface.h5 surface.html")
    _Window(files, labels, options, look).show()


class _Window:
    def __init__(self, files: Sequence[Path], labels: Sequence[str], options: GridOptions, look: str) -> None:
        try:
            import pyvista
        except ImportError as error:
            raise MissingPackage("a window needs pyvista: pip install 'paraloss[render]'") from error
        self._files, self._labels, self._options, self._look = list(files), list(labels), options, LOOKS[look]
        self._step, self._height, self._lines, self._clip, self._offset = 0, 1.0, self._look.contours, 1.0, options.log_offset
        self._grid: Any = None
        self._chart: Any = None
        self._read()
        self._plotter: Any = pyvista.Plotter(off_screen=False, title="Paraloss", window_size=[1400, 900], lighting="none")
        self._pyvista = pyvista

    def _read(self) -> None:
        self._times = [file.stat().st_mtime_ns for file in self._files]
        self._surfaces: list[Surface] = [open_surface(file).drawable() for file in self._files]
        shared_heights(self._surfaces, self._options)  # says what cannot be shown

    def show(self) -> None:
        plotter, look = self._plotter, self._look
        plotter.set_background(look.background)
        points = self._draw()
        width = float(np.ptp(points[:, :2], axis=0).max())
        middle = np.array([*(points.min(axis=0) + points.max(axis=0))[:2] / 2, points[:, 2].min()])
        for spec in look.lights:
            light = self._pyvista.Light(
                position=tuple(middle + width * np.array(spec.position)), focal_point=tuple(middle), color=spec.color,
                intensity=spec.intensity, light_type="scene light",
            )  # fmt: skip
            plotter.add_light(light)
        position, aim, up = camera_for(camera_points(points), "paper", 1400 / 900)
        plotter.camera.position, plotter.camera.focal_point, plotter.camera.up = tuple(position), tuple(aim), tuple(up)
        plotter.camera.view_angle = VIEW_ANGLE / 0.85  # room for the sliders
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

    def _draw(self) -> np.ndarray:
        """Draw the chosen surface anew; its points."""
        options, look, plotter = replace(self._options, log_offset=self._offset), self._look, self._plotter
        if self._clip < 1:
            low, high = joint_range(shared_heights(self._surfaces, options))
            log = shared_heights(self._surfaces, options)[0].array.startswith("log_")
            top = low + self._clip * (high - low)
            options = replace(options, zmax=float(np.exp(top) - self._offset) if log else float(top))
        heights = shared_heights(self._surfaces, options)
        heights = [replace(one, scale=one.scale * self._height) for one in heights]
        low, high = joint_range(heights)
        surface, chosen = self._surfaces[self._step], heights[self._step]
        self._shown = chosen
        self._grid = self._pyvista.wrap(to_structured_grid(surface, heights=chosen))
        material = {"ambient": look.material.ambient, "diffuse": look.material.diffuse, "specular": look.material.specular}
        color: dict[str, Any] = (
            {"color": look.surface_color}
            if look.surface_color
            else {
                "scalars": chosen.array,
                "cmap": lookup_table(look.color_map, low, high),
                "clim": (low, high),
                "interpolate_before_map": True,
            }
        )
        actor = plotter.add_mesh(
            self._grid, name="surface", show_scalar_bar=False, reset_camera=False, specular_power=look.material.specular_power,
            **material, **color,
        )  # fmt: skip
        actor.prop.interpolation = "Phong"
        levels = default_levels(self._grid, self._lines) if self._lines else []
        lines = self._pyvista.wrap(contour_lines(self._grid, levels, line_radius(plotter.window_size[1])))
        if lines.n_points:
            plotter.add_mesh(lines, name="lines", color=look.line, lighting=False, reset_camera=False)
        else:
            plotter.remove_actor("lines", render=False)
        ticks = scale_ticks(chosen, low, high)
        told = f"{self._labels[self._step]}\n{chosen.metric}: {ticks[0][1]} to {ticks[-1][1]}" if ticks else chosen.metric
        plotter.add_text(told, name="title", position="upper_right", font_size=10, color=look.text)
        return drawn_points(surface, chosen)

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
        """The metric along x and along y through the point that was picked."""
        if self._chart is not None:
            self._plotter.remove_chart(self._chart)
        values = surface.metric(self._options.metric)
        chart = self._pyvista.Chart2D(size=(0.27, 0.30), loc=(0.71, 0.22), x_label="step", y_label="")
        chart.title = self._shown.metric.replace("_", " ")
        chart.background_color = (1.0, 1.0, 1.0, 0.85)  # its letters are black in every look
        for axis, cut, color, label in (
            (surface.x, values[j], "#3b6fd4", "along x"),
            (np.asarray(surface.y), values[:, i], "#d1482f", "along y"),
        ):
            known = np.isfinite(cut)
            if known.sum() > 1:
                chart.line(axis[known], cut[known], color=color, width=2.0, label=label)
        finite = values[np.isfinite(values)]
        chart.y_axis.log_scale = bool(self._shown.array.startswith("log_") and finite.min() > 0)
        for part in (chart.x_axis, chart.y_axis):
            part.label_size = 11
        self._plotter.add_chart(chart)
        self._chart = chart
