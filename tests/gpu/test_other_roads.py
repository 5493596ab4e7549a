"""What is not a plain network with cross-entropy: states, recomputed statistics, sampling, own losses, steps, curvature."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gpu_judge import CRITERION, POINTS, assert_close, moved, need, network, numbers
from torch import nn

from paraloss.compute import Evaluator, Split, compute_surface, load_criterion, load_model, random_direction, train
from paraloss.compute.directions.between import direction_between
from paraloss.compute.evaluate.report import Report
from paraloss.compute.forward.batch_norm import normalizing_layers


def small(samples=90, seed=0):
    """(model, split, directions) of a network of two layers."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3))
    split = Split(torch.randn(samples, 3, 2, 2), torch.randint(0, 3, (samples,)))
    generator = torch.Generator().manual_seed(0)
    return model.eval(), split, [random_direction(model, generator) for _ in "xy"]


def own_loss(model, split, dtype):
    with torch.no_grad():
        return F.cross_entropy(model(numbers(split, dtype)).double(), split.targets).item()


def test_running_statistics_that_move(device, graphs):
    model, split, _ = network()
    torch.manual_seed(1)
    other = load_model("resnet20", (3, 16, 16), 10)
    with torch.no_grad():
        for layer in normalizing_layers(other):
            layer.momentum = None
        other.train()(numbers(split, torch.float32))
    direction = direction_between(model, other.eval().state_dict(), "states", "other")
    evaluator = Evaluator(model, CRITERION, {"train": split}, [direction], device, batch_size=32)
    for x in (0.0, 0.4, 1.0, 0.7, 0.1):
        exact, plain = (own_loss(moved(model, [direction], (x,), t), split, t) for t in (torch.float64, torch.float32))
        assert_close(evaluator((x,))[0], exact, plain)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_statistics(precision, device, graphs):
    need(precision, device)
    model, split, directions = network()
    evaluator = Evaluator(
        model, CRITERION, {"train": split}, directions, device, batch_size=32, bn_data=split, precision=precision
    )

    def recomputed(point, dtype):
        here = moved(model, directions, point, dtype)
        for layer in normalizing_layers(here):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        with torch.no_grad():
            for part in numbers(split, dtype).split(32):
                here(part)
        return own_loss(here.eval(), split, dtype)

    for point in POINTS:
        assert_close(evaluator(point)[0], *(recomputed(point, t) for t in (torch.float64, torch.float32)), precision)


def test_losses_of_single_samples(device):
    model, split, directions = network()
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, device, batch_size=32)
    evaluator.move_to(POINTS[3])
    losses, right = evaluator.sample_losses("train", 5, 80)
    with torch.no_grad():
        outputs = moved(model, directions, POINTS[3])(numbers(split))
    exact = F.cross_entropy(outputs, split.targets, reduction="none")[5:80]
    torch.testing.assert_close(losses.cpu(), exact, rtol=1e-3, atol=1e-3)
    assert float(right.sum()) == pytest.approx(float((outputs.argmax(1) == split.targets)[5:80].sum()), abs=1)


def test_a_sampled_surface_lies_within_its_errors(device):
    model, split, directions = small(samples=2000)
    given = {"x": (-1, 1, 9), "y": (-1, 1, 9), "directions": directions, "progress": False, "device": str(device)}
    found = compute_surface(model, "cross_entropy", {"train": split}, rtol=0.02, **given)
    exact = np.array([[own_loss(moved(model, directions, (x, y)), split, torch.float64) for x in found.x] for y in found.y])
    errors = np.abs(found.metrics["train_loss"] - exact) / np.maximum(found.metrics["train_loss_stderr"], 1e-6 * exact)
    assert (found.metrics["train_samples"] < 2000).any()
    assert (errors <= 5).all() and (errors <= 2).mean() > 0.8


class Untraceable(nn.Module):
    """Its number of steps depends on its weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        h = self.norm(self.conv(x))
        for _ in range(1 + int(self.out.weight.sum() > 0)):
            h = torch.tanh(h)
        return self.out(h.mean(dim=(2, 3)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_that_cannot_be_traced(precision, device, graphs):
    need(precision, device)
    torch.manual_seed(0)
    model, (_, split, _) = Untraceable().eval(), small()
    directions = [random_direction(model, torch.Generator().manual_seed(0)) for _ in "xy"]
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, device, batch_size=32, precision=precision)
    for point in POINTS:
        exact, plain = (own_loss(moved(model, directions, point, t), split, t) for t in (torch.float64, torch.float32))
        assert_close(evaluator(point)[0], exact, plain, precision)
    assert not evaluator.points.recorded
    assert evaluator.folded == 0


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_loss_with_weights_of_its_own(reduction, device, graphs):
    model, split, directions = small()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 0.2]), reduction=reduction)
    evaluator = Evaluator(model, load_criterion(loss)[1], {"train": split}, directions, device, batch_size=32)
    for point in POINTS:
        here = moved(model, directions, point)
        with torch.no_grad():
            # torch's mean divides by the weights of the samples; single losses are averaged as they are
            exact = (
                F.cross_entropy(here(numbers(split)), split.targets, loss.weight.double(), reduction=reduction).mean().item()
            )
        assert evaluator(point)[0] == pytest.approx(exact, rel=1e-5)


def test_a_step_over_batches_that_are_dicts(device):
    model, split, directions = small()
    batches = [{"x": split.inputs[k : k + 40], "y": split.targets[k : k + 40]} for k in range(0, len(split), 40)]

    def step(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    given = {"x": (-0.5, 0.5, 3), "y": (-0.4, 0.4, 3), "directions": directions, "progress": False, "device": str(device)}
    surface = compute_surface(model, data={"train": batches}, step=step, **given)
    for x, y in ((0.0, 0.0), (0.5, -0.4), (-0.5, 0.4)):
        exact = own_loss(moved(model, directions, (x, y)), split, torch.float64)
        assert surface.at(x, y)["train_loss"] == pytest.approx(exact, rel=1e-5)


def test_the_norm_of_the_gradient_and_the_ends_of_the_hessian(device, graphs):
    pytest.importorskip("curvlinops")
    model, split, directions = small()
    report = Report(measures=("grad_norm", "hessian"))
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, device, batch_size=32, report=report)
    for point in POINTS:
        found = dict(zip(evaluator.metrics, evaluator(point), strict=True))
        norm, low, high = curvature(moved(model, directions, point), split)
        assert found["train_grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert found["max_eig"] == pytest.approx(high, rel=1e-3)
        assert found["min_eig"] == pytest.approx(low, abs=1e-3 * high)


def curvature(model, split):
    """(norm of the gradient, smallest, largest eigenvalue) from the whole Hessian, in float64."""
    inputs = numbers(split)
    parameters = dict(model.named_parameters())
    loss = F.cross_entropy(model(inputs), split.targets)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    names = [name for name, parameter in parameters.items() if parameter.ndim > 1]
    sizes = [parameters[name].numel() for name in names]

    def of(flat):
        parts = {name: part.view_as(parameters[name]) for name, part in zip(names, flat.split(sizes), strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, parts, (inputs,)), split.targets)

    start = torch.cat([parameters[name].detach().reshape(-1) for name in names])
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(of, start))
    return math.sqrt(sum(float(g.square().sum()) for g in gradients)), float(values[0]), float(values[-1])


def test_training_goes_where_plain_gradient_descent_goes(device, tmp_path):
    model, split, _ = small()
    plain = moved(model, [], ())
    final = train(model, {"train": split}, tmp_path, epochs=4, lr=0.1, batch_size=90, momentum=0.0, nesterov=False,
                  weight_decay=0.0, device=str(device), progress=False)  # fmt: skip
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    schedule = [0.1, 0.1, 0.01, 0.0001]  # divided by ten after 50, 75 and 92 % of four epochs, whole epochs
    kept = torch.load(final, map_location="cpu", weights_only=True)
    for rate in schedule:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(plain(numbers(split)), split.targets).backward()
        optimizer.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(kept["state_dict"][name].double(), tensor, rtol=1e-4, atol=1e-5)
