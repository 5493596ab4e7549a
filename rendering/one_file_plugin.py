"""The ParaView plugin as one file that carries the packages it needs: it opens surfaces where Paraloss is not installed."""

from __future__ import annotations

import base64
import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

from paraloss.rendering.paraview_gui import PLUGIN

_PLUGIN = "paraloss.paraview_plugin"
_PACKAGES = ("", ".surface", ".analysis", ".converters", ".paraview_plugin", ".paraview_plugin.parts")
_LINE = 100

_HEAD = '''"""Paraloss in ParaView, in one file: Tools > Manage Plugins > Load New.

Made by ``paraloss share``; carries the readers and filters as a zip archive, which is written into a temporary file.
Needs what ParaView's own Python has: numpy, vtk, h5py.
"""


def _carry_paraloss():
    """Make ``import paraloss`` find the packages below; a package found before wins."""
    import atexit
    import base64
    import importlib.util
    import os
    import sys
    import tempfile
    import zipimport

    if "paraloss" in sys.modules:
        return
    handle, name = tempfile.mkstemp(prefix="paraloss-", suffix=".zip")
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64decode(_ARCHIVE))
    atexit.register(lambda: os.path.exists(name) and os.remove(name))
    spec = zipimport.zipimporter(name).find_spec("paraloss")
    module = importlib.util.module_from_spec(spec)
    sys.modules["paraloss"] = module
    spec.loader.exec_module(module)


_ARCHIVE = """
@PACKED@
"""
_carry_paraloss()

'''


def one_file_plugin() -> str:
    """The text of a ``.py`` that ParaView loads as a plugin, from any folder."""
    text = base64.b64encode(_archive()).decode()
    lines = "\n".join(text[k : k + _LINE] for k in range(0, len(text), _LINE))
    return _HEAD.replace("@PACKED@", lines) + PLUGIN.read_text("utf-8")


def _archive() -> bytes:
    """The packages that the plugin imports, as a zip archive; the same bytes whenever it is made of the same files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in _PACKAGES:
            folder = f"paraloss{package}".replace(".", "/")
            names = sorted(path for path in _folder(f"paraloss{package}").glob("*.py") if path.name != "paraloss_plugin.py")
            if not any(path.name == "__init__.py" for path in names):
                archive.writestr(zipfile.ZipInfo(f"{folder}/__init__.py"), "")
            for path in names:
                archive.writestr(zipfile.ZipInfo(f"{folder}/{path.name}"), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def _folder(package: str) -> Path:
    if package.startswith(_PLUGIN):  # no package to Python: an editable installation does not say where its files lie
        return PLUGIN.parent.joinpath(*package.removeprefix(_PLUGIN).split(".")).resolve()
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent
