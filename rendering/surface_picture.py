"""Lit pictures of surfaces with pyvista, off screen: one, or several side by side on one scale.

Lights, material, colours and camera come from ``paraloss.look``, which ParaView's states use as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters import GridOptions, HeightMap, to_structured_grid
from paraloss.converters.colors import color_table
from paraloss.converters.scale import joint_range, scale_ticks, shared_heights
from paraloss.errors import InputError, MissingPackage
from paraloss.look import CAMERAS, COLOR_MAPS, VIEW_ANGLE, Look, camera_for, camera_points
from paraloss.rendering.paraview_backend import paraview_image
from paraloss.surface import Surface


class SurfacePicture:
    """A picture of surfaces that share colour scale, height scale and camera.

    Args:
        surfaces: one or more two-dimensional surfaces, finished or not; what is missing is left blank.
        labels: a title each, may be empty.
        options: how heights are made.
        size: pixels; 1600×900 for one, 1100×800 for each of several.
        view: a name in ``paraloss.look.CAMERAS``.
        color_map: a name in ``paraloss.look.COLOR_MAPS``.
        look: lights, material and background.
        scalar_bar: draw the colour scale.
        backend: ``pyvista`` or ``paraview``: who draws the surfaces; titles and scale are the same.

    Raises:
        InputError: a curve, nothing evaluated yet, an unknown view or colour map.
        MissingPackage: pyvista is not installed.
    """

    def __init__(
        self,
        surfaces: Sequence[Surface],
        labels: Sequence[str],
        options: GridOptions,
        size: tuple[int, int] | None = None,
        view: str = "paper",
        color_map: str = "cool-to-warm",
        look: Look | None = None,
        scalar_bar: bool = True,
        backend: str = "pyvista",
    ) -> None:
        _one_of(backend, ("pyvista", "paraview"), "backend")
        self.backend = backend
        _one_of(view, CAMERAS, "view")
        _one_of(color_map, COLOR_MAPS, "colour map")
        self.look, self.view, self.color_map = look or Look(), view, color_map
        self.heights = shared_heights(surfaces, options)
        self.surfaces, self.labels = surfaces, labels
        self.size = size or ((1600, 900) if len(surfaces) == 1 else (1100 * len(surfaces), 800))
        self.scalar_bar = scalar_bar

    def save(self, path: Path, transparent: bool = False) -> None:
        """Draw into ``path``, a ``.png`` or ``.jpg``."""
        from matplotlib.figure import Figure

        width, height = self.size
        dpi = 100
        text = 0.026 * min(height, 1.6 * width / len(self.surfaces))  # pixels
        top = round(2.4 * text) if any(self.labels) else 0
        right = round(6.5 * text) if self.scalar_bar else 0
        image = self._image(width - right, height - top, transparent)
        figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
        figure.patch.set_facecolor(self.look.background)
        figure.figimage(image, 0, 0)
        for column, label in enumerate(self.labels):
            x = (column + 0.5) / len(self.labels) * (width - right) / width
            # A long title shrinks rather than runs into its neighbour; a letter is about half as wide as high.
            points = min(1.15 * text, (width - right) / len(self.labels) / max(1, 0.55 * len(label))) * 72 / dpi
            figure.text(x, 1 - 0.6 * top / height, label, fontsize=points, color=self.look.text, ha="center", va="center")
        if self.scalar_bar:
            box = ((width - right + 0.6 * text) / width, 0.16, 0.9 * text / width, 0.62)
            self._add_scalar_bar(figure, box, 0.85 * text * 72 / dpi)
        figure.savefig(path, dpi=dpi, transparent=transparent, facecolor="none" if transparent else self.look.background)

    def _image(self, width: int, height: int, transparent: bool) -> np.ndarray:
        """(height, width, 3 or 4) uint8: the surfaces alone."""
        if self.backend == "paraview":
            return paraview_image(
                self.surfaces, self.heights[0].options, (width, height), self.view, self.color_map, transparent
            )
        points = [drawn_points(s, h) for s, h in zip(self.surfaces, self.heights, strict=True)]
        # One camera for all: around the largest, so that one surface's width is another's.
        together = camera_points(np.concatenate(points))
        edges = np.linspace(0, width, len(self.surfaces) + 1).round().astype(int)
        # A plotter each: several renderers of one window would share their lights and add them up.
        return np.concatenate(
            [
                self._one(surface, heights, together, (int(right - left), height), transparent)
                for surface, heights, left, right in zip(self.surfaces, self.heights, edges, edges[1:], strict=False)
            ],
            axis=1,
        )

    def _one(
        self, surface: Surface, heights: HeightMap, points: np.ndarray, size: tuple[int, int], transparent: bool
    ) -> np.ndarray:
        """(height, width, 3 or 4) uint8: one surface, seen by the camera that fits ``points``."""
        pv = _pyvista()
        plotter = pv.Plotter(off_screen=True, window_size=list(size), lighting="none")
        self._add(plotter, pv.wrap(to_structured_grid(surface, heights=heights)), heights, points, size[0] / size[1])
        image = plotter.screenshot(transparent_background=transparent, return_img=True)
        plotter.close()
        return np.asarray(image)

    def _add(self, plotter: Any, mesh: Any, heights: HeightMap, points: np.ndarray, aspect: float) -> None:
        """One surface with lights and camera into the plotter's active part."""
        look = self.look
        low_corner, high_corner = points.min(axis=0), points.max(axis=0)
        width = float((high_corner - low_corner)[:2].max())
        plotter.set_background(look.background)
        low, high = joint_range(self.heights)
        sheet = _without_hidden_cells(mesh) if mesh.GetPointGhostArray() is not None else mesh
        actor = plotter.add_mesh(
            sheet,
            scalars=heights.array,
            clim=(low, high),
            cmap=lookup_table(self.color_map, low, high),
            interpolate_before_map=True,
            show_scalar_bar=False,
            ambient=look.material.ambient,
            diffuse=look.material.diffuse,
            specular=look.material.specular,
            specular_power=look.material.specular_power,
        )
        actor.prop.interpolation = "Phong"
        middle = np.array([*(low_corner + high_corner)[:2] / 2, low_corner[2]])
        for spec in look.lights:
            plotter.add_light(
                _pyvista().Light(
                    position=tuple(middle + width * np.array(spec.position)),
                    focal_point=tuple(middle),
                    color=spec.color,
                    intensity=spec.intensity,
                    light_type="scene light",
                )
            )
        plotter.enable_ssao(radius=look.occlusion_radius * width, bias=0.005 * width, kernel_size=64, blur=True)
        plotter.enable_anti_aliasing("ssaa")
        position, aim, up = camera_for(points, self.view, aspect)
        plotter.camera.position, plotter.camera.focal_point, plotter.camera.up = tuple(position), tuple(aim), tuple(up)
        plotter.camera.view_angle = VIEW_ANGLE
        plotter.reset_camera_clipping_range()

    def _add_scalar_bar(self, figure: Any, box: tuple[float, float, float, float], points: float) -> None:
        """The colour scale in ``box`` (figure units), with round ticks in the metric's own unit."""
        low, high = joint_range(self.heights)
        heights, axes = self.heights[0], figure.add_axes(box)
        colors = lookup_table(self.color_map, low, high).values[:, None, :3]
        axes.imshow(colors, extent=(0, 1, low, high), origin="lower", aspect="auto")
        ticks = scale_ticks(heights, low, high)
        axes.set_xticks([])
        axes.set_yticks([value for value, _ in ticks], [text for _, text in ticks], fontsize=points)
        axes.yaxis.tick_right()
        axes.tick_params(length=points * 0.4, width=points * 0.08, color=self.look.text, labelcolor=self.look.text)
        axes.set_title(heights.metric.replace("_", " "), fontsize=points, color=self.look.text, pad=points, loc="left")
        for spine in axes.spines.values():
            spine.set_linewidth(points * 0.05)


def lookup_table(color_map: str, low: float, high: float, colors: int = 1024) -> Any:
    """A pyvista lookup table of a map in ``paraloss.look``, made by vtk's own colour interpolation."""
    rgb = color_table(color_map, colors)
    table = _pyvista().LookupTable(values=np.c_[rgb * 255, np.full(colors, 255)].round().astype(np.uint8))
    table.scalar_range = (low, high if high > low else low + 1)
    return table


def _without_hidden_cells(grid: Any) -> Any:
    from vtkmodules.vtkFiltersGeometry import vtkGeometryFilter

    outer = vtkGeometryFilter()
    outer.SetInputData(grid)
    outer.Update()
    return _pyvista().wrap(outer.GetOutput())


def drawn_points(surface: Surface, heights: HeightMap) -> np.ndarray:
    """(n, 3) coordinates of the points that are not blank."""
    x, y = np.meshgrid(surface.x, np.asarray(surface.y))
    return np.stack([x, y, heights.heights], axis=-1)[~heights.blank]


def _one_of(name: str, known: Any, told: str) -> None:
    if name not in known:
        raise InputError(f"unknown {told} '{name}'; there are {', '.join(known)}")


def _pyvista() -> Any:
    os.environ.setdefault("PYVISTA_OFF_SCREEN", "true")
    try:
        import pyvista
    except ImportError as error:
        raise MissingPackage("pictures without ParaView need pyvista: pip install 'paraloss[render]'") from error
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        # vtk tries X first and warns before it takes EGL or OSMesa, which is what is wanted here.
        pyvista.vtk_verbosity("off")
    return pyvista
