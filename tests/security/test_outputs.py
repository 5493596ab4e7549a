"""No verb replaces what it did not make, an output is never an input, and special files are left alone."""

import os
import stat

import h5py
import numpy as np
import pytest
import torch
from helpers import call, surface_of

from paraloss.compute.inputs.models import MODELS

GRID = ("--model", "mlp", "--data", "digits", "--samples", "20", "--curve", "--x=-1:1:3")


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    torch.save(MODELS["mlp"]((1, 8, 8), 10).state_dict(), tmp_path / "w.pt")
    surface_of(lambda x, y: x**2 + y**2, nx=5).save(tmp_path / "s.h5")
    surface_of(lambda x, y: x**2 + 2 * y**2, nx=5).save(tmp_path / "t.h5")
    (tmp_path / "mine.txt").write_text("the user's own")
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


REFUSED = [
    ["compute", "--weights", "w.pt", *GRID, "-o", "w.pt"],
    ["compute", "--weights", "w.pt", *GRID, "-o", "w.pt", "--overwrite"],
    ["compute", "--weights", "w.pt", *GRID, "-o", "hard.pt", "--overwrite"],
    ["compute", "--weights", "w.pt", *GRID, "--x-to", "x.pt", "-o", "x.pt", "--overwrite"],
    ["compute", "--weights", "w.pt", *GRID, "--directions", "s.h5", "-o", "s.h5", "--overwrite"],
    [
        "compute",
        "--weights",
        "w.pt",
        "--model",
        "mlp",
        "--data",
        "npz:d.npz",
        "--curve",
        "--x=-1:1:3",
        "-o",
        "d.npz",
        "--overwrite",
    ],
    ["compute", "--weights", "w.pt", *GRID, "-o", "mine.txt"],
    ["compute", "--weights", "w.pt", *GRID, "--repeats", "2", "-o", "s.h5"],
    ["compute", "--weights", "w.pt", *GRID, "--repeats", "2", "-o", "w.pt"],
    ["compute", "--weights", "w.pt", *GRID, "--repeats", "2", "-o", "fresh.h5", "--seed", "7"],  # fresh_seed8.h5 is not ours
    ["project", "w.pt", "x.pt", "y.pt", "--model", "mlp", "--data", "digits", "-o", "y.pt", "--overwrite"],
    ["hessian", "--weights", "w.pt", "--model", "mlp", "--data", "digits", "-o", "s.h5"],
    ["hessian", "--weights", "w.pt", "--model", "mlp", "--data", "digits", "-o", "photo.png"],
    ["histogram", "w.pt", "photo.png"],
    ["train", "--model", "mlp", "--epochs", "1", "-o", "foreign"],
]


@pytest.mark.parametrize("command", REFUSED, ids=[" ".join(words[:1] + words[-3:]) for words in REFUSED])
def test_nothing_of_the_users_is_replaced(folder, command):
    for name in ("x.pt", "y.pt"):
        (folder / name).write_bytes((folder / "w.pt").read_bytes())
    os.link(folder / "w.pt", folder / "hard.pt")
    np.savez(folder / "d.npz", inputs=np.zeros((3, 1, 8, 8), np.float32), targets=np.arange(3))
    (folder / "fresh_seed8.h5").write_text("the user's own")
    (folder / "photo.png").write_bytes(b"\x89PNG of the user")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "final.pt").write_text("another program's")
    before = contents(folder)
    done = call(*command, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert contents(folder) == before
    assert (folder / "foreign" / "final.pt").read_text() == "another program's"


@pytest.mark.parametrize("verb", ["compute", "histogram"])
def test_devices_and_pipes_are_left_alone_also_with_overwrite(folder, verb):
    os.mkfifo(folder / "pipe.png")
    null = folder / "null.png"
    null.symlink_to("/dev/null")
    for target in (null, folder / "pipe.png"):
        more = ["--weights", "w.pt", *GRID] if verb == "compute" else ["w.pt"]
        done = call(verb, *more, "-o", target, "--overwrite", cwd=folder)
        assert done.returncode == 2 and "name a regular file" in done.stderr
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116
    assert stat.S_ISFIFO((folder / "pipe.png").stat().st_mode)


@pytest.mark.parametrize("command", [["info"], ["analyze"], ["info", "--repair"], ["histogram", "h.png"]])
def test_a_pipe_as_input_is_refused_instead_of_waited_for(folder, command):
    for name in ("pipe.h5", "pipe.pt"):
        os.mkfifo(folder / name)
        arguments = [command[0], folder / name, *command[1:]]
        done = call(*arguments, cwd=folder)
        assert done.returncode == 2 and "named pipe" in done.stderr


def test_a_surface_is_written_through_a_link(folder):
    (folder / "elsewhere").mkdir()
    (folder / "link.h5").symlink_to("elsewhere/real.h5")
    command = ["compute", "--weights", "w.pt", *GRID, "-o", "link.h5"]
    for extra in ([], [], ["--overwrite"]):
        assert call(*command, *extra, cwd=folder).returncode == 0
        assert (folder / "link.h5").is_symlink()
        assert [path.name for path in (folder / "elsewhere").iterdir()] == ["real.h5"]
    with h5py.File(folder / "elsewhere" / "real.h5") as file:
        assert np.isfinite(file["train_loss"][...]).all()


def test_the_same_command_replaces_what_it_made(folder):
    for command in (["histogram", "w.pt", "h.png"], ["histogram", "w.pt", "h.pdf"], ["histogram", "w.pt", "h.svg"]):
        for _ in range(2):
            done = call(*command, cwd=folder)
            assert done.returncode == 0, done.stderr
    summary = ["compute", "--weights", "w.pt", *GRID, "--repeats", "2", "-o", "mean.h5"]
    for _ in range(2):
        assert call(*summary, cwd=folder).returncode == 0
    single = call("compute", "--weights", "w.pt", *GRID, "-o", "mean.h5", cwd=folder)
    assert single.returncode == 2 and "--overwrite" in single.stderr
