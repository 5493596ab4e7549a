"""ParaView's window: started with the plugin, files and a lit state; or set up to load the plugin at every start."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paraloss import processes
from paraloss.errors import InputError, MissingPackage
from paraloss.files import replacing
from paraloss.rendering.paraview_backend import RENDER_SCRIPT, display_launcher, paraview_environment
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
    paraview = _program("paraview")
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


def install_plugin() -> list[Path]:
    """Make ParaView load the plugin at every start, for this user (Linux).

    Returns:
        The files that were written: ParaView's settings, and for 5.11 a ``.pth`` file in its Python's user folder.

    Raises:
        MissingPackage: ParaView is not on the PATH.
        InputError: not Linux; the message names the three clicks that do the same.
    """
    if sys.platform != "linux":
        raise InputError(f"in ParaView: Tools > Manage Plugins > Load New, choose {PLUGIN}, then tick Auto Load")
    paraview = Path(_program("paraview")).resolve()
    version = _version()
    settings = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "ParaView" / settings_name(version)
    settings.parent.mkdir(parents=True, exist_ok=True)
    text = settings.read_text() if settings.exists() else ""
    written = []
    changed = add_plugin(text, str(paraview), PLUGIN)
    if changed != text:
        with replacing(settings) as temporary:  # also where the settings are a link into a folder of dotfiles
            temporary.write_text(changed)
        written.append(settings)
    if tuple(map(int, version.split(".")[:2])) < (5, 12):
        written.append(_install_cure())
    return written


def settings_name(version: str) -> str:
    """Name of the settings file of a release: from 6.0 on it has no version."""
    return f"ParaView{version}.ini" if int(version.split(".")[0]) < 6 else "ParaView.ini"


def add_plugin(text: str, application: str, plugin: Path) -> str:
    """ParaView's settings with ``plugin`` among those loaded at the start of ``application``.

    Args:
        text: a settings file (Qt's .ini format), may be empty.
        application: full path of the program; its plugins are listed under it.
        plugin: the plugin's file.
    """
    key = "Local%3A" + application.replace("/", "\\")
    entry = f'  <Plugin name=\\"{plugin.stem}\\" filename=\\"{plugin}\\" auto_load=\\"1\\"/>\\n'
    text = re.sub(rf'  <Plugin name=\\"{plugin.stem}\\"[^>]*/>\\n', "", text)  # where it was before
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(key + "="):
            lines[number] = line.replace("</Plugins>", entry + "</Plugins>", 1)
            return "\n".join(lines) + "\n"
    fresh = f'{key}="<?xml version=\\"1.0\\" ?>\\n<Plugins>\\n{entry}</Plugins>\\n"'
    if "[PluginsList]" in lines:
        lines.insert(lines.index("[PluginsList]") + 1, fresh)
    else:
        lines += ["", "[PluginsList]", fresh]
    return "\n".join(lines).lstrip("\n") + "\n"


def _install_cure() -> Path:
    """The line that ParaView 5.11 needs on Python 3.11, where its Python reads it at start."""
    code = "import site; print('SITE=' + site.getusersitepackages())"
    command = [*display_launcher(), _program("pvpython"), "-c", code]
    done = processes.run(command, capture=True, env=paraview_environment())
    found = re.search(r"SITE=(.+)", done.stdout)
    if not found:
        raise MissingPackage("pvpython does not run here; in 5.11 the plugin then loads only through: paraloss paraview FILE")
    folder = Path(found[1])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "paraloss_paraview.pth"
    path.write_text('import inspect; inspect.getargspec = getattr(inspect, "getargspec", inspect.getfullargspec)\n')
    return path


def _version() -> str:
    command = [*display_launcher(), _program("pvpython"), "--version"]
    done = processes.run(command, capture=True, env=paraview_environment())
    found = re.search(r"version (\d+\.\d+\.\d+)", done.stdout + done.stderr)
    if not found:
        raise MissingPackage(f"pvpython does not print its version: {(done.stdout + done.stderr).strip()[:100]}")
    return found[1]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingPackage(f"{name} is not on the PATH; install ParaView (Debian: apt install paraview python3-paraview)")
    return path
