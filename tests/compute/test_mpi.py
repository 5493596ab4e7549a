"""Real ranks of MPI and of torchrun: the same surface from 1, 2 and 3 of them, killed and resumed jobs, errors on one rank.

One start of each launcher is real; where only the numbers matter, ranks that stand ready do the work (``standing``).
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import BIN, call, launcher, run
from standing import on_ranks

from paraloss.surface import read_surface

GRID = ["--x=-1:1:7", "--y=-0.5:1:4", "--samples", "100", "--splits", "train,test"]
NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10))
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """``compute`` with a small network whose batch norm has statistics of its own."""
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.py").write_text(NET)
    found = {}
    exec(NET, found)
    torch.manual_seed(1)
    net = found["build"]()
    with torch.no_grad():
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2.0)
        net[1].weight.uniform_(0.5, 1.5)
    torch.save(net.state_dict(), folder / "net.pt")
    return ["compute", "--weights", folder / "net.pt", "--model", f"{folder}/net.py:build", "--data", "digits"]


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "s.h5"
    done = call(*job, *GRID, "-o", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(path)
    return path


@pytest.mark.parametrize(
    ("ranks", "engine"),
    [
        (2, "mpi"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, "mpi"), (3, "mpi"), (2, "torch"), (3, "torch"))),
    ],
)
def test_ranks_give_the_surface_that_one_process_gives(ranks, engine, job, alone, tmp_path):
    start = on_ranks if ranks == 3 else run
    done = start(*job, *GRID, "-o", tmp_path / "s.h5", ranks=ranks, engine=engine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "s.h5")
    expected, got = read_surface(alone), read_surface(tmp_path / "s.h5", directions=True)
    assert got.is_complete
    assert got.shape == (4, 7)
    assert list(got.metrics) == list(expected.metrics)
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(got.metrics[name], values, rtol=1e-6)
    assert set(got.directions) == {"x", "y"}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["mpi", "torch"])
@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        (["--rtol", "0.02", "--x=-1:1:17", "--y=-1:1:13"], 3),
        (["--refine", "0.02", "--x=-1:1:33", "--y=-0.5:1:27", "--samples", "50"], 3),
        (["--split-data", "2", "--x=-1:1:5", "--y=-1:1:3", "--splits", "train,test"], 3),
        (["--curve", "--x=-1:1:2"], 3),  # fewer points than ranks
        (["--curve", "--x=-1:1:2", "--rtol", "0.02"], 3),
        (["--curve", "--x=-1:1:2", "--loss-cap", "1"], 3),
        (
            [
                *["--metrics", "loss,acc,grad_norm,hessian", "--bn", "recompute", "--samples", "40"],
                *["--x=-0.3:0.3:3", "--y=0:0.5:2", "--z=0:0.2:2"],
            ],
            3,
        ),
        (["--repeats=2", "--curve", "--x=-1:1:4", "--samples", "40"], 3),
    ],
)
def test_every_way_of_computing_gives_the_same_on_ranks(options, ranks, engine, job, tmp_path):
    arguments = [*job, "--precision", "fp32", *options]
    alone = [part for part in arguments if part not in ("--split-data", "2")]
    done = call(*alone, "-o", tmp_path / "one.h5")
    assert done.returncode == 0, done.stderr
    done = on_ranks(*arguments, "-o", tmp_path / "many.h5", ranks=ranks, engine=engine)
    assert done.returncode == 0, done.stderr
    expected, got = read_surface(tmp_path / "one.h5"), read_surface(tmp_path / "many.h5")
    np.testing.assert_array_equal(got.status, expected.status)
    assert list(got.metrics) == list(expected.metrics)
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(got.metrics[name], values, rtol=1e-6)
    assert f"{ranks - 1} on " in done.stderr  # which process is which rank


KILLED = ["--x=-1:1:15", "--y=-1:1:11", "--precision", "fp32"]
HOLDING = """
import os, pathlib, time
import torch
from torch import nn

FOLDER, RANK = pathlib.Path(__file__).parent, os.environ.get("PMI_RANK") or os.environ.get("RANK", "0")

class Net(nn.Module):
    passes = 0

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        if (FOLDER / "hold").exists() and (FOLDER / "s.h5").exists():
            Net.passes += 1
            time.sleep(0.03)  # results are written once a second
            while Net.passes >= int((FOLDER / "hold").read_text()):
                (FOLDER / f"held{RANK}").touch()
                time.sleep(0.05)
        return self.last(torch.tanh(self.first(x)))

def data():
    torch.manual_seed(0)
    return {"train": (torch.randn(96, 4), torch.randint(0, 3, (96,)))}
"""


@pytest.fixture
def holding(tmp_path):
    """``compute`` with a network whose ranks wait, once a file ``hold`` says so, at a pass of their own of that number."""
    (tmp_path / "net.py").write_text(HOLDING)
    torch.manual_seed(3)
    tensors = {"first.weight": (5, 4), "first.bias": (5,), "last.weight": (3, 5), "last.bias": (3,)}
    torch.save({name: torch.randn(shape) for name, shape in tensors.items()}, tmp_path / "w.pt")
    net = f"{tmp_path}/net.py"
    return ["compute", "--weights", tmp_path / "w.pt", "--model", f"{net}:Net", "--data", f"{net}:data", *KILLED]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "victim", "hold", "engine"),
    [
        *[(0, "job", 100, ""), (2, "job", 60, "mpi"), (3, "rank 1", 45, "mpi"), (2, "rank 0", 60, "mpi")],
        *[(2, "job", 60, "torch"), (2, "rank 0", 60, "torch")],
    ],
)
def test_a_job_killed_half_way_and_resumed_gives_the_same_surface(ranks, victim, hold, engine, holding, tmp_path):
    """All of it, or one rank: the job has told which process is which."""
    path = tmp_path / "s.h5"
    undisturbed = call(*holding, "-o", tmp_path / "undisturbed.h5")
    assert undisturbed.returncode == 0, undisturbed.stderr
    (tmp_path / "hold").write_text(str(hold))
    job = _held(holding, path, ranks, engine)
    if victim == "job":
        for process in (*_below(job.pid), job.pid):
            os.kill(process, signal.SIGKILL)
    else:
        _kill_rank(victim[-1], tmp_path)
    job.wait(timeout=60)
    if victim != "job":
        assert job.returncode != 0
        # mpiexec ends the others and says so; of torchrun's ranks, rank 0 writes the file
        assert ("signal 9" if engine == "mpi" else "rank 0 was killed by SIGKILL") in (tmp_path / "log").read_text()
    left = int((read_surface(path).status == 0).sum())
    assert 0 < left < 145
    (tmp_path / "hold").unlink()
    resumed = on_ranks(*holding, "-o", path, ranks=ranks, engine=engine) if ranks else call(*holding, "-o", path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming" in resumed.stderr
    np.testing.assert_allclose(read_surface(path).metric(), read_surface(tmp_path / "undisturbed.h5").metric(), rtol=1e-6)


@pytest.mark.slow
def test_a_rank_that_dies_costs_its_own_points_only(holding, tmp_path):
    """The others finish, the job says what is missing, and the same command computes it; the surface is the same to the bit."""
    path, hold = tmp_path / "s.h5", tmp_path / "hold"
    hold.write_text("20")
    job = _held(holding, path, 3, "torch")
    _kill_rank("1", tmp_path)
    time.sleep(0.5)  # the process is gone: no result of its own can come
    hold.write_text("1000000")
    job.wait(timeout=120)
    log = (tmp_path / "log").read_text()
    missing = int((read_surface(path).status == 0).sum())
    assert job.returncode != 0 and 0 < missing < 20, log
    told = [line for line in log.splitlines() if line.startswith("paraloss: ")]
    them = "1 point is missing; the same command computes it"
    if missing > 1:
        them = f"{missing} points are missing; the same command computes them"
    assert told == [f"paraloss: rank 1 was killed by SIGKILL: {them}"]
    assert "exitcode  : 2" in log and "<NO_OTHER_FAILURES>" in log
    hold.unlink()
    for ranks, engine in ((3, "torch"), (3, "mpi")):
        name = tmp_path / f"{engine}.h5"
        name.write_bytes(path.read_bytes())
        resumed = on_ranks(*holding, "-o", name, ranks=ranks, engine=engine)
        assert resumed.returncode == 0 and f"resuming: {165 - missing} of 165" in resumed.stderr
    assert call(*holding, "-o", tmp_path / "one.h5").returncode == 0
    one = read_surface(tmp_path / "one.h5").metrics
    for engine in ("torch", "mpi"):
        for name, values in read_surface(tmp_path / f"{engine}.h5").metrics.items():
            np.testing.assert_array_equal(values, one[name])


def _held(holding, path, ranks, engine):
    """A job whose ranks all wait at a point."""
    with (path.parent / "log").open("w") as log:
        job = subprocess.Popen(
            [*(launcher(ranks, engine) if ranks else []), BIN / "paraloss", *holding, "-o", path],
            start_new_session=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    deadline = time.monotonic() + 240
    while not all((path.parent / f"held{rank}").exists() for rank in range(ranks or 1)):
        assert job.poll() is None and time.monotonic() < deadline, (path.parent / "log").read_text()
        time.sleep(0.05)
    return job


def _kill_rank(rank, folder):
    told = re.search(rf"{rank} on \S+ \(pid (\d+)", (folder / "log").read_text())
    os.kill(int(told[1]), signal.SIGKILL)


def _below(process):
    """The processes that a process has started, and theirs, in no order."""
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield from _below(child)
            yield child


def test_a_finished_file_is_left_as_it_is(job, alone):
    before = alone.read_bytes()
    done = call(*job, *GRID, "-o", alone)
    assert done.returncode == 0
    assert alone.read_bytes() == before


@pytest.mark.parametrize("engine", ["mpi", pytest.param("torch", marks=pytest.mark.slow)])
def test_an_error_in_the_middle_of_a_job_ends_all_ranks_with_one_line(engine, job, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import pathlib, torch\ncalls = 0\n"
        "def loss(outputs, targets):\n"
        "    global calls\n    calls += pathlib.Path(__file__).with_name('s.h5').exists()  # after all that is tried before\n"
        "    if calls > 4:\n        raise ValueError('out of luck')\n"
        "    return torch.nn.functional.cross_entropy(outputs, targets)\n"
    )
    done = on_ranks(*job, *GRID, "--loss", f"{tmp_path}/bad.py:loss", "-o", tmp_path / "s.h5", ranks=3, engine=engine)
    assert done.returncode == 2
    assert "out of luck" in done.stderr
    assert "Traceback" not in done.stderr
    assert (read_surface(tmp_path / "s.h5").status == 1).sum() >= 1


def test_a_second_job_on_the_same_file_is_refused(job, tmp_path):
    from filelock import FileLock

    path = tmp_path / "s.h5"
    with FileLock(tmp_path / ".s.h5.lock"):
        done = call(*job, *GRID, "-o", path)
    assert done.returncode == 2
    assert "another job" in done.stderr


def test_other_settings_are_refused_and_overwrite_starts_again(job, alone, tmp_path):
    path = tmp_path / "s.h5"
    path.write_bytes(alone.read_bytes())
    arguments = [*job, *GRID, "--seed", "7", "-o", path]
    refused = call(*arguments)
    assert refused.returncode == 2
    assert "directions.x.seed is 123 there, 7 now" in refused.stderr
    assert path.read_bytes() == alone.read_bytes()
    shared = on_ranks(*arguments, ranks=2)  # an error that one rank found names the flags, as on one process
    assert shared.returncode == 2
    for done in (refused, shared):
        assert "Use --overwrite to start again, or another --output to keep both" in done.stderr
    assert call(*arguments, "--overwrite").returncode == 0
    with h5py.File(path) as file:
        assert b'"seed": 7' in file.attrs["fingerprint"]
