"""Every code block of README.md and the guides runs, in order, as a reader would type it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import BIN
from prepared import Prepared
from torch import nn

from paraloss.cli import VERBS, app
from paraloss.compute import load_data

HOUSE = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(<!-- not run: .*? -->\n)?```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

MYMODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""
MYDATA = """
from paraloss.compute import load_data

def load():
    return {name: (split.inputs, split.targets) for name, split in load_data("digits").items()}
"""
PREAMBLE = """
import torch
from torch import nn
from paraloss.compute import load_data
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
inputs, targets = load_data("digits")["train"].inputs, load_data("digits")["train"].targets
"""


def blocks(document):
    """(language, what follows it on the line, text) of each block that is meant to be run."""
    text = (HOUSE / document).read_text()
    return [(language, rest, code) for skipped, language, rest, code in FENCE.findall(text) if not skipped]


@pytest.fixture(scope="module")
def prepared():
    """Commands and Python blocks are processes of their own, less the seconds that each takes to import torch."""
    with Prepared() as process:
        yield process


def run_document(document, folder, prepared):
    """Run all blocks of a document in ``folder``; a python block with a title is a file of that name."""
    path = f"{prepared.folder}:{BIN}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    environment.pop("DISPLAY", None)
    ran = 0
    for language, rest, code in blocks(document):
        title = re.search(r'title="([^"]+)"', rest)
        if title:
            (folder / title[1]).write_text(code)
            continue
        assert language in ("bash", "python"), f"{document}: a block in {language} is neither run nor excused"
        if language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", code]
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
            )
        else:
            done = prepared.python((PREAMBLE if "model = " not in code else "") + code, folder, environment, timeout=240)
        assert done.returncode == 0, f"{document}:\n{code}\n{done.stderr[-1500:]}"
        ran += 1
    return ran


@pytest.mark.slow
def test_tutorial_and_pictures(tmp_path, prepared):
    assert run_document("docs/tutorial.md", tmp_path, prepared) == 6
    assert run_document("docs/pictures.md", tmp_path, prepared) == 4
    for name in ("surface.html", "surface.pdf", "turn.gif", "surface.glb", "series.pvd", "two.png", "path.png"):
        assert (tmp_path / name).stat().st_size > 100, name


@pytest.mark.slow
def test_own_models(tmp_path, monkeypatch, prepared):
    # A torchvision of another torch, as beside a torch without CUDA, cannot be imported, and transformers would try it.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torchvision'] = None\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert run_document("docs/own.md", tmp_path, prepared) == 7
    assert (tmp_path / "language.png").stat().st_size > 10_000
    assert (tmp_path / "roads.png").stat().st_size > 10_000


@pytest.mark.slow
def test_readme(tmp_path, prepared):
    (tmp_path / "mymodel.py").write_text(MYMODEL)
    (tmp_path / "mydata.py").write_text(MYDATA)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).state_dict(), tmp_path / "model.pt")
    subprocess.run(
        [str(prepared.folder / "paraloss"), "train", "--model", "mlp", "--epochs", "2", "-o", str(tmp_path / "run")],
        check=True, capture_output=True,
    )  # fmt: skip
    assert run_document("README.md", tmp_path, prepared) == 3


@pytest.mark.parametrize("document", ["docs/usage.md", "docs/hpc.md", "docs/file-format.md", "docs/paraview.md"])
def test_blocks_that_need_a_cluster_or_a_window_name_commands_and_options_that_exist(document):
    """They are not run; each option of ``paraloss`` in them is known to the verb's help."""
    for line in re.findall(r"paraloss [^\n`|]*", (HOUSE / document).read_text()):
        words = line.split()
        verb = words[1] if len(words) > 1 else ""
        options = [word.split("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]+(=.*)?", word)]
        if not re.fullmatch(r"[a-z]+", verb) or not options:
            continue
        if verb in VERBS:
            known = {name for argument in app[verb].assemble_argument_collection() for name in argument.names}
            for option in options:
                assert option in known or option in ("--quiet", "--verbose", "--help"), f"{document}: {line}"


def test_digits_are_what_the_documents_say():
    assert sum(len(split) for split in load_data("digits").values()) == 1797


@pytest.mark.slow
def test_checkpoints_and_what_moves_run_as_written(tmp_path, prepared):
    assert run_document("docs/weights.md", tmp_path, prepared) == 1


@pytest.mark.slow
def test_connected_minima_run_as_written(tmp_path, prepared):
    assert run_document("docs/connect.md", tmp_path, prepared) == 1
    assert (tmp_path / "best.pt").exists() and (tmp_path / "way" / "plane.h5").exists()
