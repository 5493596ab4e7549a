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
    style: Literal["lit", "contour", "filled", "heat"] | None = None,
    view: str = "paper",
    color_map: str = "cool-to-warm",
    transparent: Annotated[bool, Parameter(negative="")] = False,
    scalar_bar: bool = True,
    backend: Literal["auto", "paraview", "pyvista"] = "auto",
    watch: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw surfaces, lit and side by side on one scale; curves become a plot.

    Example: paraloss render with.h5 without.h5 figure1.png

    Args:
        files: Surface files, then the picture (.png .jpg; curves and contours also .pdf .svg) unless -o names it.
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
        view: paper, front, corner or top.
        color_map: cool-to-warm, viridis or grey.
        transparent: Leave the background out.
        scalar_bar: Draw the colour scale.
        backend: Who draws: auto takes ParaView where it is installed, else pyvista, and says which.
        watch: Draw again whenever a file has grown, until all are complete.
    """
    import time

    from paraloss.cli.options import parse_size, split_output
    from paraloss.converters import GridOptions, open_surface
    from paraloss.progress import say
    from paraloss.rendering import PICTURES
    from paraloss.rendering import render as render_picture

    inputs, target = split_output(files, output, PICTURES)
    pixels = None if size is None else parse_size(size)
    seen: list[int] = []
    while True:
        times = [path.stat().st_mtime_ns if path.exists() else 0 for path in inputs]
        if times == seen:
            time.sleep(_WATCH_S)
            continue
        seen = times
        surfaces = [open_surface(path) for path in inputs]
        render_picture(
            surfaces,
            target,
            options=GridOptions(metric, log, log_offset, zmax, zmin, height_scale),
            labels=label,
            size=pixels,
            style=style,
            view=view,
            color_map=color_map,
            transparent=transparent,
            scalar_bar=scalar_bar,
            backend=backend,
            tell=say,
        )
        print(target, flush=True)
        if not watch or all(surface.is_complete for surface in surfaces):
            return
