"""A user's own file: a network with LoRA layers in a frozen base, and data."""

import torch
from torch import nn


class LoRA(nn.Module):
    """w + b a, of which a and b are trained."""

    def __init__(self, inputs, outputs, rank=2):
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_a, self.lora_b = nn.Parameter(torch.randn(rank, inputs)), nn.Parameter(torch.randn(outputs, rank))

    def forward(self, x):
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([LoRA(4, 6), LoRA(6, 6)])
        self.norm = nn.BatchNorm1d(6).requires_grad_(False)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(self.norm(x))


def build():
    torch.manual_seed(0)
    return Net().eval()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(30, 4, generator=generator), torch.randint(0, 3, (30,), generator=generator)
