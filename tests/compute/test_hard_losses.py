"""Losses that few samples make: of zeros and ones, over many decades, not finite; and statistics of short batches.

The judge is a plain loop: the mean loss of all samples at displaced weights, in fp32.
"""

import copy
from types import MethodType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paraloss.compute import Evaluator, compute_surface, load_criterion
from paraloss.compute.inputs.split import Split
from paraloss.errors import InputError, SurfaceFileError


def fitted(model, loss, data, steps=200):
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(data[0]), data[1]).mean().backward()
        optimizer.step()
    return model.eval()


def perceptron(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def directions(model, seed):
    """Two random directions, each weight matrix as long as the model's own; biases stay."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in "xy":
        drawn = {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
        own = dict(model.named_parameters())
        found.append(
            {n: (d * own[n].norm() / d.norm()).detach() if d.ndim > 1 else torch.zeros_like(d) for n, d in drawn.items()}
        )
    return found


def displaced(model, axes, x, y):
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter += x * axes[0][name] + y * axes[1][name]
    return moved


def truth(model, axes, points, loss, data):
    """(n,) mean loss of all samples at each (x, y)."""
    with torch.no_grad():
        return np.array([float(loss(displaced(model, axes, x, y)(data[0]).double(), data[1]).mean()) for x, y in points])


def compared(model, loss, data, steps=21, reach=1.0, seed=0, **options):
    """(estimate, its error, samples, truth) at every point of a grid."""
    axes = directions(model, seed)
    grid = {"x": (-reach, reach, steps), "y": (-reach, reach, steps)}
    surface = compute_surface(model, loss, data, directions=axes, **grid, **options, progress=False)
    points = [(x, y) for y in surface.y for x in surface.x]
    columns = [surface.metric(f"train_{kind}").ravel() for kind in ("loss", "loss_stderr")]
    samples = surface.metrics.get("train_samples", np.full(len(points), len(data[1]))).ravel()
    return *columns, samples, truth(model, axes, points, loss, data)


def wrong(outputs, targets):
    """1 where the class is wrong, else 0."""
    return (outputs.argmax(1) != targets).double()


@pytest.fixture(scope="module")
def classes(digits):
    split = digits["train"]
    data = split.normalize(split.inputs).flatten(1), split.targets
    return fitted(perceptron(64, 64, 10), F.cross_entropy, data), data


def test_a_loss_of_zeros_and_ones_that_few_samples_change_is_right_in_a_fast_type(classes, has_bf16):
    model, data = classes
    loss, error, _, exact = compared(model, wrong, data)
    assert (np.abs(loss - exact) <= 2 * error + 1e-6).mean() >= 0.93
    assert (np.abs(loss - exact) <= 3e-3 * (exact + 0.1)).all()


def test_few_samples_of_a_loss_of_zeros_and_ones_do_not_promise_an_exact_mean(classes):
    model, data = classes
    loss, error, samples, exact = compared(model, wrong, data, steps=31, rtol=0.01, precision="fp32")
    drawn = samples < len(data[1])
    assert drawn.sum() > 50
    assert (error[drawn] > 1e-6).all()
    assert (np.abs(loss - exact) <= 2 * error + 1e-6).mean() >= 0.92


@pytest.mark.parametrize("seed", [3, 4])
def test_losses_over_many_decades_are_not_predicted_beyond_what_was_drawn(seed):
    torch.manual_seed(0)
    inputs = torch.randn(3000, 8)
    data = inputs, torch.poisson(torch.exp(1.5 * (inputs @ torch.randn(8, 1) / 3)))

    def poisson(outputs, targets):
        return F.poisson_nll_loss(outputs, targets, reduction="none").flatten(1).mean(1)

    model = fitted(perceptron(8, 64, 1), poisson, data, 300)
    loss, error, samples, exact = compared(model, poisson, data, reach=2.0, seed=seed, rtol=0.01, precision="fp32")
    drawn = samples < len(inputs)
    assert drawn.sum() > 30
    assert (np.abs(loss - exact) <= 2 * error + 1e-4 * np.abs(exact)).mean() >= 0.93
    assert (np.abs(loss - exact)[drawn] <= 0.25 * np.abs(exact[drawn])).all()


@pytest.mark.parametrize("culprit", [0, 700])
def test_one_sample_that_is_not_a_number_is_not_left_out(culprit, classes):
    torch.manual_seed(0)
    model, (inputs, targets) = perceptron(64, 64, 10).eval(), classes[1]
    inputs = inputs.clone()
    inputs[culprit, 3] = float("nan")
    surface = compute_surface(
        model, "cross_entropy", (inputs, targets), x=(-1, 1, 15), rtol=0.02, precision="fp32", progress=False
    )  # fmt: skip
    assert np.isnan(surface.metric("train_loss")).all()


@pytest.fixture(scope="module")
def normalized(digits):
    split = digits["train"]
    data = split.normalize(split.inputs).flatten(1)[:514], split.targets[:514]
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    return fitted(model, F.cross_entropy, data), data


def by_hand(model, axes, x, data, size):
    """Loss at (x, 0) with the batches' means and variances, each weighted by its samples."""
    moved, (inputs, targets) = displaced(model, axes, x, 0.0), data
    with torch.no_grad():
        batches = [batch for batch in inputs.split(size) if len(batch) > 1]
        hidden = [moved[0](batch) for batch in batches]
        shares = torch.tensor([len(batch) for batch in batches]) / sum(map(len, batches))
        moved[1].running_mean.copy_(sum(s * h.mean(0) for s, h in zip(shares, hidden, strict=True)))
        moved[1].running_var.copy_(sum(s * h.var(0) for s, h in zip(shares, hidden, strict=True)))
        return float(F.cross_entropy(moved.eval()(inputs).double(), targets))


@pytest.mark.parametrize("size", [514, 512, 256, 100])
def test_a_short_last_batch_weighs_as_many_samples_as_it_has(size, normalized):
    model, data = normalized
    axes = directions(model, 1)
    surface = compute_surface(
        model, "cross_entropy", data, directions=axes[:1], x=(-0.5, 0.5, 5), curve=True, bn="recompute", batch_size=size,
        precision="fp32", progress=False,
    )  # fmt: skip
    for x, value in zip(surface.x, surface.metric("train_loss").ravel(), strict=True):
        assert value == pytest.approx(by_hand(model, axes, float(x), data, size), rel=1e-4)


def test_batches_of_one_have_no_statistics(normalized):
    model, data = normalized
    for few in ({"batch_size": 1}, {"samples": 1}):
        with pytest.raises(InputError, match="each batch is one sample"):
            compute_surface(model, "cross_entropy", data, x=(-1, 1, 3), bn="recompute", **few, progress=False)


@pytest.mark.parametrize("smaller", ["use_batch_size", "halve_batch"])
def test_other_batches_do_not_change_the_statistics(smaller, normalized):
    """Their size is a matter of timing and of memory."""
    model, (inputs, targets) = normalized
    split = Split(inputs, targets)
    evaluator = Evaluator(
        model, load_criterion("cross_entropy")[1], {"train": split}, directions(model, 1), batch_size=256, bn_data=split
    )
    before = evaluator([0.3, 0.1])[0]
    evaluator.halve_batch() if smaller == "halve_batch" else evaluator.use_batch_size(32)
    assert evaluator([0.3, 0.1])[0] == pytest.approx(before, rel=1e-6)


class Centered(nn.Module):
    """What each sample gives depends on the others of its batch."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)

    def forward(self, inputs):
        hidden = self.first(inputs)
        return self.last(self.norm(hidden - hidden.mean(0)))


def test_statistics_of_a_model_that_mixes_samples_are_of_all_together(normalized):
    torch.manual_seed(0)
    model, (inputs, targets) = Centered().eval(), normalized[1]
    surface = compute_surface(
        model, "cross_entropy", (inputs, targets), x=(-1, 1, 3), bn="recompute", batch_size=32, curve=True, precision="fp32",
        progress=False,
    )  # fmt: skip
    with torch.no_grad():
        hidden = model.first(inputs)
        hidden = hidden - hidden.mean(0)
        model.norm.running_mean.copy_(hidden.mean(0))
        model.norm.running_var.copy_(hidden.var(0))
        expected = float(F.cross_entropy(model(inputs).double(), targets))
    assert surface.at(0.0)["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_ready_batches_of_one_image_have_statistics_over_its_pixels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    batches = [(torch.randn(1, 1, 8, 8), torch.tensor([k % 3])) for k in range(6)]

    def step(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    surface = compute_surface(model, step=step, data=batches, x=(-1, 1, 3), curve=True, bn="recompute", progress=False)
    with torch.no_grad():
        hidden = torch.stack([model[0](images) for images, _ in batches])
        model[1].running_mean.copy_(hidden.mean((1, 3, 4)).mean(0))
        model[1].running_var.copy_(torch.stack([one.var((0, 2, 3)) for one in hidden]).mean(0))
        expected = float(torch.stack([step(model, batch) for batch in batches]).double().mean())
    assert surface.at(0.0)["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_a_changed_model_is_refused_where_samples_are_drawn(classes, tmp_path):
    """The same samples give the same loss: the error of drawing them excuses nothing."""
    model, data = classes
    given = {"x": (-1, 1, 5), "samples": 100, "precision": "fp32", "path": tmp_path / "s.h5", "progress": False}
    compute_surface(model, "cross_entropy", data, **given)
    other = copy.deepcopy(model)
    other.forward = MethodType(lambda self, inputs: 1.01 * nn.Sequential.forward(self, inputs), other)
    with pytest.raises(SurfaceFileError, match="has changed since"):
        compute_surface(other, "cross_entropy", data, **given)


def test_one_sample_under_a_cap_is_all_there_is(classes):
    model, (inputs, targets) = classes
    surface = compute_surface(
        model, "cross_entropy", (inputs[:1], targets[:1]), x=(-1, 1, 3), loss_cap=2.0, precision="fp32", progress=False
    )  # fmt: skip
    assert (surface.metric("train_loss_stderr") == 0).all()
