"""VGG-9 as in Figures 2 and 3 of Li et al. 2018: conv-bn-relu stages, then two linear layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_STAGES = ((64, 64), (128, 128), (256, 256, 256))


class VGG9(nn.Module):
    """(n, channels, height, width) images of 8 pixels a side or more -> (n, classes) logits."""

    def __init__(self, sample_shape: Sequence[int], classes: int) -> None:
        super().__init__()
        channels, height, width = sample_shape
        if min(height, width) < 8:
            raise ValueError(f"images of {height}×{width} pixels are too small; VGG-9 halves them three times")
        layers: list[nn.Module] = []
        for stage in _STAGES:
            for filters in stage:
                layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]
                channels = filters
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Linear(channels * (height // 8) * (width // 8), channels), nn.BatchNorm1d(channels), nn.ReLU()
        )
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.fc(torch.flatten(self.features(x), 1)))  # type: ignore[no-any-return]
