"""A physics model in float64, whose numbers float32 cannot hold: w = 1, inputs 1e8 + k, targets one less."""

import numpy as np
import pytest
import torch
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))

    def forward(self, x):
        return x @ self.slope


def build():
    return Line()


def data():
    x = 1e8 + np.arange(20.0)[:, None]
    return x, x - 1


def loop(model):
    inputs, targets = (torch.from_numpy(part) for part in data())
    return {"train_loss": ((model(inputs) - targets) ** 2).mean().item()}


@pytest.mark.parametrize("loss", ["mse", nn.MSELoss(), lambda o, t: ((o - t) ** 2).mean()], ids=["ours", "torch's", "own"])
def test_float64_stays_float64(loss):
    surface = surface_of(build(), loss, data(), precision="auto", batch_size=6)
    assert surface.at(0, 0)["train_loss"] == 1.0
    assert_right(surface, build(), loop, rel=1e-9)


@pytest.mark.slow
def test_float64_on_two_ranks(tmp_path):
    surface = surface_on_ranks(__file__, tmp_path, "--loss=mse", "--precision=auto", model=build())
    assert surface.at(0, 0)["train_loss"] == 1.0
    assert_right(surface, build(), loop, rel=1e-9)
