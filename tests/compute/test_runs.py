"""Several runs in one plane, against projections and losses by plain numpy loops; names, origin, bad input, ranks."""

import inspect
import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from helpers import call, run
from torch import nn

import paraloss
from paraloss import read_surface
from paraloss.compute.inputs.runs import runs_of
from paraloss.errors import InputError, SurfaceFileError

WIDTH = 2


class Net(nn.Module):
    """Two inputs, three classes, 2 layers, 15 weights."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs)))


def data():
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    return inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()


def trained(folder, optimizer, steps, **how):
    """A run of real training from the one initialization; a checkpoint per step."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = Net().double()
    stepper, (inputs, targets) = optimizer(model.parameters(), **how), data()
    for step in range(steps + 1):
        torch.save(model.state_dict(), folder / f"ckpt_{step}.pt")
        stepper.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        stepper.step()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "sgd": trained(folder / "sgd", torch.optim.SGD, 11, lr=0.5),
        "adam": trained(folder / "adam", torch.optim.Adam, 6, lr=0.1),
    }


def weights(path):
    """(15,) float64 of a checkpoint, in the order of the parameters."""
    return np.concatenate([tensor.numpy().ravel() for tensor in torch.load(path, weights_only=True).values()])


def in_order(folder):
    return sorted(folder.iterdir(), key=lambda path: int(path.stem.split("_")[1]))


def loss_of(vector):
    """Mean cross-entropy of the network with these weights, by numpy."""
    inputs, targets = (tensor.numpy() for tensor in data())
    a, b, c, d = np.split(vector, np.cumsum([2 * WIDTH, WIDTH, 3 * WIDTH]))
    logits = np.tanh(inputs @ a.reshape(WIDTH, 2).T + b) @ c.reshape(3, WIDTH).T + d
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        total += np.log(np.exp(row - row.max()).sum()) + row.max() - row[target]
    return total / len(targets)


@pytest.fixture(scope="module")
def projected(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("projected") / "paths.h5"
    paraloss.project_run(
        Net().double(), list(runs.values()), "cross_entropy", data(), points=5, precision="fp64", path=path, progress=False
    )
    return path


def test_runs_share_one_plane_of_all_their_checkpoints(runs, projected):
    surface = read_surface(projected, directions=True)
    assert list(surface.paths) == ["sgd", "adam"] and surface.trajectory is None
    rows = {name: np.stack([weights(path) for path in in_order(folder)]) for name, folder in runs.items()}
    center, everything = rows["sgd"][-1], np.concatenate(list(rows.values()))
    _, sizes, components = np.linalg.svd(everything - everything.mean(axis=0), full_matrices=False)
    names = list(Net().state_dict())
    basis = np.stack([np.concatenate([surface.directions[axis][name].ravel() for name in names]) for axis in "xy"])
    for mine, theirs in zip(basis, components, strict=False):
        assert abs(mine @ theirs) == pytest.approx(1, abs=1e-9)
    shares = sizes**2 / (sizes**2).sum()
    np.testing.assert_allclose(surface.provenance["explained_variance_ratio"], shares[:2], rtol=1e-9)
    for number, (name, path) in enumerate(surface.paths.items()):
        assert len(path["x"]) == len(rows[name])
        inside = total = 0.0
        for t, row in enumerate(rows[name]):
            along = basis @ (row - center)
            assert (path["x"][t], path["y"][t]) == pytest.approx(along, abs=1e-9)
            assert path["residual"][t] == pytest.approx(np.linalg.norm(row - center - along @ basis), abs=1e-6)
            assert path["loss"][t] == pytest.approx(loss_of(row), rel=1e-9)
            off = row - rows[name].mean(axis=0)
            inside, total = inside + ((basis @ off) ** 2).sum(), total + (off**2).sum()
        recorded = surface.provenance["paths"][number]
        assert recorded["label"] == name and recorded["variance_in_plane"] == pytest.approx(inside / total, rel=1e-9)
    assert (surface.paths["sgd"]["x"][-1], surface.paths["sgd"]["y"][-1]) == (0, 0)
    assert surface.paths["adam"]["residual"].max() > 1e-3
    for j, i in ((0, 0), (1, 3), (4, 4)):  # the surface itself, displaced from the first run's end
        place = center + surface.x[i] * basis[0] + surface.y[j] * basis[1]
        assert surface.metrics["train_loss"][j, i] == pytest.approx(loss_of(place), rel=1e-9)


def test_a_run_goes_onto_the_plane_and_the_center_of_a_surface(runs, projected, tmp_path):
    first = read_surface(projected)
    onto = {"points": 3, "precision": "fp64", "onto": projected, "progress": False}
    again = paraloss.project_run(Net().double(), {"a": runs["adam"], "s": runs["sgd"]}, "cross_entropy", data(), **onto)
    for there, here in (("adam", "a"), ("sgd", "s")):  # the center is found, though another run comes first
        for name in ("x", "y", "loss"):
            np.testing.assert_allclose(again.paths[here][name], first.paths[there][name], rtol=1e-9, atol=1e-9)
    with pytest.raises(InputError, match=r"paths\.h5: its center, ckpt_11\.pt, is none of the checkpoints named"):
        paraloss.project_run(Net().double(), runs["adam"], "cross_entropy", data(), **onto)
    center = runs["sgd"] / "ckpt_11.pt"
    alone = paraloss.project_run(Net().double(), runs["adam"], "cross_entropy", data(), center=center, **onto)
    np.testing.assert_allclose(alone.trajectory["x"], first.paths["adam"]["x"], rtol=1e-9, atol=1e-9)
    assert alone.at(0, 0)["train_loss"] == pytest.approx(loss_of(weights(center)), rel=1e-9)


def test_the_file_says_which_path_is_whose(projected, tmp_path):
    with h5py.File(projected) as file:
        assert sorted(file["trajectories"]) == ["0", "1"] and "trajectory" not in file
        assert [file[f"trajectories/{k}"].attrs["label"].decode() for k in (0, 1)] == ["sgd", "adam"]
    lines = [line for line in call("info", projected).stdout.splitlines() if line.startswith("path")]
    assert len(lines) == 2 and "path sgd" in lines[0] and "12 checkpoints" in lines[0] and "off the plane" in lines[1]
    found = json.loads(call("analyze", "--json", projected).stdout)["paths"][str(projected)]
    surface = read_surface(projected)
    for name, path in surface.paths.items():
        assert found[name]["checkpoints"] == len(path["x"]) and found[name]["off_plane"] == max(path["residual"])
        assert found[name]["last_loss"] == path["loss"][-1]
    surface.save(tmp_path / "copy.h5")
    copied = read_surface(tmp_path / "copy.h5")
    assert list(copied.paths) == ["sgd", "adam"]
    np.testing.assert_array_equal(copied.paths["adam"]["y"], surface.paths["adam"]["y"])


def test_names_come_from_folders_and_are_made_unique(runs, tmp_path):
    for place in ("a/ckpt", "b/ckpt", "mixed"):
        (tmp_path / place).mkdir(parents=True)
    for step in (8, 9, 10):
        for place in ("a/ckpt/epoch", "b/ckpt/epoch", "mixed/sgd", "mixed/adam"):
            shutil.copy(runs["sgd"] / f"ckpt_{step}.pt", tmp_path / f"{place}_{step}.pt")
    assert [run.label for run in runs_of([tmp_path / "a/ckpt", tmp_path / "b/ckpt"])] == ["a/ckpt", "b/ckpt"]
    patterns = [str(tmp_path / "mixed/sgd_*.pt"), str(tmp_path / "mixed/adam_*.pt")]
    found = runs_of(patterns)
    assert [run.label for run in found] == ["sgd", "adam"]
    assert [path.name for path in found[1].checkpoints] == ["adam_8.pt", "adam_9.pt", "adam_10.pt"]
    assert [run.label for run in runs_of(patterns, ["one", "two"])] == ["one", "two"]
    assert [run.label for run in runs_of([runs["sgd"], runs["sgd"]])] == ["sgd 1", "sgd 2"]
    one = runs_of(str(tmp_path / "mixed/sgd_*.pt"))
    assert len(one) == 1 and one[0].label == "" and len(one[0].checkpoints) == 3


def test_bad_runs_are_named_in_one_line(runs, projected, tmp_path):
    lonely, other = tmp_path / "lonely", tmp_path / "other"
    lonely.mkdir(), other.mkdir()
    shutil.copy(runs["sgd"] / "ckpt_1.pt", lonely / "ckpt_1.pt")
    for step in (1, 2, 3):
        torch.save(nn.Linear(4, 4).double().state_dict(), other / f"ckpt_{step}.pt")

    def refused(pattern, checkpoints, error=InputError, **options):
        given = {"points": 3, "progress": False, **options}
        with pytest.raises(error, match=pattern) as caught:
            paraloss.project_run(Net().double(), checkpoints, "cross_entropy", data(), **given)
        assert "\n" not in str(caught.value)

    refused(r"lonely: holds 1 checkpoints in a series; name two", [runs["sgd"], lonely])
    refused(r"other.ckpt_1\.pt: ", [runs["sgd"], other])
    refused(r"no such checkpoint|nowhere", [runs["sgd"], tmp_path / "nowhere"])
    refused(r"no file fits this pattern", [runs["sgd"], tmp_path / "none_*.pt"])
    refused(r"ckpt_1\.pt: is one checkpoint among runs", [runs["sgd"], lonely / "ckpt_1.pt"])
    refused(r"label is given 1 times for 2 runs", list(runs.values()), label=["a"])
    refused(r"do not tell the runs apart", list(runs.values()), label=["a", "a"])
    refused(r"label names several runs", runs["sgd"], label=["a"])
    kept = projected.read_bytes()
    refused(r"holds sgd, adam, other than these runs'", {"b": runs["adam"], "a": runs["sgd"]}, SurfaceFileError, path=projected)
    assert projected.read_bytes() == kept


def test_damaged_groups_of_paths_are_refused(projected, tmp_path):
    def broken(change):
        shutil.copy(projected, tmp_path / "b.h5")
        with h5py.File(tmp_path / "b.h5", "r+") as file:
            change(file)
        with pytest.raises(SurfaceFileError):
            read_surface(tmp_path / "b.h5")

    broken(lambda file: file["trajectories"].move("0", "sgd"))
    broken(lambda file: file.__setitem__("trajectories/7", np.ones(3)))
    broken(lambda file: file.__setitem__("trajectories/1/more", h5py.ExternalLink("s.h5", "/x")))
    broken(lambda file: file.__setitem__("trajectories/2", h5py.SoftLink("/trajectories/0")))
    shutil.copy(projected, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        for number in (0, 1):
            file[f"trajectories/{number}"].attrs["label"] = "a\x1b[31m"
    assert list(read_surface(tmp_path / "b.h5").paths) == ["a\\x1b[31m", "a\\x1b[31m (1)"]


@pytest.mark.slow
def test_the_same_on_one_and_two_ranks_and_after_a_stop(runs, tmp_path):
    source = "\n\n".join(map(inspect.getsource, (Net, data)))
    (tmp_path / "net.py").write_text(
        f"import torch\nfrom torch import nn\nWIDTH = {WIDTH}\n{source}\ndef net():\n    return Net().double()\n"
    )
    wanted = ["--points", "5", "--precision", "fp64", "--model", "net.py:net", "--data", "net.py:data", "--batch-size", "7"]
    for ranks, name in ((0, "one.h5"), (2, "two.h5")):
        done = run("project", *runs.values(), *wanted, "--label", "S", "--label", "A", "-o", name, ranks=ranks, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "origin of the plane: ckpt_11.pt, the last checkpoint of the first run" in done.stderr
    one, two = (read_surface(tmp_path / name) for name in ("one.h5", "two.h5"))
    assert list(one.paths) == ["S", "A"] == list(two.paths)
    np.testing.assert_array_equal(one.metrics["train_loss"], two.metrics["train_loss"])
    for label, path in one.paths.items():
        for name, values in path.items():
            np.testing.assert_array_equal(values, two.paths[label][name])
    with h5py.File(tmp_path / "one.h5", "r+") as file:  # as a stop leaves it
        file["status"][2:] = 0
        file["train_loss"][2:] = np.nan
    done = run("project", *runs.values(), *wanted, "--label", "S", "--label", "A", "-o", "one.h5", cwd=tmp_path)
    assert done.returncode == 0 and "resuming" in done.stderr, done.stderr
    np.testing.assert_array_equal(read_surface(tmp_path / "one.h5").metrics["train_loss"], two.metrics["train_loss"])
