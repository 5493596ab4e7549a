"""ParaView set up for this user: the plugin at every start, a button that lights a surface; and both taken back (Linux)."""

from __future__ import annotations

import html
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from paraloss import processes
from paraloss.errors import InputError, MissingPackage
from paraloss.files import replacing
from paraloss.marks import mark
from paraloss.rendering.paraview_backend import paraview_environment
from paraloss.rendering.paraview_gui import PLUGIN, STATES_FOLDER, program_path

MACRO = "Paraloss: light it"
_MARK = mark("ParaView macro")
_CURE = 'import inspect; inspect.getargspec = getattr(inspect, "getargspec", inspect.getfullargspec)\n'
_SECTION, _EMPTY_LIST = "[PluginsList]", "<Plugins>\\n{}</Plugins>\\n"
# The window's program lies beside this one, also behind a wrapper or a launcher (pvpython-real, paraview-real).
_QUESTION = """
import json, os, site
from paraview.servermanager import vtkSMProxyManager as about
numbers = about.GetVersionMajor(), about.GetVersionMinor(), about.GetVersionPatch()
folder, name = os.path.split(os.path.realpath("/proc/self/exe"))
beside = [os.path.join(folder, other) for other in (name.replace("pvpython", "paraview"), "paraview")]
window = next((os.path.realpath(path) for path in beside if os.path.exists(path)), "")
print("FACTS" + json.dumps(["%d.%d.%d" % numbers, window, site.getusersitepackages()]))
"""


@dataclass(frozen=True)
class Places:
    """Where ParaView of this user keeps what is written.

    Attributes:
        settings: ParaView's settings.
        macro: the macro that the toolbar shows.
        cure: a line for Python at its start, which ParaView 5.11 needs for any Python plugin.
        application: full path of ParaView's window program; its plugins are listed under it.
        cured: whether this release needs the cure.
    """

    settings: Path
    macro: Path
    cure: Path
    application: str
    cured: bool


def install_plugin() -> dict[Path, str]:
    """Make ParaView load the plugin at every start and show the button "Paraloss: light it", for this user (Linux).

    Returns:
        The files that were written, with what each does; none where all is in place.

    Raises:
        MissingPackage: ParaView is not on the PATH.
        InputError: not Linux (the message names the three clicks that do the same), or a macro of the user's has this name.
    """
    places = _find_places()
    if places.macro.exists() and _MARK not in places.macro.read_text("utf-8", "replace"):
        raise InputError(f"{places.macro}: exists and is not from Paraloss; rename it in ParaView: Macros > Edit")
    wanted = {
        places.settings: (add_plugin(_text_of(places.settings), places.application, PLUGIN), "loads the plugin at every start"),
        places.macro: (macro_text(STATES_FOLDER), f'the button "{MACRO}" in the toolbar and in the menu Macros'),
    }
    if places.cured:
        wanted[places.cure] = (_CURE, "lets ParaView 5.11 load plugins of Python")
    before = {path: _text_of(path) for path in wanted}
    changed = [path for path, (text, _) in wanted.items() if before[path] != text]
    for number, path in enumerate(changed):
        try:
            _write(path, wanted[path][0])
        except InputError:
            for done in changed[:number]:
                _write(done, before[done]) if before[done] else done.unlink()
            raise
    return {path: wanted[path][1] for path in changed}


def uninstall_plugin() -> dict[Path, str]:
    """Take back what ``install_plugin`` wrote; everything else in the settings stays as it is, to the byte.

    Returns:
        The files that were changed or removed, with what is gone from each.

    Raises:
        MissingPackage: ParaView is not on the PATH.
        InputError: not Linux.
    """
    places = _find_places()
    changed = {}
    before = _text_of(places.settings)
    after = remove_plugin(before, PLUGIN)
    if after != before:
        _write(places.settings, after) if after else places.settings.unlink()
        changed[places.settings] = "no longer loads the plugin"
    for path, sign in ((places.macro, _MARK), (places.cure, _CURE)):
        if sign in _text_of(path):
            path.unlink()
            changed[path] = "removed"
    return changed


def settings_name(version: str) -> str:
    """Name of the settings file of a release: from 6.0 on it has no version."""
    return f"ParaView{version}.ini" if int(version.split(".")[0]) < 6 else "ParaView.ini"


def macro_text(states: Path) -> str:
    """The macro behind the button: it runs ``light.py`` of the folder ``states``."""
    return (
        f'"""Light the active surface: {_MARK}; `paraloss paraview --uninstall` removes it."""\n'
        f"import sys\n\nif {str(states)!a} not in sys.path:\n    sys.path.insert(0, {str(states)!a})\n"
        "import light\n\nlight.light_it()\n"
    )


def add_plugin(text: str, application: str, plugin: Path) -> str:
    """ParaView's settings with ``plugin`` among those loaded at the start of ``application``.

    Args:
        text: a settings file (Qt's .ini format), may be empty.
        application: full path of the program; its plugins are listed under it.
        plugin: the plugin's file.
    """
    text = _without_entry(text, plugin)
    key = _escaped_key(f"Local:{application}")
    entry = _entry(plugin)
    found = re.search(rf"^{re.escape(key)}=.*?(?=</Plugins>)", text, re.MULTILINE)
    if found:
        return text[: found.end()] + entry + text[found.end() :]
    line = f'{key}="{_EMPTY_LIST.format(entry)}"\n'
    heading = re.search(rf"^{re.escape(_SECTION)}\r?\n", text, re.MULTILINE)
    if heading:
        return text[: heading.end()] + line + text[heading.end() :]
    if not text or text.startswith("["):  # in front, so that what is there stays as it is
        return f"{_SECTION}\n{line}{text and chr(10)}{text}"
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}\n{_SECTION}\n{line}"


def remove_plugin(text: str, plugin: Path) -> str:
    """ParaView's settings without ``plugin``, and without the list and the section that ``add_plugin`` began for it."""
    rest = _without_entry(text, plugin)
    if rest == text:
        return text
    # ParaView's own lists begin with an XML declaration; one without it is of add_plugin.
    own = re.search(rf'^[^\r\n=]*="{re.escape(_EMPTY_LIST.format(""))}"\n', rest, re.MULTILINE)
    if own is None:
        return rest
    before, after = rest[: own.start()], rest[own.end() :]
    alone = not after.strip() or re.match(r"\r?\n\[", after)
    if before.endswith(f"{_SECTION}\n") and alone:
        before = before.removesuffix(f"{_SECTION}\n")
        if before:
            before = before.removesuffix("\n")
        else:
            after = after.removeprefix("\n")
    return before + after


def _entry(plugin: Path) -> str:
    name, file = (html.escape(text) for text in (plugin.stem, str(plugin)))
    return _escaped_value(f'  <Plugin name="{name}" filename="{file}" auto_load="1"/>\n')


def _without_entry(text: str, plugin: Path) -> str:
    name = re.escape(_escaped_value(f'<Plugin name="{plugin.stem}"'))
    return re.sub(rf"  {name}[^>\r\n]*/>\\n", "", text)


def _escaped_key(text: str) -> str:
    """A key of Qt's .ini format. Source: iniEscapedKey in QSettings."""
    plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
    parts = []
    for letter in text:
        code = ord(letter)
        parts.append(
            letter if letter in plain else "\\" if letter == "/" else f"%{code:02X}" if code < 256 else f"%U{code:04X}"
        )
    return "".join(parts)


def _escaped_value(text: str) -> str:
    """A part of a quoted value of Qt's .ini format. Source: iniEscapedString in QSettings."""
    parts, after_code = [], False
    for letter in text:
        known = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}.get(letter)
        coded = known is None and (ord(letter) > 126 or (after_code and letter in "0123456789abcdefABCDEF"))
        parts.append(known or (f"\\x{ord(letter):x}" if coded else letter))
        after_code = coded
    return "".join(parts)


def _find_places() -> Places:
    """Ask ParaView's own Python for its version, its programs and its user folder."""
    if sys.platform != "linux":
        raise InputError(f"in ParaView: Tools > Manage Plugins > Load New, choose {PLUGIN}, then tick Auto Load")
    paraview = Path(program_path("paraview"))
    command = [program_path("pvpython"), "-c", _QUESTION]  # it draws nothing, so that it needs no display
    done = processes.run(command, capture=True, env=paraview_environment())
    found = re.search(r"FACTS(.+)", done.stdout)
    if not found:
        raise MissingPackage(f"pvpython does not run here: {(done.stderr + done.stdout).strip()[-200:]}")
    version, window, packages = json.loads(found[1])
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ParaView"
    return Places(
        settings=folder / settings_name(version),
        macro=folder / "Macros" / f"{MACRO}.py",
        cure=Path(packages) / "paraloss_paraview.pth",
        application=window or str(paraview.resolve()),
        cured=tuple(map(int, version.split(".")[:2])) < (5, 12),
    )


def _text_of(path: Path) -> str:
    """A file's text byte by byte, whatever its encoding; empty where there is none."""
    return path.read_bytes().decode("latin-1") if path.is_file() else ""


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:  # also where the file is a link into a folder of dotfiles
            temporary.write_bytes(text.encode("latin-1"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
