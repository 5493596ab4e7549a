"""ParaView's window, started with the plugin, files and a lit state."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paraloss import processes
from paraloss.errors import InputError, MissingPackage
from paraloss.rendering.paraview_backend import RENDER_SCRIPT, paraview_environment
from paraloss.text import printable

STATES_FOLDER = RENDER_SCRIPT.parent
PLUGIN = STATES_FOLDER.parent / "paraview_plugin" / "paraloss_plugin.py"


def start_paraview(files: Sequence[Path], state: str = "lit_surface") -> int:
    """Open ParaView on surface files and wait until it is closed; its exit code.

    Args:
        files: surface files; with the state ``side_by_side`` a view each.
        state: a name of ``state_files/``.

    Raises:
        MissingPackage: ParaView is not on the PATH, or there is no display.
        InputError: no such file or state.
    """
    paraview = program_path("paraview")
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY") and sys.platform == "linux":
        raise MissingPackage("ParaView's window needs a display (DISPLAY is not set); for pictures use: paraloss render")
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    known = sorted(path.stem for path in STATES_FOLDER.glob("*.pvsm"))
    if state not in known:
        raise InputError(
            f"unknown state '{printable(state[:100])}'; there are {', '.join(known)}. A .pvsm of another author is a program: "
            "look at it, then open it in ParaView with File > Load State"
        )
    wanted = {"states": str(STATES_FOLDER), "files": [str(file.resolve()) for file in files], "state": state}
    with tempfile.TemporaryDirectory(prefix="paraloss-") as folder:
        environment = {
            **paraview_environment(),
            "PARALOSS_PARAVIEW": json.dumps(wanted),
            "PYTHONPATH": str(STATES_FOLDER / "gui"),  # its sitecustomize cures ParaView 5.11 on Python 3.11
            "XDG_CONFIG_DIRS": _without_welcome(Path(folder)),
        }
        return processes.run([paraview, f"--script={STATES_FOLDER / 'gui' / 'start.py'}"], env=environment).returncode


def _without_welcome(folder: Path) -> str:
    """XDG_CONFIG_DIRS with settings for this session in front: behind the dialog of a first start the script would wait.

    Qt reads these where the user's own settings say nothing, and writes into the user's alone.
    """
    (folder / "ParaView.ini").write_text("[General]\nGeneralSettings.ShowWelcomeDialog=false\n")
    return f"{folder}:{os.environ.get('XDG_CONFIG_DIRS') or '/etc/xdg'}"


def program_path(name: str) -> str:
    """Full path of one of ParaView's programs.

    Raises:
        MissingPackage: it is not on the PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingPackage(f"{name} is not on the PATH; install ParaView (Debian: apt install paraview python3-paraview)")
    return path
