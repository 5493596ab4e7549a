"""A ConvNeXt: depthwise convolutions, layer norms over channels, learned scales of each layer."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.5))

    def forward(self, x):
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.scale * self.narrow(F.gelu(self.wide(inner))).permute(0, 3, 1, 2)


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), ChannelNorm(8), Block(8), ChannelNorm(8), nn.Conv2d(8, 12, 2, stride=2), Block(12),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 5),
    )  # fmt: skip


def data():
    generator = torch.Generator().manual_seed(1)
    images, targets = torch.randn(12, 3, 32, 32, generator=generator), torch.randint(0, 5, (12,), generator=generator)
    return {"train": DataLoader(TensorDataset(images, targets), batch_size=5, shuffle=True), "test": (images[:4], targets[:4])}


def loop(model):
    images, targets = data()["train"].dataset.tensors
    outputs = model(images)
    return {
        "train_loss": F.cross_entropy(outputs, targets).item(),
        "test_loss": F.cross_entropy(outputs[:4], targets[:4]).item(),
    }


def test_a_convnext_has_the_losses_of_a_plain_loop():
    surface = surface_of(build(), "cross_entropy", data(), splits=["train", "test"])
    assert_right(surface, build(), loop)


@pytest.mark.slow
def test_a_convnext_on_two_ranks(tmp_path):
    assert_right(surface_on_ranks(__file__, tmp_path, "--splits=train,test", model=build()), build(), loop)
