"""Volumes (three directions) with pyvista: iso-surfaces of the loss one inside the other, or a fog of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters import to_image
from paraloss.converters.colors import color_table
from paraloss.converters.layout import framed
from paraloss.converters.volume_composition import VolumeComposition, compose_volume
from paraloss.errors import InputError
from paraloss.picture_options import OF_VOLUMES, GridOptions, PictureOptions
from paraloss.rendering.frame import Paper
from paraloss.rendering.plotter import aim, lookup_table, photograph, quiet_pyvista, smooth_edges
from paraloss.surface import Surface

_SIZE = (1400, 1000)


def draw_volume(
    volume: Surface,
    path: Path,
    label: str,
    options: GridOptions,
    picture: PictureOptions,
    size: tuple[int, int] | None = None,
) -> None:
    """Draw a volume into a ``.png`` or ``.jpg``.

    Args:
        volume: a surface with z.
        path: the picture.
        label: its title, may be empty.
        options: metric, logarithm and offset.
        picture: style ``iso`` draws shells of equal loss, evenly spaced on the drawn scale, cut open towards the viewer;
            ``fog`` is volume rendering. ``contours`` is the number of shells.
        size: pixels. Default: 1400×1000.

    Raises:
        InputError: a style of surfaces, or no finite value.
    """
    style = picture.style
    if style not in OF_VOLUMES:
        raise InputError(f"unknown style '{style}' of a volume; there are {', '.join(OF_VOLUMES)}")
    pv = quiet_pyvista()
    image = pv.wrap(to_image(volume, options))
    composition = compose_volume(image, picture, framed(size or _SIZE, picture, [label]))
    scale, look, cell = composition.scale, picture.preset, composition.layout.cell
    values = np.asarray(image.point_data[scale.array], float)
    image.point_data[scale.array] = np.nan_to_num(values, nan=scale.high, posinf=scale.high, neginf=scale.low)
    plotter = pv.Plotter(off_screen=True, window_size=list(cell), lighting="light kit")
    plotter.set_background(look.background)
    if style == "iso":
        _add_shells(plotter, image, composition)
    else:
        _add_fog(plotter, image, composition)
    plotter.add_mesh(image.outline(), color=look.text, line_width=max(1.0, cell[1] / 700), lighting=False)
    aim(plotter, composition.camera)
    if style == "iso":  # the volume mapper draws nothing under supersampling
        smooth_edges(plotter)
    paper = Paper(composition.layout, [label], look, picture.transparent)
    paper.fill([photograph(plotter, picture.transparent)])
    plotter.close()
    if picture.scalar_bar:
        paper.add_bar(scale)
    paper.save(path)


def _add_shells(plotter: Any, image: Any, composition: VolumeComposition) -> None:
    """Add the shells with the quarter that faces the viewer cut away, so that all show."""
    scale, towards, center = composition.scale, composition.towards, np.array(image.center)
    shells = image.contour(list(composition.shells), scalars=scale.array, compute_normals=True)
    if not shells.n_points:
        return
    normal = (-np.sign(towards[0] or 1), 0, 0)
    rest = shells.clip(normal=normal, origin=center, invert=True)
    behind = rest.clip(normal=(0, -np.sign(towards[1] or -1), 0), origin=center, invert=False)
    for part in (shells.clip(normal=normal, origin=center, invert=False), behind):
        if part.n_points:
            actor = plotter.add_mesh(
                part, scalars=scale.array, cmap=lookup_table(scale.color_map, scale.low, scale.high),
                clim=(scale.low, scale.high), show_scalar_bar=False, specular=0.2, ambient=0.15,
            )  # fmt: skip
            actor.prop.interpolation = "Phong"


def _add_fog(plotter: Any, image: Any, composition: VolumeComposition) -> None:
    """Add the volume as a fog: dense at low losses, which are of interest, thin at high ones."""
    from matplotlib.colors import ListedColormap

    scale = composition.scale
    plotter.add_volume(
        image, scalars=scale.array, cmap=ListedColormap(color_table(scale.color_map, 256)), clim=(scale.low, scale.high),
        opacity=255 * 0.35 * np.linspace(1, 0, 256) ** 2.5, show_scalar_bar=False, shade=False,
    )  # fmt: skip
