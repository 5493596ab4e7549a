"""The same surface on every rank and on every day: seeds, what ranks compare, a finished point evaluated again."""

import subprocess
import sys
from functools import partial

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import BIN, call
from standing import on_ranks
from torch import nn

from paraloss.compute import compute_surface
from paraloss.errors import SurfaceFileError
from paraloss.surface import read_surface

DRAWS = """
import random
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 5)
        self.mask = torch.rand(6) + 0.5          # neither parameter nor buffer

    def forward(self, x):
        return self.out(x * self.mask)

def data():
    inputs = torch.randn(60, 6) + np.random.rand()
    rows = torch.utils.data.TensorDataset(inputs, inputs.sum(1).abs().long() % 5)
    return torch.utils.data.random_split(rows, [40, 20])[0]
"""


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("draws")
    (folder / "draws.py").write_text(DRAWS)
    torch.manual_seed(0)
    torch.save({"out.weight": torch.randn(5, 6), "out.bias": torch.zeros(5)}, folder / "w.pt")
    return folder


@pytest.mark.slow
def test_code_that_draws_gives_every_rank_and_every_day_the_same_problem(drawing, tmp_path):
    command = [
        "compute",
        "--weights",
        drawing / "w.pt",
        "--model",
        f"{drawing}/draws.py:Net",
        "--data",
        f"{drawing}/draws.py:data",
    ]
    surfaces = []
    for ranks in (0, 0, 2):
        start = partial(on_ranks, ranks=ranks) if ranks else call
        done = start(*command, "--x=-1:1:5", "--y=-1:1:4", "-o", tmp_path / f"{len(surfaces)}.h5")
        assert done.returncode == 0, done.stderr
        surfaces.append(read_surface(tmp_path / f"{len(surfaces)}.h5").metric())
    np.testing.assert_array_equal(surfaces[0], surfaces[1])
    np.testing.assert_allclose(surfaces[2], surfaces[0], rtol=1e-6)


SCRIPT = """
import pathlib
import torch
from torch import nn
from mpi4py import MPI
from paraloss.compute import compute_surface
rank, lines = MPI.COMM_WORLD.rank, []
for name in ("nothing", "weights", "data", "loss"):
    torch.manual_seed(rank if name == "weights" else 0)
    model = nn.Linear(6, 5)
    torch.manual_seed(rank if name == "data" else 0)
    data = torch.randn(40, 6), torch.randint(0, 5, (40,))
    factor = 1 + rank if name == "loss" else 1
    def loss(outputs, targets):
        return factor * nn.functional.cross_entropy(outputs, targets, reduction="none")
    try:
        compute_surface(model, loss, data, x=(-1, 1, 5), progress=False)
        lines.append(f"{name}: done")
    except Exception as error:
        lines.append(f"{name}: {type(error).__name__}: {error}")
pathlib.Path(__file__).with_name(f"rank{rank}").write_text("\\n".join(lines))
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The lines of two ranks whose problems differ in one thing after the other."""
    script = tmp_path_factory.mktemp("differ") / "script.py"
    script.write_text(SCRIPT)
    command = [str(BIN / "mpiexec"), "-n", "2", sys.executable, str(script)]
    subprocess.run(command, check=True, timeout=240)
    return [script.with_name(f"rank{rank}").read_text().splitlines() for rank in range(2)]


@pytest.mark.parametrize(
    ("differing", "line"),
    [
        ("nothing", "done"),
        ("weights", "InputError: rank 1 has other weights than rank 0"),
        ("data", "InputError: rank 1 has other data than rank 0"),
        ("loss", "rank 1 finds the loss"),
    ],
)
def test_ranks_with_different_problems_are_refused(differing, line, reported):
    for lines in reported:  # of both ranks
        (found,) = [each for each in lines if each.startswith(f"{differing}: ")]
        assert line in found


def problem(activation=nn.ReLU):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), activation(), nn.Linear(16, 5))
    return model, (torch.randn(300, 6), torch.randint(0, 5, (300,)))


def smoothed(amount):
    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=amount)

    return loss


@pytest.mark.parametrize("options", [{}, {"rtol": 0.2}, {"loss_cap": 2.0}, {"refine": 0.3}], ids=str)
@pytest.mark.parametrize("complete", [True, False])
def test_a_file_of_another_loss_or_model_is_not_continued(options, complete, tmp_path):
    path = tmp_path / "s.h5"
    settings = {"x": (-1, 1, 9), "y": (-1, 1, 9), "path": path, "precision": "fp32", "progress": False, **options}
    model, data = problem()
    surface = compute_surface(model, smoothed(0.0), data, **settings)
    if not complete:
        with h5py.File(path, "r+") as file:
            file["status"][:3] = 0
    for changed, loss in ((problem(nn.Tanh)[0], smoothed(0.0)), (model, smoothed(0.1))):
        with pytest.raises(SurfaceFileError, match="has changed since") as caught:
            compute_surface(changed, loss, data, **settings)
        assert "\n" not in str(caught.value)
    again = compute_surface(model, smoothed(0.0), data, **settings)
    np.testing.assert_allclose(again.metric(), surface.metric(), rtol=1e-5)


@pytest.mark.slow
def test_a_changed_loss_is_refused_on_ranks_too(drawing, tmp_path):
    command = [
        "compute",
        "--weights",
        drawing / "w.pt",
        "--model",
        f"{drawing}/draws.py:Net",
        "--data",
        f"{drawing}/draws.py:data",
    ]
    (tmp_path / "loss.py").write_text("import torch\ndef f(o, t):\n    return torch.nn.functional.cross_entropy(o, t)\n")
    command += ["--loss", tmp_path / "loss.py:f", "--curve", "--x=-1:1:5", "-o", tmp_path / "s.h5"]
    assert on_ranks(*command, ranks=2).returncode == 0
    (tmp_path / "loss.py").write_text(
        "import torch\ndef f(o, t):\n    return torch.nn.functional.cross_entropy(o, t, label_smoothing=0.1)\n"
    )
    for start in (call, on_ranks):
        done = start(*command)
        assert done.returncode == 2
        assert "has changed since" in done.stderr


def test_points_left_early_do_not_depend_on_the_batch_size(digits, small_net):
    surfaces = [
        compute_surface(
            small_net,
            "cross_entropy",
            {"train": digits["train"]},
            curve=True,
            x=(-1, 1, 5),
            loss_cap=2.0,
            batch_size=size,
            progress=False,
        )
        for size in (32, 500)
    ]
    np.testing.assert_array_equal(surfaces[0].metrics["train_samples"], surfaces[1].metrics["train_samples"])
    assert surfaces[0].metrics["train_samples"].min() < len(digits["train"])
    np.testing.assert_allclose(surfaces[0].metric(), surfaces[1].metric(), rtol=1e-5)
