"""One door for all pictures: surfaces are lit in 3D, curves are plotted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paraloss.converters import GridOptions
from paraloss.errors import InputError, MissingPackage
from paraloss.rendering.contour import draw_contours
from paraloss.rendering.curve import draw_curves
from paraloss.rendering.paraview_backend import can_draw
from paraloss.rendering.style import PictureStyle
from paraloss.rendering.surface_picture import SurfacePicture
from paraloss.rendering.volume_picture import draw_volume
from paraloss.surface import Surface

PICTURES = (".png", ".jpg", ".pdf", ".svg")


def render(
    surfaces: Sequence[Surface],
    path: str | Path,
    *,
    options: GridOptions | None = None,
    labels: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    transparent: bool = False,
    metric: str | None = None,
    zmax: float | None = None,
    style: str | None = None,
    backend: str = "pyvista",
    tell: Callable[[str], None] = lambda text: None,
    picture: PictureStyle | None = None,
    **fields: Any,
) -> Path:
    """Draw surfaces side by side on one scale, curves in one plot, or a volume.

    Args:
        surfaces: one or more, all two-dimensional or all curves, or one volume; of one that is still being computed the
            finest complete sub-grid is drawn.
        path: ``.png`` or ``.jpg``; curves also ``.pdf`` or ``.svg``.
        options: how heights are made; ``metric`` and ``zmax`` are shorthands for its fields.
        labels: a title for each surface; the default tells model and accuracy.
        size: pixels of the whole picture; 1600×900 for one surface, wider for more.
        transparent: leave the background out (``.png``).
        style: of surfaces: ``lit`` in 3D; ``contour`` (lines with labels), ``filled`` or ``heat`` from above. Default: ``lit``
            for ``.png`` and ``.jpg``, ``contour`` for ``.pdf`` and ``.svg``. Of volumes: ``iso`` or ``fog``.
        backend: ``pyvista``, ``paraview``, or ``auto``: ParaView where it is installed and can draw, else pyvista.
        tell: is told which one drew.
        picture: view, look, colors and what else is drawn.
        fields: the same one by one: ``view``, ``look``, ``color_map``, ``contours`` … of ``paraloss.rendering.PictureStyle``.

    Returns:
        ``path``; the file appears complete or not at all.

    Raises:
        InputError: nothing to draw, surfaces mixed with curves, or an option that does not fit.
    """
    path = Path(path)
    for surface in surfaces:
        if not surface.is_complete:
            shown, done = surface.drawable().shape, int((surface.status != 0).sum())
            grid = "×".join(str(size) for size in reversed(shown))
            tell(f"still being computed: {done} of {surface.status.size} points are there, drawn on a grid of {grid}")
    surfaces = [surface.drawable() for surface in surfaces]
    if not surfaces:
        raise InputError("no surface to draw")
    if options is None:
        options = GridOptions(metric=metric, zmax=zmax)
    chosen_style = replace(picture or PictureStyle(), **fields)
    curves = [surface.y is None for surface in surfaces]
    if len({len(surface.axes) for surface in surfaces}) > 1:
        raise InputError("surfaces (2D), curves (1D) and volumes (3D) cannot share a picture; render them apart")
    volume = surfaces[0].z is not None
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"{path}: pictures end in {' '.join(PICTURES)}")
    drawn_lit = path.suffix.lower() in (".png", ".jpg")
    style = style or ("iso" if volume else "lit" if drawn_lit else "contour")
    if volume and (len(surfaces) > 1 or not drawn_lit):
        raise InputError(f"{path}: one volume at a time is drawn, as .png or .jpg")
    if style in ("lit", "iso", "fog") and not drawn_lit and not all(curves):
        raise InputError(f"{path}: lit surfaces are drawn as .png or .jpg; contours also as .pdf or .svg")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    labels = list(labels) if labels else [default_label(surface) for surface in surfaces]
    if len(labels) != len(surfaces):
        raise InputError(f"{len(labels)} labels for {len(surfaces)} surfaces; give one each")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        if volume:
            draw_volume(surfaces[0], temporary, labels[0], options, style, chosen_style, transparent, size)
        elif all(curves):
            draw_curves(surfaces, temporary, labels, options, transparent=transparent, size=size)
        elif style != "lit":
            shape = chosen_style.shape(len(surfaces)) if chosen_style.columns else None
            draw_contours(surfaces, temporary, labels, options, style, chosen_style.colors, transparent, size, shape)
        else:
            chosen = backend
            if backend == "auto":
                simple = not chosen_style.beyond_paraview and chosen_style.shape(len(surfaces))[0] == 1
                chosen = "paraview" if simple and can_draw() else "pyvista"

            def draw(by: str) -> None:
                SurfacePicture(surfaces, labels, options, size, chosen_style, by).save(temporary, transparent=transparent)

            try:
                draw(chosen)
            except MissingPackage as error:
                if backend != "auto" or chosen == "pyvista":
                    raise
                tell(f"{error}; drawing with pyvista instead")
                chosen = "pyvista"
                draw(chosen)
            tell(f"drawn by {chosen}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def default_label(surface: Surface) -> str:
    """What the file says of the model: its name, and accuracy on test (or train) data where it is known."""
    facts = surface.provenance
    parts = [str(facts["model"])] if facts.get("model") else []
    accuracy = known_accuracy(surface)
    if accuracy:
        parts.append(accuracy)
    return ", ".join(parts)


def known_accuracy(surface: Surface) -> str:
    """``test accuracy 98.6 %`` from the training's record, else from the surface's center; empty when unknown."""
    trained: dict[str, Any] = surface.provenance.get("trained") or {}
    for split in ("test", "train"):
        name = f"{split}_acc"
        if name in trained:
            return f"{split} accuracy {trained[name]:.1f} %"
        inside = surface.x[0] <= 0 <= surface.x[-1]
        if name in surface.metrics and inside:
            center = surface.at(0.0, 0.0)[name]
            if center == center:
                return f"{split} accuracy {center:.1f} %"
    return ""
