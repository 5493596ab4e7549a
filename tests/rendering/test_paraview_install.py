"""What ``paraloss paraview --install`` writes and ``--uninstall`` takes back; how ParaView is started without a display."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from helpers import call

from paraloss.errors import InputError, MissingPackage
from paraloss.rendering import paraview_backend
from paraloss.rendering.paraview_gui import PLUGIN
from paraloss.rendering.paraview_install import add_plugin, install_plugin, remove_plugin

WINDOW = "/usr/bin/paraview"
ENTRY = r"<Plugin name=\"mine\" filename=\"/x/mine.so\" auto_load=\"1\"/>\n"
LIST = r"Local%3A\usr\bin\paraview=" + f'"<?xml version=\\"1.0\\" ?>\\n<Plugins>\\n  {ENTRY}</Plugins>\\n"\n'
SETTINGS = {
    "none": "",
    "general": "[General]\nGeneralSettings.ShowWelcomeDialog=false\n",
    "no end of line": "[General]\na=1",
    "no section first": "a=1\n\n[View]\nb=2\n",
    "an own list": f"[General]\na=1\n\n[PluginsList]\n{LIST}\n[View]\nb=2\n",
    "another program's list": f"[PluginsList]\n{LIST.replace('usr', 'opt')}",
    "Windows' line ends": "[General]\r\na=1\r\n",
    "other letters": "[General]\nfolder=/home/J\xfcrgen/\xe4\n",
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A home, and a pvpython that answers as that of a release; its number may be changed."""
    programs, home = tmp_path / "bin", tmp_path / "home"
    programs.mkdir()
    home.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)

    def release(version, xvfb=True):
        paraview_backend._version_of.cache_clear()
        answer = "FACTS" + json.dumps([version, WINDOW, str(home / "packages")])
        for name, text in {
            "paraview": "exit 1",
            "pvpython": f"echo '{answer}'",
            "pvbatch": f"echo 'paraview version {version}'",
            "xvfb-run": "exit 1",
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        if not xvfb:
            monkeypatch.setenv("PATH", str(programs))
            (programs / "xvfb-run").unlink()
            (programs / "sh").symlink_to("/bin/sh")
        return home

    yield release
    paraview_backend._version_of.cache_clear()


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plugins_of(settings, application=WINDOW):
    """The plugins that Qt and ParaView read from settings, by a plain unescaping."""
    section = re.search(r"^\[PluginsList\]\r?\n((?:(?!\[).*\n?)*)", settings, re.MULTILINE)[1]
    key = "Local%3A" + application.replace("/", "\\")
    quoted = next(line.partition("=")[2] for line in section.splitlines() if line.startswith(key + "="))
    text = re.sub(r"\\(x[0-9a-fA-F]+|.)", lambda m: {"n": "\n"}.get(m[1]) or (
        chr(int(m[1][1:], 16)) if m[1][0] == "x" else m[1]), quoted.strip()[1:-1])  # fmt: skip
    return {plugin.get("name"): plugin.attrib for plugin in ElementTree.fromstring(text.strip()).iter("Plugin")}


@pytest.mark.parametrize("before", SETTINGS.values(), ids=SETTINGS)
def test_the_plugin_is_added_once_and_taken_back_to_the_byte(before):
    added = add_plugin(before, WINDOW, PLUGIN)
    found = plugins_of(added)
    assert found["paraloss_plugin"] == {"name": "paraloss_plugin", "filename": str(PLUGIN), "auto_load": "1"}
    assert ("mine" in found) == (LIST in before)
    assert add_plugin(added, WINDOW, PLUGIN) == added
    assert remove_plugin(added, PLUGIN) == before
    assert remove_plugin(before, PLUGIN) == before


@pytest.mark.parametrize("name", ["a folder", "Jürgen", "Jürgenä1", 'a "b" & c', "back\\slash", "日本", "üa"])
def test_any_path_survives_the_settings_form(name):
    plugin = Path(f"/home/{name}/paraloss_plugin.py")
    added = add_plugin("", WINDOW, plugin)
    assert plugins_of(added)["paraloss_plugin"]["filename"] == str(plugin)
    assert added.isascii() and remove_plugin(added, plugin) == ""
    key = next(line for line in add_plugin("", f"/opt/{name}/paraview", plugin).splitlines() if line.startswith("Local"))
    key = key[: key.index('="')].replace("\\", "/")
    key = re.sub(r"%U([0-9A-F]{4})|%([0-9A-F]{2})", lambda m: chr(int(m[1] or m[2], 16)), key)
    assert key == f"Local:/opt/{name}/paraview"


def test_what_paraview_itself_added_stays():
    """ParaView rewrites the lists when it ends, with the plugins that it brings."""
    rewritten = LIST.replace(ENTRY, ENTRY + rf"  <Plugin name=\"paraloss_plugin\" filename=\"{PLUGIN}\" auto_load=\"1\"/>\n")
    assert remove_plugin(f"[PluginsList]\n{rewritten}", PLUGIN) == f"[PluginsList]\n{LIST}"


@pytest.mark.parametrize(("version", "settings", "cured"), [("5.11.0", "ParaView5.11.0.ini", 1), ("6.1.1", "ParaView.ini", 0)])
def test_install_says_what_it_writes_and_uninstall_leaves_nothing(version, settings, cured, machine):
    home = machine(version)
    folder = home / ".config" / "ParaView"
    folder.mkdir(parents=True)
    (folder / settings).write_text("[General]\na=1\n")
    (folder / "Macros").mkdir()
    (folder / "Macros" / "mine.py").write_text("print(1)\n")
    before = snapshot(home)
    done = call("paraview", "--install")
    assert done.returncode == 0, done.stderr
    after = snapshot(home)
    written = {str(home / name) for name in after if after[name] != before.get(name)}
    assert {line.rpartition(": ")[0].partition(": the button")[0] for line in done.stdout.splitlines()} == written
    assert len(written) == 2 + cured
    macro = (folder / "Macros" / "Paraloss: light it.py").read_text()
    compile(macro, "macro", "exec")
    states = re.search(r"insert\(0, '(.*)'\)", macro)[1]
    assert (Path(states) / "light.py").is_file()
    assert call("paraview", "--install").stdout == "nothing to do: all is in place\n" and snapshot(home) == after
    done = call("paraview", "--uninstall")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2 + cured
    assert snapshot(home) == before
    assert call("paraview", "--uninstall").stdout.startswith("nothing to do")


def test_a_macro_of_the_users_own_is_left_alone(machine):
    home = machine("5.13.2")
    mine = home / ".config" / "ParaView" / "Macros" / "Paraloss: light it.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("print('mine')\n")
    with pytest.raises(InputError, match=r"light it\.py: exists and is not from Paraloss; rename it"):
        install_plugin()
    assert snapshot(home) == {str(mine.relative_to(home)): b"print('mine')\n"}
    assert call("paraview", "--uninstall").returncode == 0 and mine.exists()
    both = call("paraview", "--install", "--uninstall")
    assert (both.returncode, both.stderr) == (2, "paraloss: --install and --uninstall exclude each other\n")


def test_what_cannot_be_written_is_one_line_and_nothing_is_left(machine):
    home = machine("5.11.0")
    (home / "packages").write_text("a file where the folder of the cure belongs")
    before = snapshot(home)
    done = call("paraview", "--install")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "packages/paraloss_paraview.pth: cannot be written" in done.stderr
    assert snapshot(home) == before


def test_paraview_6_draws_without_a_display_and_earlier_ones_in_a_virtual_one(machine, monkeypatch):
    machine("6.0.0")
    assert paraview_backend.paraview_command("pvbatch") == ["pvbatch", "--opengl-window-backend", "EGL"]
    machine("5.13.2")
    command = paraview_backend.paraview_command("pvbatch")
    assert (command[0], command[-1]) == ("xvfb-run", "pvbatch") and "EGL" not in command
    monkeypatch.setenv("DISPLAY", ":7")
    assert paraview_backend.paraview_command("pvbatch") == ["pvbatch"]
    monkeypatch.delenv("DISPLAY")
    machine("6.1.1", xvfb=False)
    assert paraview_backend.can_draw() and "EGL" in paraview_backend.paraview_command("pvserver")


def test_without_any_display_earlier_versions_say_what_to_install(machine):
    machine("5.11.0", xvfb=False)
    assert os.environ.get("DISPLAY") is None and not paraview_backend.can_draw()
    with pytest.raises(MissingPackage, match=r"before 6\.0 needs a display and there is none: apt install xvfb"):
        paraview_backend.paraview_command("pvbatch")
