"""``paraloss paraview``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def paraview(
    *files: Path,
    state: str = "lit_surface",
    install: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Open ParaView with the plugin loaded, the files opened and the lit state applied.

    Example: paraloss paraview with.h5 without.h5 --state side_by_side

    Args:
        files: Surface files. Default: none, the plugin alone.
        state: lit_surface, side_by_side, contours, trajectory or training_time_series.
        install: Set ParaView up to load the plugin at every later start; open nothing now.
    """
    from paraloss.rendering.paraview_gui import install_plugin, start_paraview

    if install:
        for path in install_plugin():
            print(path)
    else:
        sys.exit(start_paraview(files, state))
