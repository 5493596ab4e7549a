"""A physics-informed network: the loss differentiates the model by its inputs, and takes two kinds of points."""

import json

import pytest
import torch
from helpers import call
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn

from paraloss.surface import read_surface


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 1))


def data():
    """One batch: points inside of the domain, and more on its boundary."""
    generator = torch.Generator().manual_seed(1)
    inside, boundary = torch.rand(40, 2, generator=generator), torch.rand(25, 2, generator=generator)
    boundary[:, 1] = 0
    return {"inside": inside, "boundary": boundary}


def step(model, batch):
    """Heat equation u_t = u_xx with u(x, 0) = sin(pi x)."""
    points = batch["inside"].requires_grad_(True)
    u = model(points)
    (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), points, create_graph=True)
    start = model(batch["boundary"])[:, 0] - torch.sin(torch.pi * batch["boundary"][:, 0])
    return (first[:, 1] - second[:, 0]).square().mean() + 10 * start.square().mean()


def loop(model):
    value = step(model, data())
    norm = torch.stack([g.square().sum() for g in torch.autograd.grad(value, list(model.parameters()))]).sum().sqrt()
    return {"train_loss": value.item(), "train_grad_norm": norm.item()}


def test_a_loss_with_derivatives_of_the_model_and_its_gradient():
    surface = surface_of(build(), None, data(), step=step, metrics=["loss", "grad_norm"])
    assert_right(surface, build(), loop)


def dense_hessian(model):
    """Of the weights of two dimensions, column by column."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    gradients = torch.autograd.grad(step(model, data()), weights, create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    rows = [torch.autograd.grad(number, weights, retain_graph=True) for number in flat]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def ends_of_the_hessian(model):
    values = torch.linalg.eigvalsh(dense_hessian(model))
    return {"train_loss": step(model, data()).item(), "min_eig": values[0].item(), "max_eig": values[-1].item()}


def test_the_hessian_of_a_loss_with_derivatives_of_the_model():
    surface = surface_of(build(), None, data(), step=step, metrics=["loss", "hessian"])
    assert_right(surface, build(), ends_of_the_hessian, rel=1e-4)


def test_sharpness_and_eigenvectors_of_a_loss_with_derivatives_of_the_model(tmp_path):
    torch.save(build().state_dict(), tmp_path / "m.pt")
    own = ("--model", f"{__file__}:build", "--data", f"{__file__}:data", "--step", f"{__file__}:step")
    done = call("analyze", "--sharpness", tmp_path / "m.pt", *own, "--top", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["checkpoints"][str(tmp_path / "m.pt")]
    values, vectors = torch.linalg.eigh(dense_hessian(build()))
    largest = int(values.abs().argmax())
    assert found["eigenvalue_1"]["value"] == pytest.approx(values[largest].item(), rel=1e-3)
    assert found["loss"]["value"] == pytest.approx(step(build(), data()).item(), rel=1e-5)
    done = call(
        "compute", "--weights", tmp_path / "m.pt", *own, "--along", "eigenvector:1", "--curve", "--x=-1:1:3", "-o",
        tmp_path / "e.h5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    surface, model = read_surface(tmp_path / "e.h5"), build()
    for k, sign in ((0, -1), (2, 1)):
        losses = []
        for side in (sign, -sign):  # an eigenvector has no sign of its own
            model = build()
            weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
            length = torch.stack([weight.square().sum() for weight in weights]).sum().sqrt()
            parts = vectors[:, largest].split([weight.numel() for weight in weights])
            with torch.no_grad():
                for weight, part in zip(weights, parts, strict=True):
                    weight += side * length * part.reshape(weight.shape)
            losses.append(step(model, data()).item())
        assert min(abs(surface.metrics["train_loss"][k] / loss - 1) for loss in losses) < 1e-3


@pytest.mark.slow
def test_a_physics_informed_network_on_two_ranks(tmp_path):
    options = ("--step", f"{__file__}:step", "--metrics=loss,grad_norm")
    assert_right(surface_on_ranks(__file__, tmp_path, *options, model=build()), build(), loop)
