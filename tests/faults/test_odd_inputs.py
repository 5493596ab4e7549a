"""Models, data, weights and numbers that do not fit: one line, exit code 2, and nothing is left behind."""

import warnings

import numpy as np
import pytest
import torch
from helpers import call, surface_of

from paraloss.compute.options.steps import MOST_POINTS, MOST_STEPS

MINE = """
import numpy as np
import torch

def model(): return torch.nn.Sequential(torch.nn.Linear(4, 3))
def on_meta():
    with torch.device("meta"):
        return model()
def empty_model(): return torch.nn.Sequential(torch.nn.Flatten())
def inputs(): return torch.ones(12, 4)
def data(): return {"train": (inputs(), torch.arange(12) % 3)}
def floats(): return {"train": (inputs(), torch.rand(12))}
def beyond(): return {"train": (inputs(), torch.arange(12))}
def negative(): return {"train": (inputs(), torch.arange(12) - 20)}
def batches(): return {"train": [{"x": torch.ones(4, 4), "y": torch.arange(4) % 3}] * 3}
def no_samples(): return {"train": (torch.ones(0, 4), torch.zeros(0, dtype=torch.long))}
def no_splits(): return {}
def leaves(): raise SystemExit(3)
def objects(): return {"train": (np.array([{}, 1, 2], dtype=object), np.zeros(3, int))}
def complex_numbers(): return {"train": (inputs().to(torch.complex64), torch.arange(12) % 3)}
def larger_than_memory(): return {"train": (torch.zeros(1).expand(10**13, 4), torch.zeros(1, dtype=torch.int32).expand(10**13))}
"""
DATA = [
    "beyond",
    "negative",
    "batches",
    "no_samples",
    "no_splits",
    "leaves",
    "objects",
    "complex_numbers",
    "larger_than_memory",
]
OWN = ["--model", "mine.py:model", "--data", "mine.py:data"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    state = {"0.weight": torch.randn(3, 4), "0.bias": torch.zeros(3)}
    with warnings.catch_warnings(action="ignore"):  # a prototype, says torch
        nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    odd = {
        "meta": torch.empty(3, 4, device="meta"),
        "nested": nested,
        "nan": torch.full((3, 4), float("nan")),
        "repeated": torch.zeros(1).expand(10**11, 4),
        "sparse": state["0.weight"].to_sparse(),
        "wvu": state["0.weight"],
    }
    for name, weight in odd.items():
        torch.save({"state_dict": {**state, "0.weight": weight}}, tmp_path / f"{name}.pt")
    surface_of(lambda x, y: x**2 + y**2 + 0.1, 5, 5).save(tmp_path / "s.h5")
    return tmp_path


def refused(folder, *command):
    """The one line of a command that must be refused and leave nothing."""
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    done = call(*command, cwd=folder)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("paraloss: ")]
    assert len(lines) == 1 and "internal error" not in lines[0], done.stderr
    after = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert after - before == set(), after - before
    return lines[0]


@pytest.mark.parametrize("data", [*DATA, "floats"])
def test_data_that_do_not_fit_are_refused_by_training(folder, data):
    refused(folder, "train", *OWN[:2], "--data", f"mine.py:{data}", "--epochs", "1", "-o", "out")


@pytest.mark.parametrize("data", DATA)
def test_data_that_do_not_fit_are_refused_before_a_surface_is_begun(folder, data):
    refused(folder, "compute", "--weights", "wvu.pt", *OWN[:2], "--data", f"mine.py:{data}", "--x=-1:1:3", "-o", "out.h5")


@pytest.mark.parametrize("model", ["on_meta", "empty_model"])
def test_a_model_without_numbers_is_not_trained(folder, model):
    refused(folder, "train", "--model", f"mine.py:{model}", *OWN[2:], "--epochs", "1", "-o", "out")


@pytest.mark.parametrize("weights", ["meta", "nested", "repeated"])
@pytest.mark.parametrize("verb", ["compute", "towards", "project", "histogram", "hessian"])
def test_weights_without_numbers_are_refused_by_every_verb(folder, weights, verb):
    commands = {
        "compute": ["compute", "--weights", f"{weights}.pt", *OWN, "--x=-1:1:3", "-o", "out.h5"],
        "towards": ["compute", "--weights", "wvu.pt", "--x-to", f"{weights}.pt", *OWN, "--x=-1:1:3", "-o", "out.h5"],
        "project": ["project", "wvu.pt", f"{weights}.pt", "sparse.pt", *OWN, "--points", "3", "-o", "out.h5"],
        "histogram": ["histogram", f"{weights}.pt", "out.png"],
        "hessian": ["hessian", "--weights", f"{weights}.pt", *OWN, "--top", "1", "-o", "out.h5"],
    }
    assert f"{weights}.pt" in refused(folder, *commands[verb])


def test_weights_that_are_not_finite_have_no_place_in_a_plane(folder):
    line = refused(folder, "project", "wvu.pt", "nan.pt", "sparse.pt", *OWN, "--points", "3", "-o", "out.h5")
    assert "nan.pt" in line


def test_sparse_weights_are_the_same_weights(folder):
    for name in ("wvu", "sparse"):
        command = ["compute", "--weights", f"{name}.pt", *OWN, "--x=-1:1:3", "--precision", "fp32", "-o", f"{name}.h5"]
        assert call(*command, cwd=folder).returncode == 0
    from paraloss import read_surface

    np.testing.assert_array_equal(read_surface(folder / "wvu.h5").metric(), read_surface(folder / "sparse.h5").metric())
    assert call("compute", "--weights", "wvu.pt", "--x-to", "sparse.pt", *OWN, "--x=0:1:2", cwd=folder).returncode == 0


NUMBERS = [
    ["--x=-1:1:2000000000"], ["--x=-1:1:100000", "--y=-1:1:100000"], ["--x=-1:1:900", "--y=-1:1:900", "--z=-1:1:900"],
    ["--x=-1e300:1e300:3"], ["--x=0:1:1e3"],
    *(["--x=0:1:3", f"--batch-size={text}"] for text in ("2.5", "0", "-1", "nan", "9" * 20)),
    *(["--x=0:1:3", f"--seed={text}"] for text in ("9" * 25, "-" + "9" * 25, "1.5")), ["--x=0:1:3", "--repeats", "2000000000"],
    *(["--x=0:1:3", f"--{name}={text}"] for name in ("rtol", "loss-cap", "point-timeout") for text in ("nan", "inf", "1e400")),
    ["--x=0:1:3", "--samples", "9" * 20],
]  # fmt: skip


@pytest.mark.parametrize("options", NUMBERS, ids=" ".join)
def test_numbers_beyond_stated_limits_are_refused(folder, options):
    refused(folder, "compute", "--weights", "wvu.pt", *OWN, *options, "-o", "out.h5")


def test_the_limits_are_stated(folder):
    base = ["compute", "--weights", "wvu.pt", *OWN, "-o", "out.h5"]
    assert f"{MOST_STEPS:,}" in refused(folder, *base, "--x=-1:1:2000000000")
    assert f"{MOST_POINTS:,}" in refused(folder, *base, "--x=-1:1:100000", "--y=-1:1:100000")
    assert "1,000" in refused(folder, "convert", "s.h5", "out.vts", "--smooth", "2000000000")
    assert "10,000" in refused(
        folder, "project", "wvu.pt", "sparse.pt", "nan.pt", *OWN, "--points", "2000000000", "-o", "out.h5"
    )
    for option in ("--lr=1e300", "--weight-decay=1e300", "--batch-size=" + "9" * 20, "--seed=" + "9" * 20):
        assert "at most" in refused(folder, "train", *OWN, "--epochs", "1", option, "-o", "out")
    refused(folder, "analyze", "s.h5", "--radius", "1e308")
