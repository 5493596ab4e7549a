"""One function for all pictures: surfaces lit in 3D or from above, curves in a plot, a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paraloss.converters.composition import Composition, compose
from paraloss.converters.finer import drawn_finer
from paraloss.converters.layout import Layout, framed, usual_size
from paraloss.converters.li2018 import open_surface
from paraloss.errors import InputError, MissingPackage
from paraloss.files import check_output, replacing
from paraloss.log import logger
from paraloss.picture_options import (
    DRAWN_FROM_ABOVE,
    FROM_ABOVE,
    LIT,
    OF_VOLUMES,
    GridOptions,
    PictureOptions,
    combined,
)
from paraloss.print_size import PrintSize, print_size
from paraloss.rendering.contour import draw_contours
from paraloss.rendering.curve import draw_curves
from paraloss.rendering.labels import default_labels
from paraloss.rendering.paraview_backend import can_draw
from paraloss.rendering.surface_picture import SurfacePicture, beyond_paraview
from paraloss.rendering.volume_picture import draw_volume
from paraloss.surface import Surface

PICTURES = (".png", ".jpg", ".pdf", ".svg")
_OF_PIXELS = (".png", ".jpg")

Size = tuple[int, int]


def render(
    surfaces: Surface | str | Path | Sequence[Surface | str | Path],
    path: str | Path,
    *,
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    labels: Sequence[str] | None = None,
    size: Size | None = None,
    width: str | PrintSize | None = None,
    backend: str = "pyvista",
    **chosen: Any,
) -> Path:
    """Draw surfaces side by side on one scale, curves in one plot, or a volume.

    Args:
        surfaces: one or more surfaces or paths of their files, all two-dimensional or all curves, or one volume; of a surface
            that is still being computed the finest complete sub-grid is drawn.
        path: ``.png`` or ``.jpg``; curves and pictures from above also ``.pdf`` or ``.svg``.
        options: options of heights.
        picture: options of the picture.
        labels: one title per surface. Default: see ``paraloss.rendering.labels.default_labels``.
        size: pixels of the whole picture. Default: 1600×900 for one surface, more for several.
        width: width in print instead of ``size``, as in ``"3.3in"``, ``"84mm"``, or icml, neurips, ieee, slides or poster:
            letters have 8 points there (16 on slides, 28 on posters), the smallest one less; pictures have 300 dots per inch.
        backend: ``pyvista``, ``paraview``, or ``auto``: ParaView if it is installed and can draw this, else pyvista.
        chosen: single fields of ``GridOptions`` and ``PictureOptions``, as in ``zmax=10, look="dark"``; they replace those
            of ``options`` and ``picture``.

    Returns:
        ``path``; the file appears complete or not at all.

    Raises:
        InputError: nothing to draw, surfaces mixed with curves, or an option that does not fit.
    """
    path = Path(path)
    options, picture = combined(options, picture, chosen, "render")
    printed = print_size(width)
    opened, names = _opened(surfaces)
    if not opened:
        raise InputError("no surface to draw")
    if printed is not None and (size is not None or opened[0].z is not None):
        raise InputError("{width} is for curves and surfaces, and instead of {size}", arguments=("width", "size"))
    picture = _with_style(path, opened, picture)
    opened = [shown_part(surface) for surface in opened]
    labels = list(labels) if labels else default_labels(opened, names)
    if len(labels) != len(opened):
        raise InputError(f"{len(labels)} labels for {len(opened)} surfaces; give one each")
    with replacing(path) as temporary:
        if opened[0].z is not None:
            draw_volume(opened[0], temporary, labels[0], options, picture, size)
        elif opened[0].y is None:
            draw_curves(opened, temporary, labels, options, transparent=picture.transparent, size=size, printed=printed)
        else:
            layout = _layout(size, printed, picture, labels)
            opened = drawn_finer(opened, options, picture)
            composition = compose(opened, options, picture, labels, layout)
            if picture.from_above:
                draw_contours(opened, temporary, composition, size, printed)
            else:
                _draw_lit(opened, temporary, composition, backend, printed)
    return path


def _opened(given: Surface | str | Path | Sequence[Surface | str | Path]) -> tuple[list[Surface], list[str]]:
    """The surfaces, those read that are paths, and the names of the files if all are."""
    several = [given] if isinstance(given, Surface | str | Path) else list(given)
    names = [Path(one).stem for one in several if not isinstance(one, Surface)]
    surfaces = [one if isinstance(one, Surface) else open_surface(one) for one in several]
    return surfaces, names if len(names) == len(several) else []


def _layout(size: Size | None, printed: PrintSize | None, picture: PictureOptions, labels: Sequence[str]) -> Layout:
    usual = usual_size(picture, len(labels))
    if printed is None:
        return framed(size or usual, picture, labels)
    dots = printed.dpi / 72
    return framed(printed.pixels(*usual), picture, labels, printed.text * dots, printed.smallest * dots)


def _with_style(path: Path, surfaces: Sequence[Surface], picture: PictureOptions) -> PictureOptions:
    """The options with the style that suits the surfaces and the file's ending.

    Raises:
        InputError: surfaces, style, ending or folder do not go together.
    """
    if len({len(surface.axes) for surface in surfaces}) > 1:
        raise InputError("surfaces (2D), curves (1D) and volumes (3D) cannot share a picture; render them apart")
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"{path}: pictures end in {' '.join(PICTURES)}")
    curve, volume, pixels = surfaces[0].y is None, surfaces[0].z is not None, path.suffix.lower() in _OF_PIXELS
    style = picture.style or (OF_VOLUMES[0] if volume else LIT if pixels or curve else FROM_ABOVE[0])
    if volume and (len(surfaces) > 1 or not pixels):
        raise InputError(f"{path}: one volume at a time is drawn, as .png or .jpg")
    if style not in FROM_ABOVE and not pixels and not curve:
        raise InputError(f"{path}: lit surfaces are drawn as .png or .jpg; contours also as .pdf or .svg")
    if not volume and style in OF_VOLUMES:
        raise InputError(f"unknown style '{style}' of a surface; there are {', '.join((LIT, *FROM_ABOVE))}")
    check_output(path)
    picture = replace(picture, style=style)
    asked = picture.beyond(*DRAWN_FROM_ABOVE) if picture.from_above else []
    if asked:
        raise InputError(f"{', '.join(asked)}: drawn on lit surfaces only, not with style {style}")
    return picture


def shown_part(surface: Surface) -> Surface:
    """The part of a surface that is drawn; logs what an unfinished one lacks."""
    shown = surface.drawable()
    if not surface.is_complete:
        done, grid = int((surface.status != 0).sum()), "×".join(str(size) for size in reversed(shown.shape))
        logger.info(f"still being computed: {done} of {surface.status.size} points are there, drawn on a grid of {grid}")
    return shown


def _draw_lit(
    surfaces: Sequence[Surface], path: Path, composition: Composition, backend: str, printed: PrintSize | None
) -> None:
    """Draw by ``backend``; with ``auto`` by pyvista where ParaView is missing or fails."""
    if backend == "auto":
        backend = "pyvista"
        if not beyond_paraview(composition) and can_draw():
            try:
                SurfacePicture(surfaces, composition, "paraview").save(path, printed)
                logger.info("drawn by paraview")
                return
            except MissingPackage as error:
                logger.info(f"{error}; drawing with pyvista instead")
    SurfacePicture(surfaces, composition, backend).save(path, printed)
    logger.info(f"drawn by {backend}")
