"""The editable installation: tracebacks and breakpoints name the files that one edits, and a new module is seen at once."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
CODE = """
import json, traceback
import paraloss, paraloss.surface, paraloss.files
try:
    paraloss.read_surface("/none.h5")
except paraloss.surface.reader.SurfaceFileError as error:
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
place = paraloss.files.check_input.__code__.co_filename
print(json.dumps({"path": list(paraloss.__path__), "frames": frames[1:], "breakpoint": place}))
"""


def python(code):
    """Without PYTHONPATH: what the installation alone makes importable."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tracebacks_and_breakpoints_name_the_real_files():
    found = json.loads(python(CODE))
    (core,) = map(Path, found["path"])
    assert core.name == "core" and (core.parent / "pyproject.toml").is_file(), f"not an editable installation: {core}"
    assert Path(found["breakpoint"]) == core / "files.py"
    ours = [Path(name) for name in found["frames"] if not name.startswith(sysconfig.get_path("stdlib"))]
    assert core / "surface" / "reader.py" in ours
    assert all(name.is_relative_to(core) for name in ours)


def test_a_new_module_is_seen_without_installing_again(tmp_path):
    """Where the installation is of this checkout; a new file in somebody else's would disturb them."""
    (core,) = map(Path, json.loads(python(CODE))["path"])
    for folder in ("core", "compute/ranks", "converters", "rendering"):
        package = "paraloss" if folder == "core" else f"paraloss.{folder.replace('/', '.')}"
        if core.parent == HOUSE:
            new = HOUSE / folder / f"new_{os.getpid()}.py"
            try:
                new.write_text("answer = 42\n")
                assert python(f"import {package}.{new.stem} as m; print(m.answer, m.__file__)").split() == ["42", str(new)]
            finally:
                new.unlink()
        else:
            found = json.loads(python(f"import json, {package} as p; print(json.dumps(list(p.__path__)))"))
            assert found == [str(core.parent / folder)]  # Python looks for modules in the folder itself
