"""What is mailed and what a paper takes: an archive that opens without an installation, and all figures by one command."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from helpers import call, needs_paraview, surface_of, under_display
from PIL import Image
from torch import nn

from paraloss import read_surface
from paraloss.rendering.caption import caption
from paraloss.rendering.one_file_plugin import one_file_plugin

FACTS = {
    "model": "resnet20", "model_args": {"width": 2}, "data": "digits", "samples": {"train": 100}, "samples_of": {"train": 1437},
    "criterion": "cross_entropy", "directions": [{"norm": "filter"}] * 2, "seed": 7, "checkpoint": "final.pt",
    "precision": "fp32", "trained": {"test_acc": 97.25},
}  # fmt: skip


def bowl(x, y):
    return 0.25 + x**2 + 2 * y**2


def test_a_caption_says_what_the_file_records():
    text = caption(replace(surface_of(bowl, 5, 9, half=2.0), provenance=FACTS), "with shortcuts")
    for part in (
        "with shortcuts: Train loss (cross entropy) of resnet20 (width=2), on 100 of 1,437 samples of digits (train).",
        "Two random Gaussian directions around final.pt, filter-normalized, seed 7.",
        "5 × 9 points, x from -2 to 2, y from -2 to 2; values from 0.25 to 12.25.",
        "Heights are ln(loss + 0.1).",
        "Test accuracy 97.2 %.",
        "in fp32",
    ):
        assert part in text
    assert "\x1b" not in caption(replace(surface_of(bowl), provenance={"model": "\x1b[31m", "samples": 3, "directions": [4]}))
    path = {name: np.array([0.5, 0.0]) for name in ("x", "y", "loss", "step", "residual")}
    assert "Path of SGD: 2 checkpoints, own loss 0.5 to 0," in caption(surface_of(bowl).with_paths({"SGD": path, "Adam": path}))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("share")
    surface = replace(surface_of(bowl, 11, 9), provenance=FACTS, directions={"x": {"w": np.ones((50, 50))}})
    surface.save(folder / "bowl.h5")
    done = call("share", folder / "bowl.h5", "-o", folder / "bowl.zip")
    assert done.returncode == 0, done.stderr
    return folder / "bowl.zip"


def test_the_archive_holds_page_picture_caption_data_and_plugin(archive, tmp_path):
    with ZipFile(archive) as file:
        file.extractall(tmp_path)
        names = sorted(file.namelist())
    endings = ("README.txt", "bowl.h5", "bowl.html", "bowl.png", "bowl.txt", "bowl.vts", "paraloss_plugin.py")
    assert names == [f"bowl/{name}" for name in endings]
    surface = read_surface(tmp_path / "bowl/bowl.h5", directions=True)
    assert not surface.directions and surface.metrics["train_loss"][4, 5] == 0.25
    assert caption(surface) in (tmp_path / "bowl/bowl.txt").read_text()
    with Image.open(tmp_path / "bowl/bowl.png") as picture:
        assert picture.size == (1600, 900)
    done = call("share", archive.with_name("bowl.h5"), "-o", archive)  # its own, again
    assert done.returncode == 0
    (tmp_path / "mine.zip").write_bytes(b"mine")
    for target, why in (("mine.zip", "--overwrite"), ("s.tar", "ends in .zip")):
        done = call("share", archive.with_name("bowl.h5"), "-o", tmp_path / target)
        assert done.returncode == 2 and why in done.stderr
    assert (tmp_path / "mine.zip").read_bytes() == b"mine"


def test_the_plugin_carries_all_that_it_imports(tmp_path):
    """Load what it carries in a bare Python: from the archive alone, with neither torch nor pyvista nor the command line."""
    head = one_file_plugin().split("import inspect")[0]
    (tmp_path / "carried.py").write_text(
        head + "from paraloss.paraview_plugin.parts import extents, messages, properties, reading\n"
        "import paraloss.converters.geometry, paraloss.converters.paths, paraloss.surface.reader, sys\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert '.zip' in paraloss.__file__ and '.zip' in reading.__file__, paraloss.__file__\n"
        "assert not loaded & {'torch', 'pyvista', 'mpi4py', 'cyclopts', 'matplotlib'}, loaded\n"
    )
    hidden = "import sys; sys.path = [p for p in sys.path if 'links' not in p]; import runpy; runpy.run_path('carried.py')"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.paraview
def test_the_plugin_opens_the_mailed_surface_in_paraview_from_an_empty_folder(archive, tmp_path):
    needs_paraview()
    with ZipFile(archive) as file:
        file.extractall(tmp_path)
    script = tmp_path / "look.py"
    script.write_text(
        f"import inspect, os\nos.chdir({str(tmp_path / 'bowl')!r})\n"
        "inspect.getargspec = getattr(inspect, 'getargspec', inspect.getfullargspec)\n"
        "from paraview import simple\n"
        "simple.LoadPlugin('paraloss_plugin.py', remote=False, ns=globals())\n"
        "reader = LossSurfaceReader(FileNames=['bowl.h5'])\nreader.UpdatePipeline()\n"
        "lines = SurfaceContours(Input=reader)\nlines.UpdatePipeline()\n"
        "grid = simple.XMLStructuredGridReader(FileName=['bowl.vts'])\n"
        "lowest = MinimumMarker(Input=grid)\nlowest.UpdatePipeline()\n"
        "print('SEEN', reader.GetDataInformation().GetNumberOfPoints(), lines.GetDataInformation().GetNumberOfPoints() > 0,\n"
        "      lowest.PointData['value'].GetRange()[0])\n"
    )
    done = under_display(["pvpython", str(script)])
    found = re.search(r"SEEN (\d+) True ([\d.]+)", done.stdout)
    assert found and int(found[1]) == 99 and float(found[2]) == pytest.approx(0.25, rel=1e-5), done.stdout + done.stderr


@pytest.mark.slow
def test_one_command_makes_all_figures_of_two_networks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net(): return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))\n"
        "def data(): return torch.linspace(-1, 1, 60).reshape(20, 3), torch.arange(20) % 2\n"
    )
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        torch.save(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).state_dict(), f"{name}.pt")
    wanted = ["figure", "--weights", "a.pt", "b.pt", "--model", "net.py:net", "--data", "net.py:data", "--x=-1:1:5"]
    done = call(*wanted, "-o", "fig", "--width", "3.3in")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path("fig").iterdir()) == [
        "a.h5", "a_curve.h5", "b.h5", "b_curve.h5", "caption.txt", "contours.pdf", "curves.pdf",
        "surfaces.html", "surfaces.png",
    ]  # fmt: skip
    assert done.stdout.split() == [
        f"fig/{n}" for n in ("surfaces.png", "contours.pdf", "curves.pdf", "surfaces.html", "caption.txt")
    ]
    one, curve = read_surface("fig/a.h5"), read_surface("fig/a_curve.h5")
    assert one.shape == (5, 5) and curve.shape == (5,)
    np.testing.assert_allclose(curve.metrics["train_loss"], one.metrics["train_loss"][2], rtol=1e-6)
    text = Path("fig/caption.txt").read_text()
    assert caption(one) in text and r"\includegraphics[width=3.3in]{contours.pdf}" in text
    again = call(*wanted, "-o", "fig")
    assert again.returncode == 0 and "25 of 25 points are finished already" in again.stderr
    Path("own").mkdir()
    Path("own/contours.pdf").write_text("mine")
    refused = call(*wanted, "-o", "own")
    assert refused.returncode == 2 and "contours.pdf" in refused.stderr and len(list(Path("own").iterdir())) == 1
