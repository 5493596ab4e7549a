"""``paraloss paraview``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.errors import InputError


def paraview(
    *files: Path,
    state: str = "lit_surface",
    install: Annotated[bool, Parameter(negative="")] = False,
    uninstall: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Open ParaView with the plugin loaded, the files opened and the lit state applied.

    Example: paraloss paraview with.h5 without.h5 --state side_by_side

    Args:
        files: Surface files. Default: none, the plugin alone.
        state: lit_surface, side_by_side, contours, trajectory or training_time_series.
        install: Set ParaView up to load the plugin at every later start, with a button "Paraloss: light it"; open nothing now.
        uninstall: Take back what --install wrote.
    """
    from paraloss.rendering.paraview_gui import start_paraview
    from paraloss.rendering.paraview_install import install_plugin, uninstall_plugin

    if install and uninstall:
        raise InputError("{install} and {uninstall} exclude each other", arguments=("install", "uninstall"))
    if install or uninstall:
        changed = install_plugin() if install else uninstall_plugin()
        for path, what in changed.items():
            print(f"{path}: {what}")
        if not changed:
            print(
                "nothing to do: all is in place" if install else "nothing to do: nothing of Paraloss is installed in ParaView"
            )
    else:
        sys.exit(start_paraview(files, state))
