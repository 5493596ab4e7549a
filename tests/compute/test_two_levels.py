"""Losses in a fast number type, corrected by a few samples in fp32: the error that is stated is the error that is made."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import BIN

import paraloss.compute.evaluate.fast_type as fast_type
from paraloss.compute import Evaluator, compute_surface, load_criterion, load_model, random_direction, train
from paraloss.compute.evaluate.corrected import CorrectedEvaluator
from paraloss.compute.evaluate.correction import Correction
from paraloss.compute.evaluate.fast_type import choose_fast_type
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.ranks.world import World
from paraloss.surface import read_surface

CRITERION = load_criterion("cross_entropy")[1]
AXIS = np.linspace(-1, 1, 15)
STEPS = np.stack([c.ravel() for c in np.meshgrid(AXIS, AXIS)], axis=1)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, digits):
    """An MLP at a minimum, where losses of 1e-3 are off by per cents in bf16, and its two directions."""
    torch.manual_seed(0)
    model = load_model("mlp", (1, 8, 8), 10)
    train(model, digits, tmp_path_factory.mktemp("mlp"), epochs=12, lr=0.05, progress=False)
    generator = torch.Generator().manual_seed(5)
    return model.eval(), [random_direction(model, generator) for _ in "xy"]


def plain(model, directions, split, steps):
    """(loss, accuracy in per cent) in fp32, sample by sample of the whole split, at one point."""
    moved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step, direction in zip(steps, directions, strict=True):
        for name, tensor in direction.items():
            moved[name] = moved[name] + float(step) * tensor
    with torch.no_grad():
        outputs = torch.func.functional_call(model, moved, (split.normalize(split.inputs),)).double()
    hits = (outputs.argmax(1) == split.targets).double().mean()
    return float(F.cross_entropy(outputs, split.targets)), 100 * float(hits)


def pair(model, directions, split):
    """The evaluator in bf16 and its correction to fp32."""
    fast, wide = (Evaluator(model, CRITERION, {"train": split}, directions, precision=p) for p in ("bf16", "fp32"))
    return fast, Correction(fast, wide, seed=3)


@pytest.mark.slow
def test_the_default_is_within_a_thousandth_of_what_is_drawn_of_fp32_on_all_samples(learned, digits):
    model, directions = learned
    split = digits["train"]
    estimator = CorrectedEvaluator(*pair(model, directions, split), STEPS, 1e-3)
    found = np.array([estimator(index) for index in range(len(STEPS))])
    truth = np.array([plain(model, directions, split, steps) for steps in STEPS])
    loss, error, accuracy = found.T
    off, drawn = np.abs(loss - truth[:, 0]), truth[:, 0] + 0.1
    assert (error <= 1e-3 * (loss + 0.1) * 1.01).all()
    assert (off <= 2 * error + 1e-6 * drawn).mean() >= 0.93
    assert (off <= 3e-3 * drawn).all()
    assert np.abs(accuracy - truth[:, 1]).max() <= 0.5
    uncorrected = [float(estimator.evaluator.every_loss(steps.tolist())["train"][0].mean()) for steps in STEPS]
    assert np.median(off / drawn) < 0.5 * np.median(np.abs(np.array(uncorrected) - truth[:, 0]) / drawn)


@pytest.mark.slow
def test_sampling_and_rounding_together_stay_within_the_bound(learned, digits):
    model, directions = learned
    split = digits["train"]
    fast, correction = pair(model, directions, split)
    estimator = SampledEvaluator(fast, (15, 15), STEPS, rtol=0.02, correction=correction)
    anchors = estimator.prepare(World())
    others = [index for index in range(len(STEPS)) if index not in anchors]
    found = {**anchors, **{index: estimator(index) for index in others}}
    loss, error, used, _ = np.array([found[index] for index in range(len(STEPS))]).T
    truth = np.array([plain(model, directions, split, steps)[0] for steps in STEPS])
    assert (error <= 0.02 * loss * (1 + 1e-9)).all()
    assert (np.abs(loss - truth) <= 2 * error + 1e-6 * truth).mean() >= 0.93
    assert used[others].mean() < 0.8 * len(split)


class Listed:
    """An evaluator whose losses are given."""

    def __init__(self, losses, hits=None):
        self.losses, self.hits, self.samples = losses, hits, {"train": len(losses)}

    def losses_at(self, name, rows):
        return self.losses[rows], None if self.hits is None else self.hits[rows]


def test_a_shift_is_unbiased_and_its_error_holds():
    """Relative differences of a per cent with a bias, on losses of which few make the mean."""
    random = np.random.default_rng(0)
    fast = torch.from_numpy(random.exponential(1.0, 5000) ** 3)
    wide = fast * torch.from_numpy(1 + 0.01 * random.normal(size=5000) + 0.004)
    truth = float((wide - fast).mean())
    shifts = [Correction(Listed(fast), Listed(wide), seed).shift("train", fast, (fast, None), 0.005) for seed in range(60)]
    off, errors = (np.array([s.loss for s in shifts]) - truth, np.array([s.error for s in shifts]))
    assert all(32 <= s.samples < 1000 for s in shifts)
    assert (errors <= 0.005).all()
    assert (np.abs(off) <= 2 * errors).mean() >= 0.93
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(60)


def test_a_bound_that_cannot_be_met_evaluates_all_samples_in_the_wide_type():
    random = np.random.default_rng(1)
    fast = torch.from_numpy(random.exponential(1.0, 300))
    wide, hits = fast + torch.from_numpy(random.normal(size=300)), torch.from_numpy(random.integers(0, 2, 300)).double()
    shift = Correction(Listed(fast), Listed(wide, hits), 0).shift("train", fast, (fast, 1 - hits), 1e-9)
    assert shift.samples == 300
    assert shift.error == 0
    assert float(fast.mean()) + shift.loss == pytest.approx(float(wide.mean()), rel=1e-12)
    assert float(1 - hits.mean()) + shift.hits == pytest.approx(float(hits.mean()), rel=1e-12)


def test_one_sample_that_changes_sides_does_not_move_the_accuracy():
    fast = torch.ones(4000, dtype=torch.float64)
    before, after = torch.zeros(4000, dtype=torch.float64), torch.zeros(4000, dtype=torch.float64)
    correction = Correction(Listed(fast), Listed(fast + 1e-6, after), 0)
    after[torch.argsort(correction._drawn["train"])[3]] = 1.0  # the fourth that is drawn
    assert correction.shift("train", fast, (fast, before), 1e-3).hits == 0.0


def test_losses_that_leave_the_range_of_the_fast_type_are_those_of_the_wide_one(learned, digits):
    model, directions = learned
    split = digits["test"]
    fast, correction = pair(model, directions, split)
    estimator = CorrectedEvaluator(fast, correction, STEPS, 1e-3)
    original = fast.every_loss

    def overflowing(coordinates):
        losses, hits = original(coordinates)["train"]
        losses = losses.clone()
        losses[::3], losses[1] = float("inf"), float("nan")
        return {"train": (losses, hits)}

    fast.every_loss = overflowing
    for index in (0, 40, 112):
        loss, error, _ = estimator(index)
        assert loss == pytest.approx(plain(model, directions, split, STEPS[index])[0], abs=max(3 * error, 1e-4))


def test_a_loss_that_fp32_cannot_hold_is_not_finite(learned, digits):
    model, directions = learned
    huge = [{name: tensor * 1e30 for name, tensor in direction.items()} for direction in directions]
    estimator = CorrectedEvaluator(*pair(model, huge, digits["test"]), STEPS, 1e-3)
    assert not np.isfinite(estimator(0)[0])


@pytest.mark.slow
def test_a_surface_says_how_it_was_evaluated_and_what_it_is_off_by(learned, digits, has_bf16, tmp_path):
    model, _ = learned
    data = {"train": digits["train"], "test": digits["test"]}
    given = {"data": data, "x": (-1, 1, 11), "splits": "train,test", "progress": False}
    surface = compute_surface(model, **given, path=tmp_path / "s.h5")
    assert surface.provenance["precision"] == "fp32"
    assert surface.provenance["tuning"]["fast"] == "bf16"
    exact = compute_surface(model, **given, precision="fp32")
    assert set(surface.metrics) == {f"{s}_{k}" for s in ("train", "test") for k in ("loss", "loss_stderr", "acc")}
    for name in ("train", "test"):
        off = np.abs(surface.metrics[f"{name}_loss"] - exact.metrics[f"{name}_loss"])
        assert (off <= 3e-3 * (exact.metrics[f"{name}_loss"] + 0.1)).all()
    assert not np.array_equal(surface.metrics["train_loss"], exact.metrics["train_loss"])
    again = compute_surface(model, **given, path=tmp_path / "s.h5")
    assert np.array_equal(again.metrics["train_loss"], surface.metrics["train_loss"])


@pytest.mark.slow
def test_what_knows_no_samples_is_not_corrected(small_net, digits, has_bf16):
    def mean_only(outputs, targets):
        return F.cross_entropy(outputs, targets)

    data, grid = {"train": digits["test"]}, {"x": (-1, 1, 11), "progress": False}
    assert compute_surface(small_net, data=data, loss=mean_only, **grid).provenance["tuning"]["fast"] == ""
    assert compute_surface(small_net, data=data, **grid, split_data=1).provenance["tuning"]["fast"] == "bf16"
    assert compute_surface(small_net, data=data, **grid, precision="fp32").provenance["tuning"]["fast"] == ""
    capped = compute_surface(small_net, data=data, **grid, loss_cap=5.0)
    assert capped.provenance["tuning"]["fast"] == ""


def test_few_points_and_types_that_are_not_faster_stay_in_fp32(learned, digits, monkeypatch):
    model, directions = learned
    monkeypatch.setattr(fast_type, "faster_precisions", lambda device: ["bf16"])

    def make(precision):
        return Evaluator(model, CRITERION, {"train": digits["test"]}, directions, precision=precision)

    points = [np.zeros(2), np.ones(2)]
    assert choose_fast_type(make, torch.device("cpu"), points, 99, 1e-3, 360) == ("", {})
    monkeypatch.setattr(fast_type, "WORTH", 1e9)
    fast, differences = choose_fast_type(make, torch.device("cpu"), points, 100, 1e-3, 360)
    assert fast == ""
    assert 0 < differences["bf16"] < 0.1


JOB = """
import sys
import torch
import paraloss.compute.evaluate.fast_type as fast_type
import paraloss.compute.number_types as number_types
from paraloss.compute import compute_surface, load_data, load_model

fast_type.faster_precisions = number_types.faster_precisions = lambda device: ["bf16"]
fast_type.WORTH = 0.0
torch.set_num_threads(1)
model = load_model("mlp", (1, 8, 8), 10)
model.load_state_dict(torch.load("w.pt", weights_only=True))
for name, rtol in (("all.h5", None), ("part.h5", 0.05)):
    compute_surface(model.eval(), data={"train": load_data("digits")["test"]}, x=(-1, 1, 10), rtol=rtol, path=name,
                    batch_size=int(sys.argv[1]), progress=False)
"""


@pytest.mark.slow
def test_ranks_batches_and_resumes_do_not_change_a_bit(learned, digits, has_bf16, tmp_path):
    model, _ = learned
    given = {"data": {"train": digits["test"]}, "x": (-1, 1, 10), "progress": False, "batch_size": 64}
    alone = {"all.h5": compute_surface(model, **given), "part.h5": compute_surface(model, **given, rtol=0.05)}
    (tmp_path / "job.py").write_text(JOB)
    torch.save(model.state_dict(), tmp_path / "w.pt")

    def check(ranks, batch):
        command = [str(BIN / "mpiexec"), "-n", str(ranks), sys.executable, "job.py", str(batch)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        for name, surface in alone.items():
            found = read_surface(tmp_path / name)
            assert found.provenance["tuning"]["fast"] == "bf16"
            for metric, values in surface.metrics.items():
                assert np.array_equal(values, found.metrics[metric]), (name, metric)

    check(3, batch=100)
    for name in alone:  # as a kill leaves it
        with h5py.File(tmp_path / name, "r+") as file:
            file["status"][5:] = 0
            for metric in alone[name].metrics:
                file[metric][5:] = np.nan
    check(2, batch=64)
