"""A physics-informed network: the loss differentiates the model by its inputs, and takes two kinds of points."""

import pytest
import torch
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


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


@pytest.mark.slow
def test_a_physics_informed_network_on_two_ranks(tmp_path):
    options = ("--step", f"{__file__}:step", "--metrics=loss,grad_norm")
    assert_right(surface_on_ranks(__file__, tmp_path, *options, model=build()), build(), loop)
