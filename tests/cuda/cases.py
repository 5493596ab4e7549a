"""Models, data and evaluators for the cases of this folder."""

from __future__ import annotations

import torch
from fake_cuda import DEVICE
from torch import nn

from paraloss.compute import Evaluator, Split, load_criterion, load_model, random_direction

CRITERION = load_criterion("cross_entropy")[1]
POINT = (0.1, 0.2)
CLOSE = {"fp32": 1e-5, "tf32": 1e-5, "bf16": 5e-2, "fp16": 5e-3}  # losses beside those of the CPU in fp32


class Small(nn.Module):
    """Convolutions that fold, one in a shortcut, and one that does not, because its batch norm is before it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.bn3, self.conv3 = nn.BatchNorm2d(12), nn.Conv2d(12, 7, 3, stride=2)
        self.linear = nn.Linear(7, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        x = self.conv3(torch.relu(self.bn3(x * 1.0)))
        return self.linear(x.mean((2, 3)))


def net(model=None, shape=(3, 8, 8)):
    torch.manual_seed(0)
    model = load_model(model, shape, 10) if isinstance(model, str) else model or Small()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2.0)
    return model.eval()


def images(samples=40, shape=(3, 8, 8), as_bytes=True, classes=10):
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, classes, (samples,), generator=generator)
    if not as_bytes:
        return Split(torch.randn(samples, *shape, generator=generator), targets)
    scale = (torch.full((1, shape[0], 1, 1), 127.0), torch.full((1, shape[0], 1, 1), 60.0))
    return Split(torch.randint(0, 256, (samples, *shape), generator=generator, dtype=torch.uint8), targets, scale)


def two_directions(model):
    generator = torch.Generator().manual_seed(2)
    return [random_direction(model, generator) for _ in "xy"]


def on_both(model, split, criterion=CRITERION, directions=None, **options):
    """(metrics at ``POINT`` on the CPU in the model's own type, the evaluator on the GPU); call it where the GPU is."""
    directions = two_directions(model) if directions is None else directions
    on_cpu = {name: value for name, value in options.items() if name != "precision"}
    expected = Evaluator(model, criterion, {"train": split}, directions, "cpu", **on_cpu)(POINT)
    return expected, Evaluator(model, criterion, {"train": split}, directions, DEVICE, **options)
