"""``paraloss render``"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from paraloss.cli.groups import Heights, Movie, Picture
from paraloss.picture_options import GridOptions, MovieOptions, PictureOptions
from paraloss.print_size import PrintSize, print_size

if TYPE_CHECKING:
    from paraloss.surface import Surface

_WATCH_S = 1.0


def render(
    *files: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    heights: Heights = GridOptions(),
    picture: Picture = PictureOptions(),
    movie: Movie = MovieOptions(),
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    size: str | None = None,
    width: str | None = None,
    for_: Annotated[Literal["icml", "neurips", "ieee", "slides", "poster"] | None, Parameter(name="--for")] = None,
    difference: Annotated[bool, Parameter(negative="")] = False,
    smooth: int = 1,
    backend: Literal["auto", "paraview", "pyvista"] = "auto",
    watch: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw surfaces, lit and side by side on one scale; curves become a plot, .mp4 and .gif a movie, .html a page to turn it.

    Example: paraloss render with.h5 without.h5 figure1.png

    Example: paraloss render surface.h5 turn.mp4 --look dark

    Args:
        files: Surface files, then the picture (.png .jpg; curves and contours also .pdf .svg; movies .mp4 .gif;
            .html) unless -o names it.
        output: The picture.
        label: Title of a surface; repeat it for each. Default: model and accuracy; of several with one model what differs.
        size: WIDTHxHEIGHT in pixels, as in 3840x2160; a0 to a4: a sheet, at 300 dots per inch.
        width: Width in print instead of --size, as in 3.3in or 84mm: letters have 8 points there, none less than 7; prints
            the line for LaTeX.
        for_: Width and letters for icml (one column, 3.25in), neurips (5.5in), ieee (one column, 3.5in), slides (10in) or
            poster (16in).
        difference: Draw the difference of the two heights, which is the ratio of the losses; with --no-log the first loss
            minus the second, with --metric NAME_difference of another metric.
        smooth: Interpolate this many times finer with bicubic splines; a note in the picture says so.
        backend: Program that draws lit surfaces: auto takes ParaView if it is installed, else pyvista, and reports which.
        watch: Draw again whenever a file has grown, until all are complete.
        overwrite: Replace a file that this command did not make.
    """
    import time

    from paraloss.cli.options import parse_size, split_output
    from paraloss.converters import open_surface
    from paraloss.errors import InputError
    from paraloss.files import check_output
    from paraloss.rendering import MOVIES, PICTURES

    inputs, target = split_output(files, output, (*PICTURES, *MOVIES, ".html"))
    is_movie = target.suffix.lower() in MOVIES
    purpose = "movie" if is_movie else "page" if target.suffix.lower() == ".html" else "picture"
    check_output(target, purpose, inputs, overwrite)
    if movie.movie and not is_movie:
        raise InputError(f"{target}: a movie ends in {' '.join(MOVIES)}")
    if difference and (len(inputs) != 2 or picture.overlay):
        raise InputError("--difference takes two surfaces, the second is subtracted from the first")
    if watch and is_movie:
        raise InputError("--watch draws a picture again and again; a movie is made of what is there")
    if (width or for_) and (purpose != "picture" or size or (width and for_)):
        raise InputError("give one of --width, --for and --size, the first two for pictures only")
    pixels = None if size is None else parse_size(size)
    printed = print_size(width or for_)
    seen: list[int] = []
    while True:
        times = [path.stat().st_mtime_ns if path.exists() else 0 for path in inputs]
        if times == seen:
            time.sleep(_WATCH_S)
            continue
        seen = times
        opened = [open_surface(path) for path in inputs]
        surfaces, options, labels = _prepared(opened, inputs, target, heights, label, smooth, difference)
        _draw(surfaces, target, options, picture, movie, labels, printed or pixels, backend, inputs)
        print(target, flush=True)
        if not watch or all(surface.is_complete for surface in opened):
            return


def _prepared(
    opened: list[Surface],
    inputs: list[Path],
    target: Path,
    heights: GridOptions,
    labels: list[str] | None,
    smooth: int,
    difference: bool,
) -> tuple[list[Surface], GridOptions, list[str] | None]:
    """The surfaces to draw: cut to what is finished, smoothed, subtracted, as asked for; with their options and labels."""
    from paraloss.analysis.smoothing import smoothed
    from paraloss.errors import InputError
    from paraloss.rendering import MOVIES

    surfaces = opened
    if difference or smooth != 1 or target.suffix.lower() in (*MOVIES, ".html"):
        surfaces = [
            smoothed(surface.drawable(), smooth, metric=heights.metric, log=heights.log, offset=heights.log_offset)
            for surface in opened
        ]
    if difference:
        if heights.log is False or heights.metric is not None:
            surfaces, sign = [surfaces[0] - surfaces[1]], " − "
        else:  # on a logarithmic scale the difference of heights is the ratio of losses
            surfaces, sign = [surfaces[0].ratio(surfaces[1], heights.log_offset)], " / "
            heights = replace(heights, log_offset=0.0)
        labels = labels or [sign.join(path.stem for path in inputs)]
    if labels and len(labels) != len(surfaces):
        raise InputError(f"{len(labels)} labels for {len(surfaces)} surfaces; give one each")
    return surfaces, heights, labels


def _draw(
    surfaces: list[Surface],
    target: Path,
    heights: GridOptions,
    picture: PictureOptions,
    movie: MovieOptions,
    labels: list[str] | None,
    size: tuple[int, int] | PrintSize | None,
    backend: str,
    inputs: list[Path],
) -> None:
    """Draw what the ending of ``target`` names: a page, a movie or a picture."""
    from paraloss.log import logger
    from paraloss.rendering import MOVIES, default_label, default_labels, make_movie, write_page
    from paraloss.rendering import render as render_picture

    names = [path.stem for path in inputs]
    if target.suffix.lower() == ".html":
        known = [default_label(surface) or name for surface, name in zip(surfaces, names, strict=False)]
        write_page(surfaces, target, labels or known, heights, picture)
    elif target.suffix.lower() in MOVIES:
        kind = movie.movie or ("orbit" if len(surfaces) == 1 else "morph")
        known = [default_label(surfaces[0])] if len(surfaces) == 1 else names
        make_movie(
            surfaces, target, kind=kind, labels=labels or known, options=heights, picture=picture, frames=movie.frames,
            fps=movie.fps, size=None if isinstance(size, PrintSize) else size,
            backend="paraview" if backend == "paraview" else "pyvista",
        )  # fmt: skip
    else:
        if labels is None and len(names) == len(surfaces):
            labels = default_labels(surfaces, names)
        how: dict[str, Any] = {"width": size} if isinstance(size, PrintSize) else {"size": size}
        render_picture(surfaces, target, options=heights, picture=picture, labels=labels, backend=backend, **how)
        if isinstance(size, PrintSize):
            logger.info(size.latex(target.name))
