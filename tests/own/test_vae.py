"""A variational autoencoder: losses inside a step, random numbers drawn at every point from one seed."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


class Autoencoder(nn.Module):
    def __init__(self, width=6, inner=2):
        super().__init__()
        self.encode, self.decode = (
            nn.Linear(8, 2 * inner),
            nn.Sequential(nn.Linear(inner, width), nn.Tanh(), nn.Linear(width, 8)),
        )

    def forward(self, x):
        mean, log_variance = self.encode(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decode(z), mean, log_variance


def build():
    torch.manual_seed(0)
    return Autoencoder()


def images():
    return torch.rand(50, 8, generator=torch.Generator().manual_seed(1))


def data():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images()), batch_size=16)


def elbo(model, batch):
    """(n,) negative evidence lower bounds."""
    (x,) = batch
    found, mean, log_variance = model(x)
    reconstruction = F.binary_cross_entropy_with_logits(found, x, reduction="none").sum(1)
    return reconstruction - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)


def loop(model):
    batches = list(data())  # a loader draws a number itself
    torch.manual_seed(0)
    losses = [elbo(model, batch) for batch in batches]
    return {"train_loss": torch.cat(losses).mean().item()}


def test_the_loss_of_every_point_is_the_loops_own_from_one_seed():
    surface = surface_of(build(), None, data(), step=elbo)
    assert_right(surface, build(), loop)
    again = surface_of(build(), None, data(), step=elbo)
    np.testing.assert_array_equal(surface.metric(), again.metric())


@pytest.mark.slow
def test_ranks_draw_the_same_numbers(tmp_path):
    surface = surface_on_ranks(__file__, tmp_path, "--step", f"{__file__}:elbo", model=build())
    assert_right(surface, build(), loop)
