"""Jobs that are killed, cut off, starved and damaged: what was finished stays, and the end result is the undisturbed one."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest
import torch
from helpers import BIN, call, run
from torch import nn

from paraloss.compute import compute_surface
from paraloss.errors import InputError, ParalossError, SurfaceFileError
from paraloss.surface import SurfaceWriter, read_directions, read_surface
from paraloss.surface.repair import repair

KILLS = 50


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()


def job(digits, path, **options):
    chosen = {"x": (-1, 1, 25), "y": (-1, 1, 19), "precision": "fp32", "progress": False, **options}
    return compute_surface(network(), data={"train": digits["train"].subset(64)}, path=path, **chosen)


@pytest.mark.slow
def test_fifty_kills_at_random_moments_leave_the_undisturbed_surface(digits, tmp_path, monkeypatch):
    """Each child is a process of its own that computes for real and dies by SIGKILL, in a write or between two."""
    torch.set_num_threads(1)
    expected = job(digits, None)
    monkeypatch.setattr(SurfaceWriter, "flush_every_s", 0.0)  # as many writes to be killed in as there are points
    dice, kills, finished, path = random.Random(7), 0, 0, tmp_path / "s.h5"
    progress, longest = [], 0.12
    while kills < KILLS or not finished:
        child = os.fork()
        if child == 0:
            try:
                job(digits, path)
            finally:
                os._exit(0)
        time.sleep(dice.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        longest *= 1.02  # a busy machine gets further from time to time, too
        if path.exists():
            partial = read_surface(path)
            done = partial.status == 1
            progress.append(int(done.sum()))
            np.testing.assert_allclose(partial.metric()[done], expected.metric()[done], rtol=1e-6)
            if partial.is_complete:
                np.testing.assert_allclose(partial.metric(), expected.metric(), rtol=1e-6)
                finished += 1
                path.unlink()
    job(digits, path)
    np.testing.assert_allclose(read_surface(path).metric(), expected.metric(), rtol=1e-6)
    assert any(0 < count < expected.status.size for count in progress)  # some died in the middle
    assert {file.suffix for file in tmp_path.iterdir()} <= {".h5", ".lock", ".tmp"}


@pytest.mark.slow
def test_killed_mpiexec_leaves_no_rank_behind_and_the_file_goes_on(trained, tmp_path):
    path = tmp_path / "s.h5"
    command = ["compute", "--weights", trained / "final.pt", "--x=-1:1:21", "--y=-1:1:21", "--samples", "100", "-o", path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launched = subprocess.Popen(
        [str(BIN / "mpiexec"), "-n", "2", str(BIN / "paraloss"), *map(str, command)], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while time.monotonic() < until and not (path.exists() and (read_surface(path).status == 1).sum() > 20):
        time.sleep(0.1)
    launched.kill()
    launched.wait()
    time.sleep(2)
    left = subprocess.run(["pgrep", "-f", str(path)], capture_output=True, text=True, check=False).stdout.split()
    for process in left:  # a launcher that dies by SIGKILL cannot always take its ranks along
        os.kill(int(process), signal.SIGKILL)
    time.sleep(0.5)
    kept = read_surface(path)
    assert 20 < (kept.status == 1).sum() < 441
    done = run(*command)
    assert done.returncode == 0, done.stderr
    finished = read_surface(path)
    assert finished.is_complete
    known = kept.status == 1
    np.testing.assert_array_equal(finished.metric()[known], kept.metric()[known])


@pytest.mark.slow
def test_a_power_cut_that_keeps_some_sectors_and_loses_others_leaves_a_file_that_opens(digits, tmp_path):
    """Sectors of 512 bytes of two moments of one file, mixed at random: what a disk may hold after a cut."""
    expected = job(digits, None)
    path, moments = tmp_path / "s.h5", []
    original = SurfaceWriter.flush

    def flush(writer):
        original(writer)
        if writer.path is not None:
            writer._file.flush()
            moments.append(path.read_bytes())

    SurfaceWriter.flush = flush
    before = SurfaceWriter.flush_every_s
    SurfaceWriter.flush_every_s = 0.0
    try:
        job(digits, path)
    finally:
        SurfaceWriter.flush, SurfaceWriter.flush_every_s = original, before
    dice = np.random.default_rng(1)
    for _ in range(40):
        first, second = sorted(dice.choice(len(moments), 2, replace=False))
        old, new = (np.frombuffer(moments[k], np.uint8) for k in (first, second))
        assert len(old) == len(new)  # the structure never changes
        mixed = old.copy()
        for start in range(0, len(mixed), 512):
            if dice.random() < 0.5:
                mixed[start : start + 512] = new[start : start + 512]
        torn = tmp_path / "torn.h5"
        torn.write_bytes(mixed.tobytes())
        found = read_surface(torn)
        known = (found.status == 1) & np.isfinite(found.metric())
        np.testing.assert_allclose(found.metric()[known], expected.metric()[known], rtol=1e-6)
    job(digits, torn)
    np.testing.assert_allclose(read_surface(torn).metric(), expected.metric(), rtol=1e-6)


@pytest.mark.parametrize("share", [0.999, 0.7, 0.3])
def test_a_file_that_was_cut_short_is_mended_and_goes_on(share, digits, tmp_path):
    path = tmp_path / "s.h5"
    expected = job(digits, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SurfaceFileError, match="info --repair"):
        read_surface(path)
    done = call("info", "--repair", path)
    if done.returncode == 2:  # what describes the arrays was lost: said in one line, nothing changed
        assert "compute it again" in done.stderr
        assert path.read_bytes() == whole[: int(share * len(whole))]
        return
    assert "missing" in done.stdout
    assert (tmp_path / "s.h5.damaged").exists()
    mended = read_surface(path)
    known = mended.status == 1
    np.testing.assert_array_equal(mended.metric()[known], expected.metric()[known])
    again = job(digits, path)
    np.testing.assert_allclose(again.metric(), expected.metric(), rtol=1e-6)
    for axis, tensors in expected.directions.items():
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(read_directions(path)[axis][name], tensor)
    assert repair(path) == []


def test_damaged_directions_are_noticed_and_made_again(digits, tmp_path):
    path = tmp_path / "s.h5"
    expected = job(digits, path)
    with h5py.File(path, "r+") as file:
        file["directions/x/1.weight"][0, 0] += 1.0
        file["status"][3:] = 0
        file["train_loss"][3:] = np.nan
    with pytest.raises(SurfaceFileError, match="directions are damaged"):
        job(digits, path)
    assert any("directions were damaged" in line for line in repair(path))
    np.testing.assert_allclose(job(digits, path).metric(), expected.metric(), rtol=1e-6)


def test_what_cannot_be_mended_is_left_alone(tmp_path):
    for content in (b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(200)):
        path = tmp_path / "s.h5"
        path.write_bytes(content)
        with pytest.raises(SurfaceFileError):
            repair(path)
        assert path.read_bytes() == content
        assert [file.name for file in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_nothing_half_written(trained, tmp_path):
    """A limit on the size of files stands for the full disk: writes fail in the same way."""

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    command = [
        "compute",
        "--weights",
        trained / "final.pt",
        "--curve",
        "--x=-1:1:5",
        "--samples",
        "20",
        "-o",
        tmp_path / "s.h5",
    ]
    done = subprocess.run(
        [str(BIN / "paraloss"), *map(str, command)], capture_output=True, text=True, preexec_fn=small_disk, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("paraloss:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".lock"] == []


def test_out_of_memory_goes_on_with_smaller_batches(digits, caplog):
    class Hungry(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(64, 10)

        def forward(self, x):
            if len(x) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.line(x.flatten(1))

    torch.manual_seed(0)
    net, data = Hungry(), {"train": digits["train"].subset(60)}
    expected = compute_surface(net, data=data, curve=True, x=(-1, 1, 5), batch_size=5, precision="fp32", progress=False)
    got = compute_surface(net, data=data, curve=True, x=(-1, 1, 5), batch_size=40, precision="fp32", progress=False)
    np.testing.assert_allclose(got.metric(), expected.metric(), rtol=1e-9)
    assert "continuing with batches of" in caplog.text


def test_out_of_memory_with_one_sample_is_told(digits):
    class Impossible(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.calls = nn.Linear(64, 10), 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.line(x.flatten(1))

    with pytest.raises(InputError, match=r"out of memory with [12] samples"):
        compute_surface(
            Impossible(), data={"train": digits["train"].subset(60)}, curve=True, x=(-1, 1, 5), batch_size=8, progress=False
        )


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_rank_that_hangs_ends_the_job_and_the_file_goes_on(ranks, tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            import pathlib, time, torch
            from torch import nn
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.line = nn.Linear(4, 3)
                    self.calls = 0
                def forward(self, x):
                    self.calls += 1
                    if pathlib.Path("hang").exists() and self.calls > 30 and abs(float(self.line.weight[0, 0])) >= 0:
                        time.sleep(1000)
                    return self.line(x)
            def data():
                torch.manual_seed(0)
                return torch.randn(40, 4), torch.randint(0, 3, (40,))
            """
        )
    )
    torch.manual_seed(1)
    torch.save({"line.weight": torch.randn(3, 4), "line.bias": torch.zeros(3)}, tmp_path / "w.pt")
    (tmp_path / "hang").touch()
    command = [
        "compute", "--weights", "w.pt", "--model", "mine.py:Net", "--data", "mine.py:data", "--curve", "--x=-1:1:201",
        "-o", "s.h5", "--point-timeout", "2", "--precision", "fp32",
    ]  # fmt: skip
    began = time.monotonic()
    done = run(*command, ranks=ranks, cwd=tmp_path)
    assert done.returncode != 0
    assert time.monotonic() - began < 60
    assert "took longer than 2 s (--point-timeout)" in done.stderr
    kept = read_surface(tmp_path / "s.h5")
    assert 0 < (kept.status == 1).sum() < 201
    (tmp_path / "hang").unlink()
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_surface(tmp_path / "s.h5").is_complete


def test_a_file_that_vanishes_or_a_folder_that_cannot_be_written_is_told(digits, tmp_path):
    with pytest.raises(SurfaceFileError, match="no such file"):
        read_surface(tmp_path / "gone.h5")
    if os.geteuid() != 0:
        shutil.os.chmod(tmp_path, 0o500)
        with pytest.raises(ParalossError, match="cannot be written"):
            job(digits, tmp_path / "s.h5")


def test_same_command_and_seed_give_the_same_bytes(digits, tmp_path):
    one, other = job(digits, tmp_path / "a.h5"), job(digits, tmp_path / "b.h5")
    for name in one.metrics:
        assert one.metrics[name].tobytes() == other.metrics[name].tobytes()
    for axis in "xy":
        for name, tensor in one.directions[axis].items():
            assert tensor.tobytes() == other.directions[axis][name].tobytes()


def test_infinite_and_nan_losses_are_results(digits):
    def steep(outputs, targets):
        return torch.exp(100 * outputs.double().abs().amax(dim=1))

    torch.set_num_threads(1)
    surface = compute_surface(network(), steep, {"train": digits["train"].subset(20)}, curve=True, x=(-9, 9, 7), progress=False)
    assert (surface.status[~np.isfinite(surface.metric())] == 2).all()
    assert (surface.status == 2).any()


if sys.platform != "linux":
    pytest.skip("process control as on Linux", allow_module_level=True)
