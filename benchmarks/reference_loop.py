"""The surface as the reference code computes it, a point at a time: DataLoader, eager float32, weights set in place.

Written anew from the description of Li et al.'s public code; used as the baseline of the benchmarks and nowhere else.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Images(Dataset[tuple[Tensor, int]]):
    """Images as bytes, one at a time turned into normalized float tensors, as torchvision's transforms do."""

    def __init__(self, pixels: Tensor, targets: Tensor, mean: Tensor, deviation: Tensor) -> None:
        self.pixels, self.targets, self.mean, self.deviation = pixels, targets, mean[0], deviation[0]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return (self.pixels[index].float() - self.mean) / self.deviation, int(self.targets[index])


def losses(
    model: nn.Module,
    data: Dataset[tuple[Tensor, int]],
    directions: Sequence[dict[str, Tensor]],
    points: Sequence[Sequence[float]],
    workers: int = 2,
    device: str = "cpu",
) -> list[float]:
    """Mean cross entropy at each point."""
    model = copy.deepcopy(model).to(device).eval()
    center = [parameter.detach().clone() for parameter in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    loader = DataLoader(data, batch_size=128, num_workers=workers)
    criterion, results = nn.CrossEntropyLoss(), []
    for point in points:
        for name, parameter, start in zip(names, model.parameters(), center, strict=True):
            change = sum(step * direction[name] for step, direction in zip(point, directions, strict=True))
            parameter.data = start + torch.as_tensor(change).to(start)
        total, count = 0.0, 0
        with torch.no_grad():
            for inputs, targets in loader:
                inputs, targets = inputs.to(device), targets.to(device)
                total += criterion(model(inputs), targets).item() * len(targets)
                count += len(targets)
        results.append(total / count)
    return results
