"""Built-in models by name; adding one means adding a module here and a line to ``MODELS``.

A factory takes the shape of one input sample, the number of classes and keyword options, and returns an ``nn.Module``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from paraloss.compute.inputs.models.densenet import DenseNet121
from paraloss.compute.inputs.models.mlp import mlp
from paraloss.compute.inputs.models.resnet import STAGES, ResNet
from paraloss.compute.inputs.models.resnet_cifar import DEPTHS, resnet_cifar
from paraloss.compute.inputs.models.vgg import VGG9

Factory = Callable[..., nn.Module]

_WIDE = ((56, 2), (56, 4), (56, 8), (110, 2), (110, 4))
_WITHOUT = {"": True, "_noshort": False}

MODELS: dict[str, Factory] = {
    **{
        f"resnet{depth}{end}": partial(resnet_cifar, depth=depth, shortcuts=on)
        for depth in DEPTHS
        for end, on in _WITHOUT.items()
    },
    **{
        f"wrn{depth}_{k}{end}": partial(resnet_cifar, depth=depth, width=k, shortcuts=on)
        for depth, k in _WIDE
        for end, on in _WITHOUT.items()
    },
    **{f"resnet{depth}{end}": partial(ResNet, depth=depth, shortcuts=on) for depth in STAGES for end, on in _WITHOUT.items()},
    "vgg9": VGG9,
    "densenet121": DenseNet121,
    "mlp": mlp,
}
