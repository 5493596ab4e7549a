"""``paraloss render``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

_WATCH_S = 1.0


def render(
    *files: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    metric: str | None = None,
    log: bool | None = None,
    log_offset: float = 0.1,
    zmax: float | None = None,
    zmin: float | None = None,
    height_scale: Annotated[float | None, Parameter(name=["--height-scale"])] = None,
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    size: str | None = None,
    style: Literal["lit", "contour", "filled", "heat", "iso", "fog"] | None = None,
    look: str = "paper",
    view: str = "paper",
    color_map: str | None = None,
    color_by: str | None = None,
    transparent: Annotated[bool, Parameter(negative="")] = False,
    scalar_bar: bool = True,
    contours: int | None = None,
    floor: Annotated[bool, Parameter(negative="")] = False,
    minimum: Annotated[bool, Parameter(negative="")] = False,
    trajectory: bool = True,
    axes: Annotated[bool, Parameter(negative="")] = False,
    overlay: Annotated[bool, Parameter(negative="")] = False,
    difference: Annotated[bool, Parameter(negative="")] = False,
    columns: int | None = None,
    smooth: int = 1,
    movie: Literal["orbit", "morph", "walk"] | None = None,
    frames: int = 120,
    fps: int = 24,
    backend: Literal["auto", "paraview", "pyvista"] = "auto",
    watch: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw surfaces, lit and side by side on one scale; curves become a plot, .mp4 and .gif a movie, .html a page to turn it.

    Example: paraloss render with.h5 without.h5 figure1.png

    Example: paraloss render surface.h5 turn.mp4 --look dark

    Args:
        files: Surface files, then the picture (.png .jpg; curves and contours also .pdf .svg; movies .mp4 .gif;
            .html) unless -o names it.
        output: The picture.
        metric: Metric to draw. Default: train_loss, where it is there.
        log: Height from ln(metric + offset). Default: for losses.
        log_offset: Added before the logarithm.
        zmax: Draw larger values at this one, in the metric's unit.
        zmin: The same from below.
        height_scale: Height a unit; the default makes the height 0.55 of the width.
        label: Title of a surface; repeat it for each. Default: model and accuracy.
        size: WIDTHxHEIGHT in pixels, as in 3840x2160.
        style: lit in 3D, or from above: contour (lines with labels), filled, heat. Default: lit; contour for .pdf and .svg.
            Volumes: iso (shells of equal loss) or fog.
        look: paper, dark, flat (unlit, with contour lines) or clay (one color).
        view: paper, front, corner or top.
        color_map: cool-to-warm, viridis or gray. Default: as the look has it.
        color_by: Metric that gives the color, if not the height's.
        transparent: Leave the background out.
        scalar_bar: Draw the color scale.
        contours: Number of contour lines on the surface.
        floor: Draw contour lines on a floor below, too.
        minimum: Mark the lowest point.
        trajectory: Draw the optimizer's path where the file has one.
        axes: Draw axes with ticks, the vertical one in the metric's own unit.
        overlay: Draw several surfaces in one place, translucent.
        difference: Draw the difference of the two heights, which is the ratio of the losses; with --no-log the first loss
            minus the second, with --metric NAME_difference of another metric.
        columns: Of a grid of several surfaces. Default: a row up to three, else about square.
        smooth: Interpolate this many times finer with bicubic splines, and say so in the picture.
        movie: orbit (once around), morph (the files are steps in time) or walk (the path grows). Default: orbit, or morph for
            several files.
        frames: Of a movie.
        fps: Frames a second.
        backend: Who draws: auto takes ParaView where it is installed, else pyvista, and says which.
        watch: Draw again whenever a file has grown, until all are complete.
    """
    import time
    from dataclasses import replace

    from paraloss.analysis.smoothing import smoothed
    from paraloss.cli.options import parse_size, split_output
    from paraloss.converters import GridOptions, open_surface
    from paraloss.errors import InputError
    from paraloss.progress import say
    from paraloss.rendering import MOVIES, PICTURES, PictureStyle, default_label, make_movie, write_page
    from paraloss.rendering import render as render_picture

    inputs, target = split_output(files, output, (*PICTURES, *MOVIES, ".html"))
    is_movie = target.suffix.lower() in MOVIES
    if movie and not is_movie:
        raise InputError(f"{target}: a movie ends in {' '.join(MOVIES)}")
    if difference and (len(inputs) != 2 or overlay):
        raise InputError("--difference takes two surfaces, the second is subtracted from the first")
    if watch and is_movie:
        raise InputError("--watch draws a picture again and again; a movie is made of what is there")
    options = GridOptions(metric, log, log_offset, zmax, zmin, height_scale)
    chosen = PictureStyle(
        view, look, color_map, color_by, scalar_bar, contours, floor, minimum, trajectory, axes, overlay, columns
    )
    pixels = None if size is None else parse_size(size)
    seen: list[int] = []
    while True:
        times = [path.stat().st_mtime_ns if path.exists() else 0 for path in inputs]
        if times == seen:
            time.sleep(_WATCH_S)
            continue
        seen = times
        opened = [open_surface(path) for path in inputs]
        finished_part = difference or is_movie or smooth != 1 or target.suffix.lower() == ".html"
        surfaces = [smoothed(surface.drawable(), smooth) for surface in opened] if finished_part else opened
        if difference:
            if log is False or metric is not None:
                surfaces, sign = [surfaces[0] - surfaces[1]], " − "
            else:  # on a logarithmic scale the difference of heights is the ratio of losses
                surfaces, sign = [surfaces[0].ratio(surfaces[1], log_offset)], " / "
                options = replace(options, log_offset=0.0)
            label = label or [sign.join(path.stem for path in inputs)]
        if label and len(label) != len(surfaces):
            raise InputError(f"{len(label)} labels for {len(surfaces)} surfaces; give one each")
        if target.suffix.lower() == ".html":
            names = label or [default_label(surface) or path.stem for surface, path in zip(surfaces, inputs, strict=False)]
            write_page(surfaces, target, names, options, look)
        elif is_movie:
            make_movie(
                surfaces,
                target,
                kind=movie or ("orbit" if len(surfaces) == 1 else "morph"),
                labels=label or [default_label(surface) if len(surfaces) == 1 else path.stem
                                 for surface, path in zip(surfaces, inputs, strict=False)],
                options=options,
                style=chosen,
                frames=frames,
                fps=fps,
                size=pixels,
                backend="paraview" if backend == "paraview" else "pyvista",
            )  # fmt: skip
        else:
            render_picture(
                surfaces, target, options=options, labels=label, size=pixels, style=style, transparent=transparent,
                backend=backend, tell=say, picture=chosen,
            )  # fmt: skip
        print(target, flush=True)
        if not watch or all(surface.is_complete for surface in opened):
            return
