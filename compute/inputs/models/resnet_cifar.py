"""The CIFAR ResNets of He et al. 2016 (arXiv 1512.03385, section 4.2), with and without shortcuts.

Parameter names are those of Li et al. 2018, so that their checkpoints load: ``conv1, bn1,
layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2,shortcut.0,shortcut.1}, linear``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = (20, 32, 44, 56, 110)


def resnet_cifar(
    sample_shape: Sequence[int], classes: int, depth: int = 20, shortcuts: bool = True, width: int = 1
) -> nn.Module:
    """A ResNet of three stages with 16, 32 and 64 filters, each times ``width``.

    Args:
        sample_shape: (channels, height, width) of one input; any size, the end is a global average pool.
        classes: units of the output.
        depth: 6n + 2 weighted layers; 20, 32, 44, 56, 110 in the paper.
        shortcuts: False leaves a plain chain of convolution, batch norm and ReLU.
        width: k of the wide networks WRN-56-k in Li et al. 2018, Figure 6; the first convolution is widened too.
    """
    return ResNetCifar(sample_shape[0], classes, (depth - 2) // 6, shortcuts, width)


class ResNetCifar(nn.Module):
    def __init__(self, channels: int, classes: int, blocks: int, shortcuts: bool, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16 * width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16 * width)
        self.layer1 = _stage(16 * width, 16 * width, blocks, 1, shortcuts)
        self.layer2 = _stage(16 * width, 32 * width, blocks, 2, shortcuts)
        self.layer3 = _stage(32 * width, 64 * width, blocks, 2, shortcuts)
        self.linear = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. 2015, arXiv 1502.01852: keeps 56 layers trainable
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        result: Tensor = self.linear(x.mean(dim=(2, 3)))
        return result


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut; one that changes shape is a 1×1 convolution with batch norm."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class PlainBlock(nn.Module):
    """The same two convolutions without a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def _stage(before: int, after: int, blocks: int, stride: int, shortcuts: bool) -> nn.Sequential:
    block = BasicBlock if shortcuts else PlainBlock
    return nn.Sequential(block(before, after, stride), *(block(after, after, 1) for _ in range(blocks - 1)))
