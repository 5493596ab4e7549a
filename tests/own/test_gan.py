"""A GAN: two networks in one module, noise drawn in the step, several losses of which one is drawn and one is a metric."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
        self.critic = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 8)), nn.LeakyReLU(), nn.Linear(8, 1))


def build():
    torch.manual_seed(0)
    return Pair()


def data():
    return DataLoader(TensorDataset(torch.randn(40, 5, generator=torch.Generator().manual_seed(1))), batch_size=16)


def step(model, batch):
    """(n,) losses of the generator."""
    noise = torch.randn(len(batch[0]), 3)
    return F.softplus(-model.critic(model.generator(noise)))[:, 0]


def critic(model, batch):
    """(n,) losses of the critic on real samples."""
    return F.softplus(-model.critic(batch[0]))[:, 0]


def loop(model):
    batches = list(data())
    torch.manual_seed(0)
    losses = torch.cat([step(model, batch) for batch in batches])
    return {"train_loss": losses.mean().item(), "train_critic": torch.cat([critic(model, b) for b in batches]).mean().item()}


def test_the_generators_loss_and_the_critics():
    assert_right(surface_of(build(), None, data(), step=step, metrics=["loss", critic]), build(), loop)


@pytest.mark.slow
def test_a_gan_on_two_ranks(tmp_path):
    options = ("--step", f"{__file__}:step", "--metrics", f"loss,{__file__}:critic")
    assert_right(surface_on_ranks(__file__, tmp_path, *options, model=build()), build(), loop)
