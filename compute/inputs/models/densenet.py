"""DenseNet-121 (Huang et al. 2017, arXiv 1608.06993) in the form for small images, as Li et al. 2018 draw it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROWTH, _BLOCKS = 32, (6, 12, 24, 16)


class DenseNet121(nn.Module):
    """(n, channels, height, width) images of 8 pixels a side or more -> (n, classes).

    Parameter names: ``conv1, dense{1..4}.{i}.{bn1,conv1,bn2,conv2}, trans{1..3}.{bn,conv}, bn, linear``.
    """

    def __init__(self, sample_shape: Sequence[int], classes: int) -> None:
        super().__init__()
        channels, height, width = sample_shape
        if min(height, width) < 8:
            raise ValueError(f"images of {height}×{width} pixels are too small; DenseNet-121 halves them three times")
        planes = 2 * _GROWTH
        self.conv1 = nn.Conv2d(channels, planes, 3, padding=1, bias=False)
        for number, layers in enumerate(_BLOCKS, start=1):
            setattr(self, f"dense{number}", nn.Sequential(*(_Dense(planes + k * _GROWTH) for k in range(layers))))
            planes += layers * _GROWTH
            if number < len(_BLOCKS):
                setattr(self, f"trans{number}", _Transition(planes, planes // 2))
                planes //= 2
        self.bn = nn.BatchNorm2d(planes)
        self.linear = nn.Linear(planes, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in range(1, len(_BLOCKS) + 1):
            x = getattr(self, f"dense{number}")(x)
            if number < len(_BLOCKS):
                x = getattr(self, f"trans{number}")(x)
        return self.linear(F.relu(self.bn(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


class _Dense(nn.Module):
    def __init__(self, before: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, 4 * _GROWTH, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * _GROWTH)
        self.conv2 = nn.Conv2d(4 * _GROWTH, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return torch.cat([out, x], dim=1)


class _Transition(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(before)
        self.conv = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)
