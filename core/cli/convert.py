"""``paraloss convert``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from paraloss.cli.groups import Heights
from paraloss.picture_options import GridOptions


def convert(
    *files: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    heights: Heights = GridOptions(),
    smooth: int = 1,
    li2018: Annotated[bool, Parameter(negative="")] = False,
    paths: Annotated[bool, Parameter(negative="")] = False,
    compress: Literal["none", "lz4", "zlib"] | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Convert a surface file for other programs; the ending of the last file decides the format.

    Example: paraloss convert surface.h5 surface.vts --zmax 10

    .vts .vtp .vtkhdf .pvd (several files: a time series) for VTK and ParaView, .vti .vtkhdf for volumes, .glb .usda .ply for
    other 3D programs, .stl for a 3D printer, .csv .npz for tables, .h5 for Li et al.'s scripts.

    Args:
        files: Surface file, then the file to write unless -o names it.
        output: File to write.
        smooth: Interpolate this many times finer with bicubic splines; the array status marks what was not computed.
        li2018: Write a .vtp with the arrays and plain heights of Li et al.'s converter.
        paths: Write a .vtp with the optimizer paths on the surface alone, as tubes in their colors with balls at their ends.
        compress: Compression of .vts, .vtp, .vti, .pvd, .vtkhdf: none (the fastest to write and to load), lz4 (0.7 of the size)
            or zlib (0.6 of the size, many times slower). Default: none.
        overwrite: Replace a file that this command did not make.
    """
    from paraloss.analysis.smoothing import smoothed
    from paraloss.cli.options import split_output
    from paraloss.converters import ENDINGS, open_surface, write
    from paraloss.converters import convert as convert_file
    from paraloss.converters.formats import purpose_of
    from paraloss.errors import InputError
    from paraloss.files import check_output

    inputs, target = split_output(files, output, ENDINGS)
    if li2018 and paths:
        raise InputError("{li2018} and {paths} are two kinds of .vtp; choose one", arguments=("li2018", "paths"))
    layout = "li2018" if li2018 else "paths" if paths else "paraloss"
    if smooth == 1:
        print(convert_file(inputs, target, heights, layout, overwrite, compress))
        return
    if len(inputs) > 1:
        raise InputError("--smooth takes one file")
    check_output(target, purpose_of(target), inputs, overwrite)
    surface = open_surface(inputs[0]).drawable()
    fine = smoothed(surface, smooth, metric=heights.metric, log=heights.log, offset=heights.log_offset)
    print(write(fine, target, heights, layout, compress))
