"""A small multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(sample_shape: Sequence[int], classes: int, width: int = 64, depth: int = 2) -> nn.Module:
    """Flatten, ``depth`` hidden ReLU layers of ``width`` units, a linear read-out.

    Args:
        sample_shape: shape of one input; it is flattened.
        classes: units of the output.
        width: units of a hidden layer.
        depth: number of hidden layers.
    """
    sizes = [math.prod(sample_shape)] + [width] * depth
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
