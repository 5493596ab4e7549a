"""A curve of low loss between two models, its barrier beside the straight line's, and the lowest point as a checkpoint."""

import numpy as np
import pytest
import torch
from helpers import call
from standing import on_ranks
from torch import nn
from torch.nn.functional import cross_entropy

from paraloss.compute import compute_surface, connect, project_run
from paraloss.compute.connected import bending
from paraloss.compute.connected.barrier import barrier_of
from paraloss.compute.connected.curves import shares
from paraloss.errors import InputError
from paraloss.surface import read_surface

NET = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))

def data():
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(60, 2, generator=generator)
    targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
    return {"train": (inputs[:48], targets[:48]), "test": (inputs[48:], targets[48:])}
"""
SETTINGS = {"epochs": 12, "train_batch": 16, "lr": 0.1, "points": 7, "grid": 0, "progress": False, "weight_decay": 0.0}


def from_text(name):
    namespace: dict = {}
    exec(NET, namespace)
    return namespace[name]()


def net(seed, norm=True):
    torch.manual_seed(seed)
    model = from_text("net")
    if not norm:
        model = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))
    inputs, targets = from_text("data")["train"]
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def plain():
    return net(0, norm=False), net(1, norm=False)


@pytest.fixture(scope="module")
def normed():
    return net(0), net(1)


def loss_of(like, state, split="train"):
    """The loss of weights in a loop of its own; statistics of batch norm are those of the whole training split."""
    model = from_text("net") if any("running" in name for name in state) else nn.Sequential(
        nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2)
    )  # fmt: skip
    model.load_state_dict(state)
    data = from_text("data")
    with torch.no_grad():
        if like == "recompute":
            model[1].momentum = 1.0
            model.train()
            model(data["train"][0])
        return float(cross_entropy(model.eval()(data[split][0]), data[split][1]))


def mixed(parts, states):
    names = [name for name, tensor in states[0].items() if tensor.is_floating_point()]
    mean = {name: sum(float(part) * state[name].double() for part, state in zip(parts, states, strict=True)) for name in names}
    return {**states[0], **{name: tensor.float() for name, tensor in mean.items()}}


def test_the_losses_along_a_bezier_curve_are_those_of_its_formula(plain, tmp_path):
    one, other = plain
    found = connect(one, other.state_dict(), data=from_text("data"), folder=tmp_path / "c", **SETTINGS)
    bend = torch.load(tmp_path / "c" / "bend.pt", weights_only=True)["state_dict"]
    states = [one.state_dict(), bend, other.state_dict()]
    for t, value, test in zip(found.curve.x, found.curve.metrics["train_loss"], found.curve.metrics["test_loss"], strict=True):
        there = mixed([(1 - t) ** 2, 2 * t * (1 - t), t**2], states)
        assert value == pytest.approx(loss_of("keep", there), rel=1e-5)
        assert test == pytest.approx(loss_of("keep", there, "test"), rel=1e-5)
    for t, value in zip(found.line.x, found.line.metrics["train_loss"], strict=True):
        assert value == pytest.approx(loss_of("keep", mixed([1 - t, 0, t], states)), rel=1e-5)
    curve, line = (found.barriers[way]["train_loss"] for way in ("curve", "line"))
    assert curve.highest == found.curve.metrics["train_loss"].max()
    assert curve.height < 0.5 * line.height


def test_statistics_of_batch_norm_are_recomputed_along_the_curve(normed, tmp_path):
    one, other = normed
    found = connect(one, other, data=from_text("data"), folder=tmp_path, bends=2, curve="chain", **SETTINGS)
    ends = [torch.load(tmp_path / f"bend_{k}.pt", weights_only=True)["state_dict"] for k in (1, 2)]
    states = [one.state_dict(), *ends, other.state_dict()]
    for t, value in zip(found.curve.x, found.curve.metrics["train_loss"], strict=True):
        k = min(int(3 * t + 1e-9), 2)
        parts = np.zeros(4)
        parts[k], parts[k + 1] = 1 - (3 * t - k), 3 * t - k
        assert value == pytest.approx(loss_of("recompute", mixed(parts, states)), rel=1e-4)
    assert loss_of("keep", ends[0]) == pytest.approx(found.curve.metrics["train_loss"][2], rel=1e-4)  # with its own ones


def test_the_surface_goes_through_both_ends_and_the_bend(plain, tmp_path):
    one, other = plain
    found = connect(one, other, data=from_text("data"), folder=tmp_path, **{**SETTINGS, "grid": 9})
    plane, bend = found.plane, torch.load(tmp_path / "bend.pt", weights_only=True)["state_dict"]
    corner = plane.paths["bend"]
    x, y = float(corner["x"][0]), float(corner["y"][0])
    row, first, last = int(np.flatnonzero(plane.y == 0)[0]), *(int(np.flatnonzero(plane.x == end)[0]) for end in (0, 1))
    assert plane.metrics["train_loss"][row, first] == pytest.approx(loss_of("keep", one.state_dict()), rel=1e-5)
    assert plane.metrics["train_loss"][row, last] == pytest.approx(loss_of("keep", other.state_dict()), rel=1e-5)
    for name, tensor in bend.items():
        moved = one.state_dict()[name].double() + sum(
            step * torch.from_numpy(plane.directions[axis][name]) for axis, step in (("x", x), ("y", y))
        )
        assert torch.allclose(moved, tensor.double(), atol=1e-6)
    lengths = [np.sqrt(sum((part.astype(float) ** 2).sum() for part in plane.directions[axis].values())) for axis in "xy"]
    product = sum((plane.directions["x"][n].astype(float) * plane.directions["y"][n]).sum() for n in bend)
    assert lengths[1] / lengths[0] == pytest.approx(plane.provenance["y_length"]) and abs(product) < 1e-6 * lengths[0] ** 2
    curve = plane.paths["curve"]
    t = curve["step"]
    assert curve["x"] == pytest.approx(t**2 + 2 * t * (1 - t) * x) and curve["y"] == pytest.approx(2 * t * (1 - t) * y)
    assert curve["residual"] == pytest.approx(np.zeros(len(t)), abs=1e-6)
    assert corner["loss"][0] == pytest.approx(loss_of("keep", bend), rel=1e-5)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(normed, tmp_path, monkeypatch):
    one, other = normed
    whole = connect(one, other, data=from_text("data"), folder=tmp_path / "whole", **SETTINGS)
    step, calls = bending.Bending._step, []

    def failing(self, batch, place):
        calls.append(place)
        if len(calls) == 16:  # within the sixth epoch
            raise KeyboardInterrupt
        return step(self, batch, place)

    monkeypatch.setattr(bending.Bending, "_step", failing)
    with pytest.raises(KeyboardInterrupt, match="5 of 12 epochs are kept"):
        connect(one, other, data=from_text("data"), folder=tmp_path / "cut", **SETTINGS)
    assert not (tmp_path / "cut" / "bend.pt").exists()
    monkeypatch.setattr(bending.Bending, "_step", step)
    with pytest.raises(InputError, match=r"lr is 0\.1 there, 0\.2 now"):
        connect(one, other, data=from_text("data"), folder=tmp_path / "cut", **{**SETTINGS, "lr": 0.2})
    again = connect(one, other, data=from_text("data"), folder=tmp_path / "cut", **SETTINGS)
    for name, values in whole.curve.metrics.items():
        assert np.array_equal(values, again.curve.metrics[name])
    bends = [torch.load(tmp_path / part / "bend.pt", weights_only=True)["state_dict"] for part in ("whole", "cut")]
    assert all(torch.equal(bends[0][name], bends[1][name]) for name in bends[0])
    assert not (tmp_path / "cut" / "training.pt").exists()
    with pytest.raises(InputError, match="epochs is 12 there, 13 now"):
        connect(one, other, data=from_text("data"), folder=tmp_path / "cut", **{**SETTINGS, "epochs": 13})


def test_a_step_on_batches_is_connected_too(plain, tmp_path):
    one, other = plain
    inputs, targets = from_text("data")["train"]
    batches = [{"x": inputs[k : k + 16], "y": targets[k : k + 16]} for k in range(0, 48, 16)]

    def step(model, batch):
        return cross_entropy(model(batch["x"]), batch["y"])

    found = connect(one, other, data=batches, folder=tmp_path, step=step, **SETTINGS)
    assert found.curve.metrics["train_loss"][0] == pytest.approx(loss_of("keep", one.state_dict()), rel=1e-5)
    assert found.barriers["curve"]["train_loss"].height < found.barriers["line"]["train_loss"].height


def test_a_loss_that_leaves_all_bounds_is_said(plain, tmp_path):
    with pytest.raises(InputError, match="use a lower learning rate, lr"):
        connect(*plain, data=from_text("data"), folder=tmp_path / "new", **{**SETTINGS, "lr": 1e6, "weight_decay": 1e3})
    assert not (tmp_path / "new" / "bend.pt").exists()


def test_a_model_that_cannot_be_trained_leaves_no_folder(plain, tmp_path):
    inputs, targets = from_text("data")["train"]
    with pytest.raises(InputError, match="a step of training failed"):
        connect(*plain, data=(inputs, targets + 5), folder=tmp_path / "new", **SETTINGS)
    assert not (tmp_path / "new").exists()


def test_other_points_replace_the_losses_but_not_the_curve(plain, tmp_path):
    connect(*plain, data=from_text("data"), folder=tmp_path, **SETTINGS)
    before = (tmp_path / "bend.pt").read_bytes()
    found = connect(*plain, data=from_text("data"), folder=tmp_path, overwrite=True, **{**SETTINGS, "points": 4})
    assert len(found.curve.x) == 4 and (tmp_path / "bend.pt").read_bytes() == before


def test_shares_add_up_and_reach_every_point():
    for kind in ("bezier", "chain"):
        found = shares(kind, 3, np.linspace(0, 1, 9))
        assert found.sum(axis=1) == pytest.approx(np.ones(9))
        assert found[0].tolist() == [1, 0, 0, 0, 0] and found[-1].tolist() == [0, 0, 0, 0, 1]
    assert shares("chain", 3, np.array([0.25, 0.375])).tolist() == [[0, 1, 0, 0, 0], [0, 0.5, 0.5, 0, 0]]
    assert shares("bezier", 1, np.array([0.5])).tolist() == [[0.25, 0.5, 0.25]]


def test_a_barrier_is_the_excess_over_the_line_between_both_ends():
    found = barrier_of(np.array([0, 0.25, 0.5, 1]), np.array([1.0, 3.0, 2.9, 2.0]))
    assert (found.height, found.highest, found.place) == (1.75, 3.0, 0.25)
    assert barrier_of(np.array([0, 0.5, 1]), np.array([1.0, 0.5, 2.0])).height == 0
    assert np.isnan(barrier_of(np.array([0, 0.5, 1]), np.array([1.0, np.inf, 2.0])).height)


@pytest.fixture
def files(normed, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    for name, model in zip(("a.pt", "b.pt"), normed, strict=True):
        torch.save(model.state_dict(), tmp_path / name)
    return tmp_path


COMMON = ("--model", "net.py:net", "--data", "net.py:data")


@pytest.mark.slow
def test_two_ranks_give_what_one_process_gives(files):
    options = ("--epochs", "3", "--train-batch", "16", "--points", "5", "--grid", "5", "--save-best", "best.pt")
    for folder, run in (("one", call), ("two", on_ranks)):
        result = run("connect", "a.pt", "b.pt", *COMMON, *options, "-o", folder, cwd=files)
        assert result.returncode == 0, result.stderr
        (files / "best.pt").rename(files / f"{folder}.pt")
        assert (files / folder / "barrier.png").exists()
    assert "barrier of train_loss: " in result.stdout
    for name in ("curve.h5", "line.h5", "plane.h5"):
        one, two = (read_surface(files / folder / name) for folder in ("one", "two"))
        for metric, values in one.metrics.items():
            assert two.metrics[metric] == pytest.approx(values, rel=1e-9)
    curve = read_surface(files / "one" / "curve.h5").metrics["train_loss"]
    best = torch.load(files / "one.pt", weights_only=True)
    assert list(best) == list(from_text("net").state_dict())
    assert loss_of("keep", best) == pytest.approx(curve.min(), rel=1e-4)
    assert all(torch.equal(tensor, torch.load(files / "two.pt", weights_only=True)[name]) for name, tensor in best.items())


def test_the_lowest_point_of_a_plane_loads_and_has_its_loss(files):
    same = ("compute", "--weights", "a.pt", *COMMON, "--x=-1:1:5", "--y=-1:1:5", "--seed", "4", "-o", "s.h5")
    result = call(*same, "--save-best", "best.pt", cwd=files)
    assert result.returncode == 0, result.stderr
    surface, best = read_surface(files / "s.h5"), torch.load(files / "best.pt", weights_only=True)
    assert loss_of("keep", best) == pytest.approx(surface.metrics["train_loss"].min(), rel=1e-5)
    again = call("compute", "--weights", "best.pt", *COMMON, "--x=0:1:2", "--curve", "-o", "again.h5", cwd=files)
    assert again.returncode == 0, again.stderr
    assert read_surface(files / "again.h5").metrics["train_loss"][0] == pytest.approx(
        surface.metrics["train_loss"].min(), rel=1e-5
    )
    same = ("compute", "--weights", "a.pt", *COMMON, "--x=-1:1:5", "--y=-1:1:5", "--seed", "4", "-o", "s.h5")
    assert call(*same, "--save-best", "best.pt", cwd=files).returncode == 0  # it is there already
    (files / "notes.pt").write_text("mine")
    refused = call(*same, "--save-best", "notes.pt", cwd=files)
    assert refused.returncode == 2 and "notes.pt: exists and holds something else" in refused.stderr
    assert (files / "notes.pt").read_text() == "mine"
    origin = call(*same, "--save-best", "a.pt", "--overwrite", cwd=files)
    assert origin.returncode == 2 and "a.pt: is the source itself" in origin.stderr
    early = call(*same[:-1], "new.h5", "--save-best", "notes.pt", cwd=files)
    assert early.returncode == 2 and not (files / "new.h5").exists()


@pytest.mark.parametrize("bn", ["keep", "recompute"])
def test_the_lowest_point_of_a_line_keeps_the_form_of_its_checkpoint(normed, tmp_path, bn):
    one, other = normed
    nested = {
        "net": {f"module.{n}": t for n, t in one.state_dict().items()},
        "adam": {"state": [torch.ones(3)], "lr": 0.1},
        "step": 7,
    }
    torch.save(nested, tmp_path / "a.pt")
    surface = compute_surface(
        one, data=from_text("data"), x=(0, 1, 9), x_to=other.state_dict(), bn=bn, save_best=tmp_path / "best.pt",
        like=tmp_path / "a.pt", progress=False,
    )  # fmt: skip
    found = torch.load(tmp_path / "best.pt", weights_only=True)
    assert list(found) == ["net", "step"] and list(found["net"]) == list(nested["net"])
    state = {name.removeprefix("module."): tensor for name, tensor in found["net"].items()}
    assert loss_of("keep", state) == pytest.approx(surface.metrics["train_loss"].min(), rel=1e-4)


def test_the_lowest_point_of_a_projected_run_is_saved(plain, tmp_path):
    one, other = plain
    states = [one.state_dict(), mixed([0.4, 0.6], [one.state_dict(), other.state_dict()]), other.state_dict()]
    for number, state in enumerate(states):
        shaken = {name: tensor + 0.01 * number * torch.ones_like(tensor) for name, tensor in state.items()}
        torch.save(shaken, tmp_path / f"epoch_{number}.pt")
    surface = project_run(
        one, sorted(tmp_path.glob("epoch_*.pt")), data=from_text("data"), points=5, save_best=tmp_path / "best.safetensors",
        progress=False,
    )  # fmt: skip
    from safetensors.torch import load_file

    best = load_file(tmp_path / "best.safetensors")
    assert loss_of("keep", best) == pytest.approx(surface.metrics["train_loss"].min(), rel=1e-5)
