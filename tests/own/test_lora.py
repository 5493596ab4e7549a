"""Low-rank adapters in a frozen network: only the adapters require gradients."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


class Adapted(nn.Module):
    """A frozen linear layer, and a low-rank addition to its weights."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.lora_a = nn.Parameter(0.3 * torch.randn(rank, layer.in_features))
        self.lora_b = nn.Parameter(0.3 * torch.randn(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + x @ self.lora_a.T @ self.lora_b.T


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        Adapted(nn.Linear(7, 10)), nn.LayerNorm(10).requires_grad_(False), nn.GELU(), Adapted(nn.Linear(10, 4))
    )


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(30, 7, generator=generator), torch.randint(0, 4, (30,), generator=generator)


def loop(model):
    inputs, targets = data()
    return {"train_loss": F.cross_entropy(model(inputs), targets).item()}


def test_adapters_and_what_they_adapt_move_as_the_directions_say():
    model = build()
    assert_right(surface_of(model, "cross_entropy", data(), batch_size=8), build(), loop)
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in build().parameters()]


@pytest.mark.slow
def test_adapters_on_two_ranks(tmp_path):
    assert_right(surface_on_ranks(__file__, tmp_path, model=build()), build(), loop)
