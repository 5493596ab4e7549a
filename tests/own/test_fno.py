"""A Fourier neural operator: complex weights, real inputs and outputs, a relative error as the loss."""

import pytest
import torch
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


class Operator(nn.Module):
    def __init__(self, width=5, modes=4):
        super().__init__()
        self.lift, self.project, self.modes = nn.Linear(1, width), nn.Linear(width, 1), modes
        self.weights = nn.Parameter(torch.randn(modes, width, width, dtype=torch.complex64) / width)
        self.local = nn.Linear(width, width)

    def forward(self, u):
        hidden = self.lift(u)
        waves = torch.fft.rfft(hidden, dim=1)[:, : self.modes]
        mixed = torch.einsum("nmi,mio->nmo", waves, self.weights)
        return self.project(torch.tanh(torch.fft.irfft(mixed, n=u.shape[1], dim=1) + self.local(hidden)))


def build():
    torch.manual_seed(0)
    return Operator()


def data():
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(24, 16, 1, generator=generator).cumsum(1)
    return u, u.roll(3, dims=1).tanh()


def loss(outputs, targets):
    """(n,) relative errors."""
    return (outputs - targets).flatten(1).norm(dim=1) / targets.flatten(1).norm(dim=1)


def loop(model):
    inputs, targets = data()
    return {"train_loss": loss(model(inputs), targets).mean().item()}


def test_complex_weights_move_as_a_whole():
    surface = surface_of(build(), loss, data(), batch_size=7)
    assert torch.as_tensor(surface.directions["x"]["weights"]).is_complex()
    assert_right(surface, build(), loop)


@pytest.mark.slow
def test_complex_weights_on_two_ranks(tmp_path):
    assert_right(surface_on_ranks(__file__, tmp_path, "--loss", f"{__file__}:loss", model=build()), build(), loop)
