"""``paraloss share``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.cli.groups import Heights, Picture
from paraloss.picture_options import GridOptions, PictureOptions


def share(
    file: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    heights: Heights = GridOptions(),
    picture: Picture = PictureOptions(),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Pack a surface into one .zip for mail: page, picture, caption, .vts, and a ParaView plugin that needs no installation.

    Example: paraloss share surface.h5 -o surface.zip

    Args:
        file: Surface file.
        output: The archive. Default: the surface's name with .zip, in the current folder.
        overwrite: Replace a file that this command did not make.
    """
    from paraloss.rendering.share import share as pack

    print(pack(file, output or Path(f"{file.stem}.zip"), heights, picture, overwrite))
