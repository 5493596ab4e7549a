"""ResNet-18 to 152 (He et al. 2016) in the form for small images: a 3×3 first convolution and no pooling after it.

Parameter names are those of Li et al. 2018: ``conv1, bn1, layer{1..4}.{i}.{conv1,bn1,…,shortcut.0,shortcut.1}, linear``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from paraloss.compute.inputs.models.resnet_cifar import BasicBlock, PlainBlock

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResNet(nn.Module):
    """(n, channels, height, width) -> (n, classes).

    Args:
        sample_shape: (channels, height, width) of one input.
        classes: units of the output.
        depth: 18, 34 (blocks of two 3×3 convolutions), 50, 101, 152 (bottlenecks).
        shortcuts: False leaves plain chains.
    """

    def __init__(self, sample_shape: Sequence[int], classes: int, depth: int = 18, shortcuts: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(sample_shape[0], 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before, expansion = 64, 1 if depth < 50 else 4
        for number, (filters, blocks) in enumerate(zip((64, 128, 256, 512), STAGES[depth], strict=True), start=1):
            layers: list[nn.Module] = []
            for block in range(blocks):
                stride = 2 if number > 1 and block == 0 else 1
                if depth < 50:
                    layers.append((BasicBlock if shortcuts else PlainBlock)(before, filters, stride))
                else:
                    layers.append(Bottleneck(before, filters, stride, shortcuts))
                before = filters * expansion
            setattr(self, f"layer{number}", nn.Sequential(*layers))
        self.linear = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.linear(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions; the last has four times the filters."""

    def __init__(self, before: int, filters: int, stride: int, shortcuts: bool) -> None:
        super().__init__()
        after = 4 * filters
        self.conv1 = nn.Conv2d(before, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.shortcuts = shortcuts
        if shortcuts:
            self.shortcut = nn.Sequential()
            if stride != 1 or before != after:
                self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x) if self.shortcuts else out)
