"""Volumes (three directions) with pyvista: iso-surfaces of the loss one inside the other, or a fog of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters import GridOptions, to_image
from paraloss.converters.scale import ticks_between
from paraloss.errors import InputError
from paraloss.look import VIEW_ANGLE, camera_for
from paraloss.rendering.frame import Frame
from paraloss.rendering.style import PictureStyle
from paraloss.surface import Surface

STYLES = ("iso", "fog")
_SHELLS = 6


def draw_volume(
    volume: Surface,
    path: Path,
    label: str,
    options: GridOptions,
    kind: str,
    style: PictureStyle,
    transparent: bool = False,
    size: tuple[int, int] | None = None,
) -> None:
    """Draw a volume into a ``.png`` or ``.jpg``.

    Args:
        volume: a surface with z.
        path: the picture.
        label: its title, may be empty.
        options: metric, logarithm and offset.
        kind: ``iso``: shells of equal loss, evenly spaced in its logarithm, cut open towards the viewer; ``fog``: volume
            rendering.
        style: view, look and color map; ``contours`` is the number of shells.
        transparent: no background.
        size: pixels; 1400×1000 by default.

    Raises:
        InputError: unknown kind, or no finite value.
    """
    from paraloss.rendering.surface_picture import lookup_table, quiet_pyvista

    if kind not in STYLES:
        raise InputError(f"unknown style '{kind}' of a volume; there are {', '.join(STYLES)}")
    pv = quiet_pyvista()
    image = pv.wrap(to_image(volume, options))
    name = image.GetPointData().GetScalars().GetName()
    values = np.asarray(image.point_data[name], float)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise InputError("no point of the volume has a finite value")
    low, high = float(finite.min()), float(finite.max())
    image.point_data[name] = np.nan_to_num(values, nan=high, posinf=high, neginf=low)
    width, height = size or (1400, 1000)
    frame = Frame((width, height), 1, 1, [label], 0.026 * height, style.preset, transparent, style.scalar_bar)
    plotter = pv.Plotter(off_screen=True, window_size=list(frame.cell), lighting="light kit")
    plotter.set_background(style.preset.background)
    if kind == "iso":
        levels = np.linspace(low, high, (style.contours or _SHELLS) + 2)[1:-1]
        _add_shells(plotter, image, name, levels, style, lookup_table(style.colors, low, high))
    else:
        # Low losses are what one looks for: they are dense, high ones thin.
        opacity = 255 * 0.35 * np.linspace(1, 0, 256) ** 2.5
        plotter.add_volume(
            image, scalars=name, cmap=_matplotlib_map(style.colors), clim=(low, high), opacity=opacity, show_scalar_bar=False,
            shade=False,
        )  # fmt: skip
    plotter.add_mesh(image.outline(), color=style.preset.text, line_width=max(1.0, height / 700), lighting=False)
    corners = np.array(list(itertools.product(image.bounds[:2], image.bounds[2:4], image.bounds[4:])))
    position, aim, up = camera_for(corners, style.view, frame.cell[0] / frame.cell[1])
    plotter.camera.position, plotter.camera.focal_point, plotter.camera.up = tuple(position), tuple(aim), tuple(up)
    plotter.camera.view_angle = VIEW_ANGLE
    plotter.reset_camera_clipping_range()
    if kind == "iso":  # the volume mapper draws nothing under supersampling
        plotter.enable_anti_aliasing("ssaa")
    frame.fill([np.asarray(plotter.screenshot(transparent_background=transparent, return_img=True))])
    plotter.close()
    if style.scalar_bar:
        log = name.startswith("log_")
        frame.add_bar(style.colors, ticks_between(low, high, log, options.log_offset), low, high, name.removeprefix("log_"))
    frame.save(path)


def _add_shells(plotter: Any, image: Any, name: str, levels: np.ndarray, style: PictureStyle, table: Any) -> None:
    """Shells with the quarter that faces the viewer cut away, so that all show."""
    from paraloss.look import CAMERAS

    towards = np.array(CAMERAS[style.view].position)
    center = np.array(image.center)
    shells = image.contour(levels.tolist(), scalars=name, compute_normals=True)
    if not shells.n_points:
        return
    away_x = shells.clip(normal=(-np.sign(towards[0] or 1), 0, 0), origin=center, invert=False)
    rest = shells.clip(normal=(-np.sign(towards[0] or 1), 0, 0), origin=center, invert=True)
    behind = rest.clip(normal=(0, -np.sign(towards[1] or -1), 0), origin=center, invert=False)
    for part in (away_x, behind):
        if part.n_points:
            actor = plotter.add_mesh(
                part, scalars=name, cmap=table, clim=table.scalar_range, show_scalar_bar=False,
                specular=0.2, ambient=0.15,
            )  # fmt: skip
            actor.prop.interpolation = "Phong"


def _matplotlib_map(name: str) -> Any:
    from matplotlib.colors import ListedColormap

    from paraloss.converters.colors import color_table

    return ListedColormap(color_table(name, 256))
