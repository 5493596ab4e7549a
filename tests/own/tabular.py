"""A user's own file: the network inside a LightningModule, and data."""

import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(33, 5, generator=generator), torch.randint(0, 3, (33,), generator=generator)
