"""Losses from a part of the samples: the error that is stated is the error that is made."""

import copy
import dataclasses
import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import run

from paraloss import examples
from paraloss.compute import (
    Evaluator,
    apply_checkpoint,
    compute_surface,
    load_checkpoint,
    load_criterion,
    load_data,
    load_model,
    random_direction,
    train,
)
from paraloss.compute.evaluate.anchors import AnchorTable, _RowFile, anchor_levels, anchor_points
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.ranks.world import World
from paraloss.errors import InputError, SurfaceFileError
from paraloss.surface import PENDING, read_surface


def learned(folder, name, data, epochs):
    torch.manual_seed(0)
    model = load_model(name, tuple(data["train"].inputs.shape[1:]), 10)
    train(model, data, folder, epochs=epochs, lr=0.05, progress=False)
    apply_checkpoint(model, load_checkpoint(folder / "final.pt")[0], "final.pt")
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("digits", 4), ("mnist5k", 6)])
def test_one_percent_takes_a_quarter_of_the_samples_and_holds_the_exact_loss(name, least, tmp_path):
    """On a 51×51 surface of an MLP; every third point is compared with the exact loss."""
    data = load_data(name)
    model = learned(tmp_path, "mlp", data, epochs=15)
    split = {"train": data["train"]}
    generator = torch.Generator().manual_seed(123)
    directions = [random_direction(model, generator) for _ in "xy"]
    axis = np.linspace(-1, 1, 51)
    steps = np.stack([c.ravel() for c in np.meshgrid(axis, axis)], axis=1)
    exact = Evaluator(model, load_criterion("cross_entropy")[1], split, directions)
    sampled = SampledEvaluator(
        Evaluator(model, load_criterion("cross_entropy")[1], split, directions), (51, 51), steps, rtol=0.01
    )
    anchors = sampled.prepare(World())
    others = [index for index in range(2601) if index not in anchors][::3]
    estimates = np.array([sampled(index) for index in others])
    truth = np.array([exact(steps[index])[0] for index in others])
    loss, error, used = estimates[:, 0], estimates[:, 1], estimates[:, 2]
    assert (error <= 0.01 * loss * (1 + 1e-9)).all()
    assert (np.abs(loss - truth) <= 2 * error + 1e-6 * truth).mean() >= 0.93
    evaluations = len(anchors) * len(data["train"]) + used.mean() * (2601 - len(anchors))
    assert 2601 * len(data["train"]) / evaluations >= least
    for index in list(anchors)[:3]:
        assert anchors[index][0] == pytest.approx(exact(steps[index])[0], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rtol", [0.01, 0.1])
def test_the_stated_error_holds_where_few_samples_make_the_loss(rtol, tmp_path):
    """An overfitted network, four planes: the points of one share the order of the samples, so that their errors are alike."""
    data = load_data("digits")
    model = learned(tmp_path, "mlp", data, epochs=60)
    split = {"train": data["train"]}
    axis = np.linspace(-0.5, 0.5, 51)
    steps = np.stack([c.ravel() for c in np.meshgrid(axis, axis)], axis=1)
    inside = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        directions = [random_direction(model, generator) for _ in "xy"]
        exact, low = (Evaluator(model, load_criterion("cross_entropy")[1], split, directions) for _ in range(2))
        sampled = SampledEvaluator(low, (51, 51), steps, rtol=rtol, seed=seed)
        anchors = sampled.prepare(World())
        for index in np.setdiff1d(np.random.default_rng(seed).choice(2601, 60, replace=False), list(anchors)).tolist():
            loss, error = sampled(index)[:2]
            inside.append(abs(loss - exact(steps[index])[0]) <= 2 * error)
    assert np.mean(inside) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 40])
def test_the_more_samples_the_fewer_anchors_and_in_all_nearly_as_few_evaluations_as_with_any(copies, tmp_path):
    """Copies of the same samples need as many of them at each point; the anchors evaluate all."""
    split = load_data("digits")["train"]
    model = learned(tmp_path, "mlp", load_data("digits"), epochs=15)
    rows = torch.arange(len(split)).repeat(copies)
    many = dataclasses.replace(split, inputs=split.inputs[rows], targets=split.targets[rows])
    generator = torch.Generator().manual_seed(123)
    directions = [random_direction(model, generator) for _ in "xy"]
    axis = np.linspace(-1, 1, 51)
    steps = np.stack([c.ravel() for c in np.meshgrid(axis, axis)], axis=1)
    levels = anchor_levels((51, 51))
    some = np.setdiff1d(np.random.default_rng(0).choice(2601, 100, replace=False), levels[-1])

    def evaluations(anchors):
        evaluator = Evaluator(model, load_criterion("cross_entropy")[1], {"train": many}, directions)
        sampled = SampledEvaluator(evaluator, (51, 51), steps, rtol=0.01, anchors=anchors)
        used = len(sampled.prepare(World()))
        return used * len(many) + (2601 - used) * np.mean([sampled(int(index))[2] for index in some]), used

    least = min(evaluations(level)[0] for level in levels)
    total, anchors = evaluations(None)
    assert anchors == {1: 169, 40: 49}[copies]
    assert total <= 1.3 * least


def test_a_bound_that_cannot_be_met_ends_at_the_exact_value(small_net, digits):
    data = {"train": digits["test"]}
    exact = compute_surface(small_net, data=data, x=(-1, 1, 9), y=(-1, 1, 9), precision="fp32", progress=False)
    drawn = compute_surface(small_net, data=data, x=(-1, 1, 9), y=(-1, 1, 9), precision="fp32", rtol=1e-9, progress=False)
    np.testing.assert_allclose(drawn.metric("train_loss"), exact.metric("train_loss"), rtol=1e-6)
    np.testing.assert_allclose(drawn.metric("train_acc"), exact.metric("train_acc"), rtol=1e-6)
    assert (drawn.metric("train_samples") == len(digits["test"])).all()
    assert (drawn.metric("train_loss_stderr") == 0).all()


def test_anchors_are_a_sixteenth_of_a_surface_and_do_not_grow_with_the_grid():
    assert len(anchor_points((51, 51))) == 13 * 13
    assert len(anchor_points((201, 201))) <= 15 * 15
    assert set(anchor_points((9,)).tolist()) == {4}


def test_points_above_the_cap_are_left_early_and_marked(small_net, digits):
    data = {"train": digits["train"]}
    options = {"data": data, "x": (-3, 3, 7), "y": (-3, 3, 7), "precision": "fp32", "batch_size": 64, "progress": False}
    exact = compute_surface(small_net, **options)
    cap = float(np.median(exact.metric()))
    capped = compute_surface(small_net, **options, loss_cap=cap)
    early = capped.metric("train_samples") < len(digits["train"])
    assert early.any()
    assert (exact.metric()[early] > cap).all()
    np.testing.assert_allclose(capped.metric()[~early], exact.metric()[~early], rtol=1e-6)
    assert (np.abs(capped.metric() - exact.metric())[early] < 6 * capped.metric("train_loss_stderr")[early]).all()
    clearly = exact.metric() > 1.5 * cap
    assert early[clearly].mean() > 0.9


def test_a_criterion_that_gives_only_means_is_refused(small_net, digits):
    def mean(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)

    with pytest.raises(InputError, match="loss of each sample"):
        compute_surface(small_net, mean, {"train": digits["test"]}, curve=True, x=(-1, 1, 9), rtol=0.01, progress=False)


def test_a_sampled_surface_resumes_to_the_same_values(small_net, digits, tmp_path):
    options = {"data": {"train": digits["test"]}, "x": (-1, 1, 17), "y": (-1, 1, 13), "rtol": 0.02, "progress": False}
    whole = compute_surface(small_net, **options, path=tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["status"][3:, :] = 0
        file["train_loss"][3:, :] = np.nan
    again = compute_surface(small_net, **options, path=tmp_path / "s.h5")
    for name, values in whole.metrics.items():
        np.testing.assert_allclose(again.metric(name), values, rtol=1e-9)


@pytest.fixture
def stopped(small_net, digits, tmp_path, monkeypatch):
    """A sampled surface, stopped after four anchors: (what it is made of, anchors evaluated since, the whole surface)."""
    options = {"data": {"train": digits["test"]}, "x": (-1, 1, 17), "y": (-1, 1, 17), "rtol": 0.02, "progress": False}
    options |= {"precision": "fp32", "batch_size": 64}  # not chosen by timing, so that two jobs agree to the bit
    whole = compute_surface(small_net, **options)
    evaluated, real = [], SampledEvaluator._evaluate_anchor

    def counted(self, position):
        if len(evaluated) == 4:
            raise KeyboardInterrupt
        evaluated.append(int(self._candidates[position]))
        return real(self, position)

    monkeypatch.setattr(SampledEvaluator, "_evaluate_anchor", counted)
    with pytest.raises(KeyboardInterrupt):
        compute_surface(small_net, **options, path=tmp_path / "s.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".s.h5.anchors", "s.h5"]
    first = set(evaluated)
    evaluated[:] = [-1] * 5  # no further stop
    return options, first, evaluated, whole


def equal(surface, whole):
    return all(np.array_equal(surface.metrics[name], values) for name, values in whole.metrics.items())


def test_a_stopped_surface_goes_on_with_the_anchors_that_it_has(stopped, small_net, tmp_path):
    options, first, evaluated, whole = stopped
    assert (read_surface(tmp_path / "s.h5").status != PENDING).sum() == len(first) == 4
    assert equal(compute_surface(small_net, **options, path=tmp_path / "s.h5"), whole)
    again = evaluated[5:]
    assert first.isdisjoint(again)
    assert len(set(again)) == len(again)
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.parametrize("damage", ["cut", "changed", "none"])
def test_anchors_that_cannot_be_trusted_are_evaluated_again(stopped, small_net, tmp_path, damage):
    options, first, evaluated, whole = stopped
    kept = tmp_path / ".s.h5.anchors"
    data = bytearray(kept.read_bytes())
    if damage == "changed":
        for place in range(100, len(data), 1000):
            data[place] ^= 1
    kept.write_bytes(data[: len(data) // 50] if damage == "cut" else data)
    if damage == "none":
        kept.unlink()
    assert equal(compute_surface(small_net, **options, path=tmp_path / "s.h5"), whole)
    assert first <= set(evaluated[5:])
    assert not kept.exists()


def test_overwrite_evaluates_all_anchors_again(stopped, small_net, tmp_path):
    options, first, evaluated, whole = stopped
    assert equal(compute_surface(small_net, **options, path=tmp_path / "s.h5", overwrite=True), whole)
    assert first <= set(evaluated[5:])
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


GIVEN = {"x": (-1, 1, 9), "y": (-1, 1, 9), "rtol": 0.1, "progress": False}


def what_is_there(path):
    """What writing or replacing changes; reading, which may set the time of access, is allowed."""
    state = path.lstat()
    return state.st_mode, state.st_ino, state.st_size, state.st_mtime_ns


def test_what_has_the_name_and_is_no_such_file_is_left_alone(small_net, digits, tmp_path):
    for number, place in enumerate(("file", "folder", "pipe", "lost link")):
        kept = tmp_path / f".{number}.h5.anchors"
        {"file": lambda p: p.write_text("mine"), "folder": Path.mkdir, "pipe": os.mkfifo,
         "lost link": lambda p: p.symlink_to(tmp_path / "nowhere")}[place](kept)  # fmt: skip
        before = what_is_there(kept)
        compute_surface(small_net, data={"train": digits["test"]}, **GIVEN, path=tmp_path / f"{number}.h5")
        assert what_is_there(kept) == before
    assert (tmp_path / ".0.h5.anchors").read_text() == "mine"


@pytest.mark.parametrize("start", [b"", b"anchors of"])
def test_one_that_did_not_fit_is_replaced(small_net, digits, tmp_path, start):
    (tmp_path / ".s.h5.anchors").write_bytes(start)
    compute_surface(small_net, data={"train": digits["test"]}, **GIVEN, path=tmp_path / "s.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


def test_a_full_disk_costs_the_anchors_alone_and_gives_their_room_back(small_net, digits, tmp_path, monkeypatch, caplog):
    real, calls = _RowFile._sum, []

    def full(self, position, data):
        calls.append(position)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, position, data)

    monkeypatch.setattr(_RowFile, "_sum", full)
    surface = compute_surface(small_net, data={"train": digits["test"]}, **GIVEN, path=tmp_path / "s.h5")
    assert surface.is_complete
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
    assert caplog.text.count("anchors are not kept (No space left on device)") == 1


@pytest.mark.slow
def test_the_longest_name_of_a_file_is_no_longer_a_name_for_its_anchors(digits, tmp_path):
    """On two ranks: one that stopped alone would leave the other waiting."""
    name = f"{'n' * 250}.h5"
    job = [
        "compute",
        "--weights",
        examples.checkpoint("resnet56"),
        "--x=-1:1:5",
        "--samples",
        "64",
        "--rtol",
        "0.1",
        "-o",
        name,
    ]
    done = run(*job, cwd=tmp_path, ranks=2, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "anchors are not kept" in done.stderr
    assert read_surface(tmp_path / name).is_complete


@pytest.mark.parametrize("nothing_finished", [True, False])
def test_a_changed_loss_is_refused_though_anchors_are_kept(nothing_finished, stopped, small_net, tmp_path):
    options, _, _, _ = stopped
    if nothing_finished:  # as a kill within the first second leaves it
        with h5py.File(tmp_path / "s.h5", "r+") as file:
            file["status"][:] = PENDING
            file["train_loss"][:] = np.nan
    kept = (tmp_path / "s.h5").read_bytes()
    changed = copy.deepcopy(small_net)
    changed.forward = lambda inputs, before=small_net.forward: 1.02 * before(inputs)  # the same weights, other outputs
    with pytest.raises(SurfaceFileError, match="has changed since"):
        compute_surface(changed, **options, path=tmp_path / "s.h5")
    assert (tmp_path / "s.h5").read_bytes() == kept


def test_a_hit_that_is_a_share_predicts_as_one(digits):
    """Accuracy of a sample of several places, as of a sequence: between 0 and 1."""
    table = AnchorTable(1, 1, {"train": 3})
    shares = np.array([0.25, 1.0, 0.6])
    table.add(0, table.row([2.0], {"train": (np.ones(3), shares)}))
    np.testing.assert_allclose(table.hits("train", 0), shares, rtol=1e-6)
    assert table.metrics(0) == [2.0]


def test_another_seed_is_refused_on_a_line_too(small_net, digits, tmp_path):
    end = copy.deepcopy(small_net)
    with torch.no_grad():
        for parameter in end.parameters():
            parameter += 0.1
    given = {"data": {"train": digits["test"]}, "x": (0, 1, 9), "x_to": end.state_dict(), "rtol": 0.1, "progress": False}
    compute_surface(small_net, **given, path=tmp_path / "s.h5", seed=1)
    with pytest.raises(SurfaceFileError, match=r"sampling\.seed is 1 there, 2 now"):
        compute_surface(small_net, **given, path=tmp_path / "s.h5", seed=2)
