"""``paraloss convert``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def convert(
    source: Path,
    target: Path,
    *,
    metric: str | None = None,
    log: bool | None = None,
    log_offset: float = 0.1,
    zmax: float | None = None,
    zmin: float | None = None,
    height_scale: Annotated[float | None, Parameter(name=["--height-scale"])] = None,
) -> None:
    """Convert a surface file for other programs; the ending of TARGET decides the format (.vts .vtp .csv).

    Example: paraloss convert surface.h5 surface.vts --zmax 10

    Args:
        source: Surface file.
        target: File to write.
        metric: Metric that gives the height. Default: train_loss, where it is there.
        log: Height from ln(metric + offset). Default: for losses.
        log_offset: Added before the logarithm.
        zmax: Draw larger values at this one, in the metric's unit; the array "clipped" marks them.
        zmin: The same from below.
        height_scale: Height a unit; the default makes the height 0.55 of the width.
    """
    from paraloss.converters import GridOptions
    from paraloss.converters import convert as convert_file

    print(convert_file(source, target, GridOptions(metric, log, log_offset, zmax, zmin, height_scale)))
