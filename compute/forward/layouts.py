"""Weights of convolutions in channels_last, the layout that a GPU's convolutions of images read."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from paraloss.compute.forward.fusing import is_plain


def weights_in_channels_last(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Lay the weights of plain convolutions of images out in channels_last, in place.

    Returns:
        (parameter, its numbers as they were) of what was changed, for ``put_back``.
    """
    before = []
    for layer in model.modules():
        if type(layer) is nn.Conv2d and is_plain(layer) and not layer.weight.is_contiguous(memory_format=torch.channels_last):
            before.append((layer.weight, layer.weight.data))
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return before


def put_back(before: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Give weights the layout that they had; their numbers are those of then."""
    for weight, numbers in before:
        weight.data = numbers
