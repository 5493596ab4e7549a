"""Lit pictures of surfaces with pyvista, off screen: one, several on one scale, or several in one place.

Lights, material, colors and camera come from ``paraloss.look``, which ParaView's states use as well.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters import GridOptions, HeightMap, height_map, to_structured_grid
from paraloss.converters.colors import color_table
from paraloss.converters.geometry import contour_lines, default_levels, drape_trajectory, minimum_marker, path_ends
from paraloss.converters.scale import color_range, joint_range, scale_ticks, shared_heights
from paraloss.errors import InputError, MissingPackage
from paraloss.look import (
    BALL_RADIUS,
    MARK_COLOR,
    START_COLOR,
    VIEW_ANGLE,
    camera_for,
    camera_points,
    line_radius,
    turned,
)
from paraloss.rendering.axes import Axes, projected
from paraloss.rendering.frame import Frame
from paraloss.rendering.paraview_backend import paraview_image
from paraloss.rendering.style import PictureStyle
from paraloss.surface import Surface

_OVERLAY_COLORS = ((0.12, 0.31, 0.61), (0.71, 0.20, 0.12), (0.18, 0.49, 0.27), (0.48, 0.31, 0.64))
_FLOOR_BELOW = 0.12  # of the floor with contour lines, in widths


class SurfacePicture:
    """A picture of surfaces that share color scale, height scale and camera.

    Args:
        surfaces: one or more two-dimensional surfaces, finished or not; what is missing is left blank.
        labels: a title each, may be empty.
        options: how heights are made.
        size: pixels; 1600×900 for one, 1100×800 for each of a row, less for each of a grid.
        style: view, look, colors and what else is drawn.
        backend: ``pyvista`` or ``paraview``: who draws the surfaces; titles and scale are the same.

    Raises:
        InputError: a curve, nothing evaluated yet, or something that ParaView is not asked to draw.
        MissingPackage: pyvista is not installed.
    """

    def __init__(
        self,
        surfaces: Sequence[Surface],
        labels: Sequence[str],
        options: GridOptions,
        size: tuple[int, int] | None = None,
        style: PictureStyle | None = None,
        backend: str = "pyvista",
    ) -> None:
        self.style = style or PictureStyle()
        if backend not in ("pyvista", "paraview"):
            raise InputError(f"unknown backend '{backend}'; there are pyvista, paraview")
        self.rows, self.columns = self.style.shape(len(surfaces))
        if backend == "paraview" and (self.style.beyond_paraview or self.rows > 1):
            asked = ", ".join(self.style.beyond_paraview or ["more than one row"])
            raise InputError(f"{asked}: drawn by pyvista only; use --backend pyvista")
        self.backend, self.look = backend, self.style.preset
        self.heights = shared_heights(surfaces, options)
        self.colors = self._color_maps(surfaces, options)
        self.ends, self.color_ends = joint_range(self.heights), color_range(self.colors)
        self.surfaces, self.labels = surfaces, labels
        self.size = size or (
            (1600, 900) if self.columns == self.rows == 1 else (1100 * self.columns, 800)
            if self.rows == 1
            else (900 * self.columns, 640 * self.rows)
        )  # fmt: skip
        self.scalar_bar = self.style.scalar_bar and self.look.surface_color is None and not self.style.overlay

    def save(self, path: Path, transparent: bool = False) -> None:
        """Draw into ``path``, a ``.png`` or ``.jpg``."""
        frame = self._frame(transparent)
        frame.fill(self._images(frame.cell, transparent))
        frame.save(path)

    def turning(self, frames: int) -> Iterator[np.ndarray]:
        """(height, width, 3) uint8 pictures of one full turn around the vertical axis, scale and titles standing still."""
        frame = self._frame(False)
        cells: list[np.ndarray | None] = [None] * (self.rows * self.columns)
        plotters = {number: p for number in range(len(cells)) if (p := self._plotter(number, frame.cell)) is not None}
        try:
            for step in range(frames):
                for number, plotter in plotters.items():
                    self._aim(plotter, frame.cell, 360.0 * step / frames, turning=True)
                    plotter.render()
                    cells[number] = plotter.screenshot(return_img=True)
                frame.fill(cells)
                yield frame.pixels()
        finally:
            for plotter in plotters.values():
                plotter.close()

    def alone(self, surface: Surface, label: str) -> np.ndarray:
        """(height, width, 3) uint8: ``surface`` by itself, on the scale and seen by the camera of this picture's surfaces."""
        one = copy.copy(self)
        self._points()
        one._kept = self._kept
        one.ends, one.color_ends = self.ends, self.color_ends
        fixed = replace(height_map(surface, self.heights[0].options), base=self.heights[0].base, scale=self.heights[0].scale)
        one.surfaces, one.labels, one.heights, one.colors = [surface], [label], [fixed], [fixed]
        one.rows = one.columns = 1
        frame = one._frame(False)
        frame.fill(one._images(frame.cell, False))
        return frame.pixels()

    def _color_maps(self, surfaces: Sequence[Surface], options: GridOptions) -> list[HeightMap]:
        """What the color tells: the heights themselves, or another metric on a scale that all share."""
        if self.style.color_by is None:
            return self.heights
        other = replace(options, metric=self.style.color_by, zmax=None, zmin=None, log=None, height_scale=None)
        return [height_map(surface, other) for surface in surfaces]

    def _frame(self, transparent: bool) -> Frame:
        width, height = self.size
        labels = self.labels if not self.style.overlay else [""]
        note = ", ".join(sorted({f"smoothed {s.provenance['smoothed']}×" for s in self.surfaces if "smoothed" in s.provenance}))
        text = 0.026 * min(height / self.rows**0.5, 1.6 * width / self.columns)  # pixels
        frame = Frame((width, height), self.rows, self.columns, labels, text, self.look, transparent, self.scalar_bar)
        if self.scalar_bar:
            low, high = self.color_ends
            frame.add_scalar_bar(self.style.colors, self.colors[0], low, high)
        if self.style.overlay:
            frame.add_legend(self.labels, _OVERLAY_COLORS)
        if note:
            frame.add_note(note)
        if self.style.axes:
            self._label_axes(frame)
        return frame

    def _images(self, cell: tuple[int, int], transparent: bool) -> list[np.ndarray | None]:
        """(height, width, 3 or 4) uint8 for each cell of the grid; None where there is no surface."""
        if self.backend == "paraview":
            size = (cell[0] * self.columns, cell[1])
            whole = paraview_image(self.surfaces, self.heights[0].options, size, self.style, transparent, self.color_ends)
            return [whole[:, k * cell[0] : (k + 1) * cell[0]] for k in range(self.columns)]
        images: list[np.ndarray | None] = []
        for number in range(self.rows * self.columns):
            # A plotter each: several renderers of one window would share their lights and add them up.
            plotter = self._plotter(number, cell)
            if plotter is None:
                images.append(None)
                continue
            self._aim(plotter, cell)
            images.append(np.asarray(plotter.screenshot(transparent_background=transparent, return_img=True)))
            plotter.close()
        return images

    def _plotter(self, number: int, cell: tuple[int, int]) -> Any | None:
        """A plotter with everything that belongs into one cell, the camera not aimed yet."""
        shown = range(len(self.surfaces)) if self.style.overlay else [number]
        if number >= len(self.surfaces):
            return None
        pv = quiet_pyvista()
        plotter = pv.Plotter(off_screen=True, window_size=list(cell), lighting="none")
        plotter.set_background(self.look.background)
        for index in shown:
            self._add(plotter, index, cell)
        self._light(plotter)
        return plotter

    def _add(self, plotter: Any, index: int, cell: tuple[int, int]) -> None:
        """One surface and what lies on it."""
        look, style, pv = self.look, self.style, quiet_pyvista()
        surface, heights, colors = self.surfaces[index], self.heights[index], self.colors[index]
        grid = pv.wrap(to_structured_grid(surface, heights=heights))
        sheet = _without_hidden_cells(grid) if grid.GetPointGhostArray() is not None else grid
        low, high = self.color_ends
        shading = {
            "ambient": look.material.ambient,
            "diffuse": look.material.diffuse,
            "specular": look.material.specular,
            "specular_power": look.material.specular_power,
        }
        if style.overlay:
            shown: dict[str, Any] = {"color": _OVERLAY_COLORS[index % len(_OVERLAY_COLORS)], "opacity": 0.62}
        elif look.surface_color is not None:
            shown = {"color": look.surface_color}
        else:
            name = heights.array
            if colors is not heights:
                grid.point_data["color"] = colors.values.ravel()
                sheet = _without_hidden_cells(grid) if grid.GetPointGhostArray() is not None else grid
                name = "color"
            shown = {
                "scalars": name,
                "clim": (low, high),
                "cmap": lookup_table(style.colors, low, high),
                "interpolate_before_map": True,
                "nan_color": (0.6, 0.6, 0.6),
            }
        actor = plotter.add_mesh(sheet, show_scalar_bar=False, **shown, **shading)
        actor.prop.interpolation = "Phong"
        width = max(1.0, cell[1] / 620)
        if style.lines:
            lines = pv.wrap(contour_lines(grid, self._levels(grid), line_radius(cell[1])))
            if lines.n_points:
                plotter.add_mesh(lines, color=look.line, lighting=False, show_scalar_bar=False)
        if style.floor:
            self._add_floor(plotter, grid, width)
        if style.minimum:
            marker = pv.wrap(minimum_marker(grid))
            plotter.add_mesh(marker, color=MARK_COLOR, ambient=0.45, diffuse=0.6, specular=0.3, show_scalar_bar=False)
        if style.trajectory and surface.trajectory is not None:
            self._add_trajectory(plotter, grid)
        if style.axes and index == 0:
            for start, end in self._axes().segments:
                plotter.add_lines(np.array([start, end]), color=look.text, width=width)

    def _levels(self, grid: Any) -> list[float]:
        """The same contour levels for all surfaces: evenly spaced in height over the range that they share."""
        low, high = self.ends
        heights = self.heights[0]
        steps = np.linspace(low, high, self.style.lines + 2)[1:-1]
        log = heights.array.startswith("log_")
        return [float(np.exp(step) - heights.options.log_offset) if log else float(step) for step in steps]

    def _add_floor(self, plotter: Any, grid: Any, width: float) -> None:
        pv = quiet_pyvista()
        lines = pv.wrap(contour_lines(grid, self._levels(grid) or default_levels(grid, 12)))
        if not lines.n_points:
            return
        lines.points[:, 2] = self._floor_height()
        plotter.add_mesh(
            lines, scalars=self.heights[0].array, cmap=lookup_table(self.style.colors, *self.ends), clim=self.ends,
            line_width=1.4 * width, lighting=False, show_scalar_bar=False,
        )  # fmt: skip

    def _add_trajectory(self, plotter: Any, grid: Any) -> None:
        pv = quiet_pyvista()
        tube = pv.wrap(drape_trajectory(grid))
        if tube.n_points:
            plotter.add_mesh(tube, color=self.look.line, ambient=0.4, diffuse=0.6, show_scalar_bar=False)
        for place, color in zip(path_ends(grid), (START_COLOR, MARK_COLOR), strict=True):
            if np.isfinite(place).all():
                radius = BALL_RADIUS * self._width()
                ball = pv.Sphere(radius=radius, center=tuple(place), theta_resolution=32, phi_resolution=32)
                plotter.add_mesh(ball, color=color, ambient=0.45, diffuse=0.6, show_scalar_bar=False)

    def _light(self, plotter: Any) -> None:
        look, points, width = self.look, self._points(), self._width()
        low_corner, high_corner = points.min(axis=0), points.max(axis=0)
        middle = np.array([*(low_corner + high_corner)[:2] / 2, low_corner[2]])
        for spec in look.lights:
            plotter.add_light(
                quiet_pyvista().Light(
                    position=tuple(middle + width * np.array(spec.position)),
                    focal_point=tuple(middle),
                    color=spec.color,
                    intensity=spec.intensity,
                    light_type="scene light",
                )
            )
        if look.occlusion_radius and not self.style.overlay:  # occlusion of what shines through looks like dirt
            plotter.enable_ssao(radius=look.occlusion_radius * width, bias=0.005 * width, kernel_size=64, blur=True)
        if self.style.overlay:
            plotter.enable_depth_peeling(8)
        plotter.enable_anti_aliasing("ssaa")

    def _aim(self, plotter: Any, cell: tuple[int, int], degrees: float = 0.0, turning: bool = False) -> None:
        position, aim, up = self._camera(cell, degrees, turning)
        plotter.camera.position, plotter.camera.focal_point, plotter.camera.up = tuple(position), tuple(aim), tuple(up)
        plotter.camera.view_angle = VIEW_ANGLE
        plotter.reset_camera_clipping_range()

    def _camera(
        self, cell: tuple[int, int], degrees: float = 0.0, turning: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points = self._points()
        if self.style.axes:
            points = np.concatenate([points, self._axes().corners])
        if turning:
            return turned(points, self.style.view, cell[0] / cell[1], degrees)
        return camera_for(points, self.style.view, cell[0] / cell[1])

    def _points(self) -> np.ndarray:
        """Enough of what is drawn to fit a camera: around all surfaces, so that one's width is another's."""
        if not hasattr(self, "_kept"):
            drawn = [drawn_points(s, h) for s, h in zip(self.surfaces, self.heights, strict=True)]
            self._kept = camera_points(np.concatenate(drawn))
            if self.style.floor:
                below = self._kept.copy()
                below[:, 2] = self._kept[:, 2].min() - _FLOOR_BELOW * self._width()
                self._kept = np.concatenate([self._kept, below])
        return self._kept

    def _width(self) -> float:
        points = self._kept if hasattr(self, "_kept") else self._points()
        return float(np.ptp(points[:, :2], axis=0).max())

    def _floor_height(self) -> float:
        return float(self._points()[:, 2].min())

    def _axes(self) -> Axes:
        heights = self.heights[0]
        low, high = self.ends
        ticks = [((value - heights.base) * heights.scale, text) for value, text in scale_ticks(heights, low, high)]
        return Axes(self._points(), self.style.view, ticks)

    def _label_axes(self, frame: Frame) -> None:
        """Ticks' texts, where the camera sees their places; drawn by matplotlib, so that they stay legible at any size."""
        axes, camera = self._axes(), self._camera(frame.cell)
        names = {"x": "x", "y": "y", "z": self.heights[0].metric.replace("_", " ")}
        texts = [(place, text, align, 0.78) for place, text, align in axes.labels]
        texts += [(place, names[name], align, 0.95) for name, place, align in axes.titles]
        for number in range(len(self.surfaces) if not self.style.overlay else 1):
            for place, text, align, scale in texts:
                frame.add_text(number, projected(place, camera, frame.cell), text, align, scale)


def lookup_table(color_map: str, low: float, high: float, colors: int = 1024) -> Any:
    """A pyvista lookup table of a map in ``paraloss.look``, made by vtk's own color interpolation."""
    rgb = color_table(color_map, colors)
    table = quiet_pyvista().LookupTable(values=np.c_[rgb * 255, np.full(colors, 255)].round().astype(np.uint8))
    table.scalar_range = (low, high if high > low else low + 1)
    return table


def _without_hidden_cells(grid: Any) -> Any:
    from vtkmodules.vtkFiltersGeometry import vtkGeometryFilter

    outer = vtkGeometryFilter()
    outer.SetInputData(grid)
    outer.Update()
    return quiet_pyvista().wrap(outer.GetOutput())


def drawn_points(surface: Surface, heights: HeightMap) -> np.ndarray:
    """(n, 3) coordinates of the points that are not blank."""
    x, y = np.meshgrid(surface.x, np.asarray(surface.y))
    return np.asarray(np.stack([x, y, heights.heights], axis=-1)[~heights.blank])


def quiet_pyvista() -> Any:
    """pyvista, quiet where it draws without a display; raises MissingPackage."""
    try:
        import pyvista
    except ImportError as error:
        raise MissingPackage("pictures without ParaView need pyvista: pip install 'paraloss[render]'") from error
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        # vtk tries X first and warns before it takes EGL or OSMesa, which is what is wanted here.
        pyvista.vtk_verbosity("off")
    return pyvista
