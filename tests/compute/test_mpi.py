"""Real ranks: the same surface from 1, 2 and 3 of them, killed and resumed jobs, errors on one rank."""

import os
import re
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest
from helpers import BIN, call, run

from paraloss.surface import read_surface

GRID = ["--x=-1:1:7", "--y=-0.5:1:4", "--samples", "100", "--splits", "train,test"]


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "s.h5"
    done = call("compute", "--weights", trained / "final.pt", *GRID, "-o", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(path)
    return path


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_give_the_surface_that_one_process_gives(ranks, trained, alone, tmp_path):
    done = run("compute", "--weights", trained / "final.pt", *GRID, "-o", tmp_path / "s.h5", ranks=ranks)
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
@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        (["--rtol", "0.02", "--x=-1:1:17", "--y=-1:1:13"], 2),
        (["--refine", "0.02", "--x=-1:1:33", "--y=-0.5:1:27", "--samples", "50"], 3),
        (["--split-data", "2", "--x=-1:1:5", "--y=-1:1:3", "--splits", "train,test"], 3),
        (["--x=-1:1:2"], 3),  # fewer points than ranks
        (
            [
                *["--metrics", "loss,acc,grad_norm,hessian", "--bn", "recompute", "--samples", "40"],
                *["--x=-0.3:0.3:3", "--y=0:0.5:2", "--z=0:0.2:2"],
            ],
            3,
        ),
        (["--repeats=2", "--x=-1:1:4", "--samples", "40"], 2),
    ],
)
def test_every_way_of_computing_gives_the_same_on_ranks(options, ranks, trained, tmp_path):
    arguments = ["compute", "--weights", trained / "final.pt", "--precision", "fp32", *options]
    alone = [part for part in arguments if part not in ("--split-data", "2")]
    for name, launched, number in (("one.h5", alone, 0), ("many.h5", arguments, ranks)):
        done = run(*launched, "-o", tmp_path / name, ranks=number)
        assert done.returncode == 0, done.stderr
    expected, got = read_surface(tmp_path / "one.h5"), read_surface(tmp_path / "many.h5")
    np.testing.assert_array_equal(got.status, expected.status)
    assert list(got.metrics) == list(expected.metrics)
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(got.metrics[name], values, rtol=1e-6)
    assert f"{ranks - 1} on " in done.stderr  # which process is which rank


KILLED = ["--x=-1:1:15", "--y=-1:1:11", "--precision", "fp32"]


@pytest.fixture(scope="module")
def undisturbed(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "s.h5"
    done = call("compute", "--weights", trained / "final.pt", *KILLED, "-o", path)
    assert done.returncode == 0, done.stderr
    return read_surface(path).metric()


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "victim"), [(0, "job"), (2, "job"), (3, "rank 1"), (2, "rank 0")])
def test_a_job_killed_half_way_and_resumed_gives_the_same_surface(ranks, victim, trained, undisturbed, tmp_path):
    """All of it, or one rank: the job has told which process is which."""
    arguments = ["compute", "--weights", trained / "final.pt", *KILLED]
    path = tmp_path / "s.h5"
    launcher = [BIN / "mpiexec", "-n", str(ranks)] if ranks else []
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            [*launcher, BIN / "paraloss", *arguments, "-o", path],
            start_new_session=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and (read_surface(path).status != 0).sum() > 20:
            break
        time.sleep(0.05)
    if victim == "job":
        os.killpg(job.pid, signal.SIGKILL)
    else:
        told = re.search(rf"{victim[-1]} on \S+ \(pid (\d+)", (tmp_path / "log").read_text())
        os.kill(int(told[1]), signal.SIGKILL)
    job.wait(timeout=60)
    time.sleep(0.5)  # mpiexec's helpers end with it
    if victim != "job":
        assert job.returncode != 0
        assert "signal 9" in (tmp_path / "log").read_text()  # mpiexec ends the others and says so
    left = int((read_surface(path).status == 0).sum())
    assert 0 < left < 145
    resumed = run(*arguments, "-o", path, ranks=ranks)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming" in resumed.stderr
    np.testing.assert_allclose(read_surface(path).metric(), undisturbed, rtol=1e-6)


def test_a_finished_file_is_left_as_it_is(trained, alone):
    before = alone.read_bytes()
    done = call("compute", "--weights", trained / "final.pt", *GRID, "-o", alone)
    assert done.returncode == 0
    assert alone.read_bytes() == before


def test_an_error_in_the_middle_of_a_job_ends_all_ranks_with_one_line(trained, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import pathlib, torch\ncalls = 0\n"
        "def loss(outputs, targets):\n"
        "    global calls\n    calls += pathlib.Path(__file__).with_name('s.h5').exists()  # after all that is tried before\n"
        "    if calls > 4:\n        raise ValueError('out of luck')\n"
        "    return torch.nn.functional.cross_entropy(outputs, targets)\n"
    )
    done = run(
        "compute",
        "--weights",
        trained / "final.pt",
        *GRID,
        "--loss",
        f"{tmp_path}/bad.py:loss",
        "-o",
        tmp_path / "s.h5",
        ranks=2,
    )
    assert done.returncode == 2
    assert "out of luck" in done.stderr
    assert "Traceback" not in done.stderr
    assert (read_surface(tmp_path / "s.h5").status == 1).sum() >= 1


def test_a_second_job_on_the_same_file_is_refused(trained, tmp_path):
    from filelock import FileLock

    path = tmp_path / "s.h5"
    with FileLock(tmp_path / ".s.h5.lock"):
        done = call("compute", "--weights", trained / "final.pt", *GRID, "-o", path)
    assert done.returncode == 2
    assert "another job" in done.stderr


def test_other_settings_are_refused_and_overwrite_starts_again(trained, alone, tmp_path):
    path = tmp_path / "s.h5"
    path.write_bytes(alone.read_bytes())
    arguments = ["compute", "--weights", trained / "final.pt", *GRID, "--seed", "7", "-o", path]
    refused = call(*arguments)
    assert refused.returncode == 2
    assert "directions.x.seed is 123 there, 7 now" in refused.stderr
    assert path.read_bytes() == alone.read_bytes()
    on_ranks = run(*arguments, ranks=2)  # an error that one rank found names the flags, as on one process
    assert on_ranks.returncode == 2
    for done in (refused, on_ranks):
        assert "Use --overwrite to start again, or another --output to keep both" in done.stderr
    assert call(*arguments, "--overwrite").returncode == 0
    with h5py.File(path) as file:
        assert b'"seed": 7' in file.attrs["fingerprint"]
