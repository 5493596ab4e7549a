"""A new user's first hour: docs/first-hour.md and the README followed word by word, from ``pip install`` of the wheel on.

The commands are those in the documents; nothing of the checkout is importable where they run.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tomllib
import torch
from helpers import BIN, call
from pdfs import read_pdf
from PIL import Image

from paraloss import read_surface
from paraloss.print_size import VENUES

pytestmark = pytest.mark.slow

HOUSE = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_PACKAGED = (".git", ".venv", "build", "dist", "site", "runs", "tests", "docs", "*.egg-info", "__pycache__", ".*_cache")
FIGURES = ("surfaces.png", "contours.pdf", "curves.pdf", "surfaces.html", "caption.txt")


def blocks(document):
    """(title or language, text) of each block of code."""
    found = []
    for language, rest, code in FENCE.findall((HOUSE / document).read_text()):
        title = re.search(r'title="([^"]+)"', rest)
        found.append((title[1] if title else language, code))
    return found


def commands(code):
    """The command lines of a block, those that a backslash continues joined."""
    return [line.partition("  #")[0].strip() for line in code.replace("\\\n", " ").splitlines() if line.strip()]


class Newcomer:
    """An environment with what the tests' own holds, less Paraloss, and a folder to work in."""

    def __init__(self, folder):
        self.folder = folder / "work"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
        self.bin = folder / "env" / "bin"
        (libraries,) = (folder / "env").glob("lib/python*/site-packages")
        (libraries / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # not its .pth files: nothing editable
        for library in (Path(sys.prefix) / "lib").glob("*mpi*"):  # mpi4py looks for MPI in its own environment
            (folder / "env" / "lib" / library.name).symlink_to(library)
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
        self.environment = {**kept, "PATH": f"{self.bin}:{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        self.typed, self.said = [], {}

    def type(self, line):
        """Type one line; it must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stderr[-1500:]}"
        self.typed.append(line)
        self.said[line] = done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built once, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(HOUSE, folder / "source", ignore=shutil.ignore_patterns(*NOT_PACKAGED))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([*command, str(folder / "source")], check=True, env=kept)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def hour(wheel, tmp_path_factory):
    """docs/first-hour.md, then the README's part on an own checkpoint, typed line by line."""
    newcomer = Newcomer(tmp_path_factory.mktemp("hour"))
    for what, code in blocks("docs/first-hour.md"):
        if what not in ("bash", "python"):
            (newcomer.folder / what).write_text(code)
            continue
        assert what == "bash"
        for line in commands(code):
            # The packages that it needs are there; of Paraloss there must be the wheel's alone.
            line = line.replace("'.[all]'", f"--no-index --no-deps --force-reinstall -q {wheel}")
            newcomer.type(line)
    own = (HOUSE / "README.md").read_text().split("## Your own checkpoint")[1]
    for line in commands(FENCE.search(own)[3]):
        newcomer.type(line)
    return newcomer


def test_the_wheel_holds_every_file_of_the_package(wheel):
    """Whatever lies in a folder of the package: modules, pages, states, sample networks and their surfaces."""
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if ".dist-info/" not in name}
    folders = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    # The longest name is the folder's own package: core/cli is paraloss/cli, not paraloss of core.
    wanted = set()
    for package, folder in folders.items():
        for file in (HOUSE / folder).rglob("*"):
            inner = any(file.is_relative_to(HOUSE / other) for other in folders.values() if other.startswith(f"{folder}/"))
            if file.is_file() and not inner and "__pycache__" not in file.parts:
                wanted.add(f"{package.replace('.', '/')}/{file.relative_to(HOUSE / folder)}")
    assert {"paraloss/examples/cifar10_resnet56.pt", "paraloss/cli/demo.py", "paraloss/rendering/viewer.html"} <= wanted
    assert held == wanted


def test_the_installed_package_is_the_one_that_ran(hour):
    found = subprocess.run(
        [str(hour.bin / "python"), "-c", "import paraloss; print(paraloss.__path__)"],
        cwd=hour.folder, env=hour.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(hour.bin.parent) in found.stdout and str(HOUSE) not in found.stdout


def test_six_commands_at_most_give_every_figure(hour):
    """Installation and training included; then there is the lit picture, the contours, the curve, the page, the caption."""
    number = 1 + next(k for k, line in enumerate(hour.typed) if line.startswith("paraloss figure"))
    assert number <= 6, hour.typed[:number]
    for name in FIGURES:
        assert (hour.folder / "figure1" / name).stat().st_size > 100, name
    assert [line.split()[0] for line in hour.typed[:number]].count("paraloss") == 1


def plain_losses(folder, seed, places):
    """Mean cross-entropy of all training samples at each (x, y), by a plain loop: Li et al.'s filter-normalized directions."""
    script = {}
    for name in ("mymodel.py", "mydata.py"):
        exec((folder / name).read_text(), script)
    model, (inputs, targets) = script["build"](), script["load"]()["train"]
    weights = torch.load(folder / "model.pt", weights_only=True)
    draw = torch.Generator().manual_seed(seed)
    directions = [[torch.randn(weight.shape, generator=draw) for weight in weights.values()] for _ in "xy"]
    for direction in directions:
        for d, w in zip(direction, weights.values(), strict=True):
            if w.dim() <= 1:
                d.zero_()
            else:
                for k in range(len(w)):
                    d[k] *= w[k].norm() / (d[k].norm() + 1e-10)
    found = []
    for x, y in places:
        moved = [w + x * a + y * b for w, a, b in zip(weights.values(), *directions, strict=True)]
        model.load_state_dict(dict(zip(weights, moved, strict=True)))
        with torch.no_grad():
            found.append(float(torch.nn.functional.cross_entropy(model.eval()(inputs), targets)))
    return found


@pytest.mark.parametrize("name", ["figure1/model.h5", "surface.h5"])
def test_every_choice_that_nobody_made_is_said_and_the_losses_are_those_of_a_plain_loop(hour, name):
    surface = read_surface(hour.folder / name)
    line = next(line for line in hour.typed if "compute" in line or "figure " in line if (name in line or name[:7] in line))
    said, facts = hour.said[line], surface.provenance
    assert surface.shape == (31, 31) and surface.is_complete
    for told in (
        "a surface of 31 × 31 = 961 points", "x random, normalized by filter, y random, normalized by filter",
        f"seed {facts['options']['seed']}", "model: mymodel.py:build, 582 of 599 parameters move", "samples: train 60",
        "of mydata.py:load", "loss: cross_entropy", "fp32",
    ):  # fmt: skip
        assert told in said, f"{told!r} is not in what {line!r} said:\n{said}"
    for word in ("digits", "resnet", "capped", "smoothed"):
        assert word not in said
    assert facts["data"] == "mydata.py:load" and facts["samples"]["train"] == 60 and not facts["options"].get("samples")
    rows, columns = [0, 7, 15, 30, 22], [0, 30, 15, 3, 22]
    places = [(float(surface.x[i]), float(surface.y[j])) for j, i in zip(rows, columns, strict=True)]
    expected = plain_losses(hour.folder, facts["options"]["seed"], places)
    np.testing.assert_allclose(surface.metrics["train_loss"][rows, columns], expected, rtol=2e-5, atol=1e-7)


def test_the_curve_is_the_surface_along_x(hour):
    surface, curve = (read_surface(hour.folder / "figure1" / name) for name in ("model.h5", "model_curve.h5"))
    np.testing.assert_array_equal(curve.x, surface.x)
    np.testing.assert_allclose(curve.metrics["train_loss"], surface.metrics["train_loss"][15], rtol=1e-5, atol=1e-7)


def assert_print(path, inches, text):
    """A PDF of this width, its letters embedded as TrueType and none smaller than a point below the usual."""
    width, height, kinds, sizes = read_pdf(path)
    assert width == pytest.approx(inches, abs=1e-3) and height < 2 * inches
    assert "Type3" not in kinds and "CIDFontType2" in kinds and b"/FontFile2" in path.read_bytes()
    assert sizes and min(sizes) >= max(7, text - 1) and max(sizes) <= text


def test_the_figures_are_as_wide_as_asked_with_letters_that_can_be_read(hour):
    folder = hour.folder / "figure1"
    for name in ("contours.pdf", "curves.pdf"):
        assert_print(folder / name, 3.3, 8)
    assert_print(hour.folder / "slide.pdf", VENUES["slides"].width, VENUES["slides"].text)
    for name, inches in (("figure1/surfaces.png", 3.3), ("lit.png", VENUES["neurips"].width)):
        with Image.open(hour.folder / name) as picture:
            assert picture.size[0] == round(inches * 300) and picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    caption = (folder / "caption.txt").read_text()
    for part in ("mymodel.py:build", "all 60 samples of mydata.py:load", "filter-normalized", "seed 123", "ln(loss + 0.1)"):
        assert part in caption
    for name in ("surfaces.png", "contours.pdf", "curves.pdf"):
        assert f"\\includegraphics[width=3.3in]{{{name}}}" in caption


@pytest.mark.parametrize("venue", VENUES)
def test_every_venue_has_its_width_and_letters(hour, venue, tmp_path):
    for name in ("model", "model_curve"):
        done = call("render", hour.folder / f"figure1/{name}.h5", tmp_path / f"{name}.pdf", "--for", venue)
        assert done.returncode == 0, done.stderr
        assert_print(tmp_path / f"{name}.pdf", VENUES[venue].width, VENUES[venue].text)


@pytest.mark.parametrize(("left_out", "named"), [("--data mydata.py:load", "--data"), ("--model mymodel.py:build", "--model")])
def test_what_was_forgotten_is_asked_for_and_nothing_is_chosen_instead(hour, left_out, named, tmp_path):
    line = next(line for line in hour.typed if line.startswith("paraloss figure"))
    assert left_out in line
    words = line.replace(left_out, "").replace("-o figure1", f"-o {tmp_path / 'f'}").split()[1:]
    done = call(*words, cwd=hour.folder)
    assert done.returncode == 2 and named in done.stderr, done.stderr
    assert not list(tmp_path.rglob("*.h5")) and not list(tmp_path.rglob("*.png"))
