"""The direction from one checkpoint to another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paraloss.compute.directions.random import Direction, DirectionType
from paraloss.errors import InputError

_STATISTICS = ("running_mean", "running_var")


def direction_between(start: nn.Module, end: Mapping[str, Tensor], dir_type: DirectionType, told: str) -> Direction:
    """From the weights of ``start`` (step 0) to those of ``end`` (step 1), not normalized.

    Args:
        start: the model at the center.
        end: tensors of the other checkpoint by name.
        dir_type: ``states`` moves the batch-norm statistics too, as the losses in between need; ``weights`` does not.
        told: the other checkpoint's name, for messages.

    Returns:
        float64 CPU tensors: in float32, center + 1 * difference would miss the second checkpoint by a rounding.

    Raises:
        InputError: a tensor is missing in ``end`` or has another shape; names it.
    """
    names = movable(start) if dir_type == "states" else dict(start.named_parameters())
    direction = {}
    for name, tensor in names.items():
        if name not in end or end[name].shape != tensor.shape:
            there = tuple(end[name].shape) if name in end else "missing"
            raise InputError(f"{told}: is a checkpoint of another model: '{name}' is {there}, not {tuple(tensor.shape)}")
        direction[name] = end[name].detach().cpu().double() - tensor.detach().cpu().double()
    return direction


def movable(model: nn.Module) -> dict[str, Tensor]:
    """Every floating-point parameter and buffer by name; integer buffers (num_batches_tracked) never move."""
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    kept = model.state_dict().keys()
    return {name: tensor for name, tensor in tensors.items() if tensor.dtype.is_floating_point and name in kept}


def statistics_differ(model: nn.Module, other: Mapping[str, Tensor]) -> bool:
    """Whether the batch-norm running statistics of two checkpoints differ: then ``weights`` gives wrong losses between."""
    own = model.state_dict()
    return any(
        name.rpartition(".")[2] in _STATISTICS and name in other and not torch.equal(own[name].cpu(), other[name].cpu())
        for name in own
    )
