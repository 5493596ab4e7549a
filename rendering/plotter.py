"""What a composition means to pyvista: its surfaces, lines, marks, lights and camera, put into a plotter."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from paraloss.camera import PlacedCamera
from paraloss.converters import to_structured_grid
from paraloss.converters.colors import color_table
from paraloss.converters.composition import Composition
from paraloss.converters.geometry import contour_lines
from paraloss.converters.paths import drape_trajectory
from paraloss.converters.polygons import visible_polygons
from paraloss.errors import InputError, MissingPackage
from paraloss.height import to_log
from paraloss.look import LINE_INK, SHINE, Color, Look
from paraloss.surface import Surface

_FINER, _LARGEST = 4, 16_384  # times that vtk's supersampling enlarges each side; pixels of a side that OpenGL can draw
_BALL = {"ambient": 0.45, "diffuse": 0.6}
_WHOLE_DEPTH = 66_000.0  # the distance from the farthest to the nearest place that is drawn, in units of the depth buffer


def add_panel(plotter: Any, composition: Composition, index: int, surface: Surface) -> Any:
    """Add surface number ``index`` with its lines and marks; returns its grid."""
    look, panel, pv = composition.look, composition.panels[index], quiet_pyvista()
    grid = pv.wrap(to_structured_grid(surface, panel.options))
    add_sheet(plotter, composition, index, grid)
    add_contours(plotter, composition, grid, panel.line)
    line_width = max(1.0, composition.layout.cell[1] / 620)
    if not _is_supersampled(composition.layout.cell):  # which makes lines as much thinner
        line_width = max(1.0, line_width / _FINER)
    if composition.floor_levels:
        _add_floor(plotter, composition, grid, line_width)
    for path in panel.paths:
        tube = pv.wrap(drape_trajectory(grid, number=path.number))
        if tube.n_points:
            _add_mark(plotter, tube, path.color, ambient=0.4, diffuse=0.6)
    for ball in panel.balls:
        sphere = pv.Sphere(radius=ball.radius, center=ball.center, theta_resolution=32, phi_resolution=32)
        _add_mark(plotter, sphere, ball.color, specular=0.3, **_BALL)
    if composition.axes is not None and index == 0:
        for start, end in composition.axes.segments:
            plotter.add_lines(np.array([start, end]), color=look.text, width=line_width)
    return grid


def _add_mark(plotter: Any, mesh: Any, color: Color, **material: float) -> None:
    """Add a mark or a path, and a pale one in front of everything, which is seen where the surface hides the mark."""
    plotter.add_mesh(mesh, color=color, show_scalar_bar=False, **material)
    shining = plotter.add_mesh(mesh, color=color, opacity=SHINE, show_scalar_bar=False, **material)
    shining.mapper.SetResolveCoincidentTopologyToPolygonOffset()
    shining.mapper.SetRelativeCoincidentTopologyPolygonOffsetParameters(0.0, -_WHOLE_DEPTH)


def add_sheet(plotter: Any, composition: Composition, index: int, grid: Any, **extra: Any) -> None:
    """Add the surface itself, in its own color or in those of the scale."""
    material, scale, color, pv = composition.look.material, composition.scale, composition.panels[index].color, quiet_pyvista()
    if color is not None:
        shown: dict[str, Any] = {"color": color}
        shown["opacity"] = composition.panels[index].opacity
    else:
        assert scale is not None
        shown = {
            "scalars": scale.array,
            "clim": (scale.low, scale.high),
            "cmap": lookup_table(scale.color_map, scale.low, scale.high),
            "interpolate_before_map": True,
            "nan_color": (0.6, 0.6, 0.6),
        }
    whole = grid.GetPointGhostArray() is None and composition.panels[index].options.zmax is None
    sheet = grid if whole else pv.wrap(visible_polygons(grid))
    actor = plotter.add_mesh(
        sheet, show_scalar_bar=False, ambient=material.ambient, diffuse=material.diffuse, specular=material.specular,
        specular_power=material.specular_power, **shown, **extra,
    )  # fmt: skip
    actor.prop.interpolation = "Phong"


def add_contours(plotter: Any, composition: Composition, grid: Any, color: Color | None = None, **extra: Any) -> bool:
    """Add the composition's contour lines, in the look's color by default; whether there are any."""
    if not composition.levels:
        return False
    lines = quiet_pyvista().wrap(contour_lines(grid, list(composition.levels), composition.line_radius))
    if not lines.n_points:
        return False
    plotter.add_mesh(lines, color=color or composition.look.line, lighting=False, show_scalar_bar=False, **extra)
    return True


def add_lights(plotter: Any, composition: Composition) -> None:
    """Add the composition's lights."""
    for light in composition.lights:
        plotter.add_light(
            quiet_pyvista().Light(
                position=light.position,
                focal_point=light.focal_point,
                color=light.color,
                intensity=light.intensity,
                light_type="scene light",
            )
        )


def add_effects(plotter: Any, composition: Composition) -> None:
    """Add ambient occlusion, translucency and smooth edges."""
    radius, width = composition.look.occlusion_radius, composition.width
    if radius and not composition.picture.overlay:  # occlusion of translucent surfaces looks like dirt
        plotter.enable_ssao(radius=radius * width, bias=0.005 * width, kernel_size=64, blur=True)
    if composition.picture.overlay:
        plotter.enable_depth_peeling(8)
    smooth_edges(plotter)


def smooth_edges(plotter: Any) -> None:
    """Draw at four times the size, where OpenGL can: the steps of larger pictures are too fine to see in print."""
    if _is_supersampled(plotter.window_size):
        plotter.enable_anti_aliasing("ssaa")


def _is_supersampled(size: Sequence[int]) -> bool:
    return _FINER * max(size) <= _LARGEST


def photograph(plotter: Any, transparent: bool = False) -> np.ndarray:
    """What a plotter draws: (height, width, 3 or 4) uint8.

    Raises:
        InputError: the picture is too large for this machine's OpenGL, which draws nothing then.
    """
    picture = np.asarray(plotter.screenshot(transparent_background=transparent, return_img=True))
    if not picture.any():
        width, height = plotter.window_size
        raise InputError(f"{width} x {height} pixels are more than this machine can draw; choose a smaller {{size}}", ("size",))
    return picture


def aim(plotter: Any, camera: PlacedCamera) -> None:
    """Put the plotter's camera where ``camera`` is."""
    plotter.camera.position, plotter.camera.focal_point, plotter.camera.up = camera.position, camera.aim, camera.up
    plotter.camera.view_angle = camera.view_angle
    plotter.reset_camera_clipping_range()


def lookup_table(color_map: str, low: float, high: float, colors: int = 1024, ink: float = 1.0) -> Any:
    """A pyvista lookup table of a map in ``paraloss.look``, made by vtk's own color interpolation, ``ink`` times as bright."""
    rgb = color_table(color_map, colors) * ink
    table = quiet_pyvista().LookupTable(values=np.c_[rgb * 255, np.full(colors, 255)].round().astype(np.uint8))
    table.scalar_range = (low, high if high > low else low + 1)
    return table


def _ink(look: Look) -> float:
    """The part of a map's brightness that lines of its colors have: on a bright background the pale ones would vanish."""
    return LINE_INK if sum(look.background) > 1.5 else 1.0


def quiet_pyvista() -> Any:
    """The module pyvista, without warnings on a machine without a display.

    Raises:
        MissingPackage: pyvista is not installed.
    """
    try:
        import pyvista
    except ImportError as error:
        raise MissingPackage("pictures without ParaView need pyvista: pip install 'paraloss[render]'") from error
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        # vtk tries X first and warns before it takes EGL or OSMesa, which is what is wanted here.
        pyvista.vtk_verbosity("off")
    return pyvista


def _add_floor(plotter: Any, composition: Composition, grid: Any, line_width: float) -> None:
    lines = quiet_pyvista().wrap(contour_lines(grid, list(composition.floor_levels)))
    if not lines.n_points:
        return
    lines.points[:, 2] = composition.floor
    low, high = composition.ends
    options, levels = composition.panels[0].options, lines.point_data["level"]
    lines.point_data["drawn"] = to_log(levels, options.log_offset) if options.log else levels
    plotter.add_mesh(
        lines, scalars="drawn", cmap=lookup_table(composition.picture.colors, low, high, ink=_ink(composition.look)),
        clim=(low, high), line_width=2.2 * line_width, lighting=False, show_scalar_bar=False,
    )  # fmt: skip
