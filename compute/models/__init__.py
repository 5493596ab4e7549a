"""Built-in models by name; adding one means adding a module here and a line to ``MODELS``.

A factory takes the shape of one input sample, the number of classes and keyword options, and returns an ``nn.Module``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from paraloss.compute.models.mlp import mlp
from paraloss.compute.models.resnet_cifar import DEPTHS, resnet_cifar
from paraloss.compute.models.vgg import VGG9

Factory = Callable[..., nn.Module]

MODELS: dict[str, Factory] = {
    **{f"resnet{depth}": partial(resnet_cifar, depth=depth) for depth in DEPTHS},
    **{f"resnet{depth}_noshort": partial(resnet_cifar, depth=depth, shortcuts=False) for depth in DEPTHS},
    "vgg9": VGG9,
    "mlp": mlp,
}
