"""Sharpness of losses whose Hessian is known, and of a network against plain loops."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import call
from torch import nn

from paraloss.compute import Evaluator, load_criterion
from paraloss.compute.evaluate.sharpness import sharpness
from paraloss.compute.inputs.losses import Losses
from paraloss.errors import InputError


class Quadratic(nn.Module):
    """Outputs whose mean square is w H w for a weight of 2 x 10 and a given H."""

    def __init__(self, curvatures):
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
        self.root = (rotation * torch.tensor(curvatures, dtype=torch.float64).sqrt()) @ rotation.T
        self.weight = nn.Parameter(torch.full((2, 10), 0.3, dtype=torch.float64))

    def batch(self):
        return None


class Squares:
    """A loss of one batch: the square of root @ w, shifted so that w is the minimum."""

    def __init__(self, center):
        self.center = center

    def batch_losses(self, model, batch):
        offset = model.root @ (model.weight - self.center).flatten()
        return Losses(total=offset.square().sum(), count=1.0)


CURVATURES = [50.0, 20.0, 5.0, *np.linspace(0.1, 1.0, 17)]


@pytest.fixture
def bowl():
    model = Quadratic(CURVATURES)
    return model, Squares(model.weight.detach().clone())


def test_every_number_of_a_quadratic_bowl_is_the_one_of_the_formula(bowl):
    model, loss = bowl
    found = sharpness(model, loss, [None], rho=0.1, noise=0.2, draws=400, products=12, starts=4, steps=60, top=3)
    assert found["loss"].value == 0
    assert found["worst_rise"].value == pytest.approx(50 * 0.1**2, rel=0.01)  # not above, and close
    assert found["worst_rise"].value <= 50 * 0.1**2 * (1 + 1e-9)
    hessian = 2 * (model.root @ model.root).numpy()
    scale = np.diag(np.full(20, 0.31))
    assert found["adaptive_rise"].value == pytest.approx(0.25 * np.linalg.eigvalsh(scale @ hessian / 2 @ scale)[-1], rel=0.01)
    # Each of the two filters is a random point of a sphere of radius 0.2 |w_k|: E = sum of H_ii radius^2 / 10.
    radius = 0.2 * 0.3 * np.sqrt(10)
    expected = np.trace(hessian / 2) * radius**2 / 10
    assert abs(found["noise_rise"].value - expected) <= 3 * found["noise_rise"].error
    assert found["noise_rise"].error < 0.1 * expected
    assert abs(found["trace"].value - np.trace(hessian)) <= 3 * found["trace"].error + 1e-9
    for number, value in enumerate((100.0, 40.0, 10.0), start=1):
        assert found[f"eigenvalue_{number}"].value == pytest.approx(value, rel=1e-3)
    assert torch.equal(model.weight.detach(), loss.center)
    assert model.weight.requires_grad


def test_the_worst_rise_of_a_network_is_at_least_that_of_sams_step_and_of_random_ones(small_net, digits):
    split = digits["test"].subset(60)
    evaluator = Evaluator(small_net, load_criterion("cross_entropy")[1], {"test": split}, [], batch_size=25)
    found = sharpness(evaluator.model, evaluator.loss, evaluator.batches["test"], rho=0.3, draws=3, products=9, top=2)
    loss = F.cross_entropy(small_net(split.inputs), split.targets)
    gradient = torch.autograd.grad(loss, list(small_net.parameters()))
    length = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
    moved = {n: p + 0.3 * g / length for (n, p), g in zip(small_net.named_parameters(), gradient, strict=True)}
    loss = loss.detach()
    with torch.no_grad():
        rise = float(F.cross_entropy(torch.func.functional_call(small_net, moved, (split.inputs,)), split.targets) - loss)
    assert found["loss"].value == pytest.approx(float(loss), rel=1e-5)
    assert found["worst_rise"].value >= rise * (1 - 1e-4)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        offsets = [torch.randn(p.shape, generator=generator) for p in small_net.parameters()]
        length = torch.stack([o.square().sum() for o in offsets]).sum().sqrt()
        moved = {n: p + 0.3 * o / length for (n, p), o in zip(small_net.named_parameters(), offsets, strict=True)}
        with torch.no_grad():
            there = float(F.cross_entropy(torch.func.functional_call(small_net, moved, (split.inputs,)), split.targets))
        assert there - float(loss) <= found["worst_rise"].value


def test_only_parameters_that_move_are_moved(bowl):
    model, loss = bowl
    model.other = nn.Parameter(torch.ones(3, 3, dtype=torch.float64))
    every = sharpness(model, loss, [None], rho=0.1, products=6, draws=2, top=1)
    some = sharpness(model, loss, [None], [model.weight], rho=0.1, products=6, draws=2, top=1)
    assert some["worst_rise"].value == pytest.approx(every["worst_rise"].value, rel=0.05)
    with pytest.raises(InputError, match="rho"):
        sharpness(model, loss, [None], rho=0.0)
    with pytest.raises(InputError, match="no parameters"):
        sharpness(model, loss, [None], [])
    model.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        sharpness(model, loss, [None])


@pytest.mark.slow
def test_analyze_prints_the_sharpness_of_checkpoints(trained, tmp_path):
    options = ["--sharpness", "--samples", "40", "--draws", "2", "--products", "6"]
    done = call("analyze", trained / "final.pt", trained / "epoch_001.pt", *options, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["checkpoints"]
    assert list(found) == [str(trained / "final.pt"), str(trained / "epoch_001.pt")]
    numbers = found[str(trained / "final.pt")]
    assert {"loss", "worst_rise", "adaptive_rise", "noise_rise", "trace", "eigenvalue_1"} <= set(numbers)
    assert set(numbers["trace"]) == {"value", "error"}
    table = call("analyze", trained / "final.pt", *options, cwd=tmp_path)
    assert "±" in table.stdout and "Foret" in table.stdout
    wrong = call("analyze", trained / "final.pt", "--sharpness", "--rho", "-1", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--rho must be above zero" in wrong.stderr
    alone = call("analyze", trained / "final.pt", "--samples", "40", cwd=tmp_path)
    assert alone.returncode == 2 and "add --sharpness" in alone.stderr
    surface = call("analyze", tmp_path / "none.h5", "--sharpness", cwd=tmp_path)
    assert surface.returncode == 2
    assert len(surface.stderr.strip().splitlines()) == 1
