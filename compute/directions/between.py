"""The direction from one checkpoint to another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paraloss.compute.directions.random import Direction
from paraloss.compute.inputs.tensors import distinct_parameters, state_tensors, tied_names
from paraloss.compute.options.surface import DirectionType
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
        float64 (complex128) CPU tensors: in float32, center + 1 * difference would miss the second checkpoint by a rounding.

    Raises:
        InputError: a tensor is missing in ``end``, has another shape, or two tensors differ that the model ties; names it.
    """
    names = movable(start) if dir_type == "states" else distinct_parameters(start)
    aliases: dict[str, list[str]] = {}
    for alias, name in tied_names(start).items():
        aliases.setdefault(name, []).append(alias)
    direction = {}
    for name, tensor in names.items():
        there = [alias for alias in (name, *aliases.get(name, [])) if alias in end]
        if not there or end[there[0]].shape != tensor.shape:
            found = tuple(end[there[0]].shape) if there else "missing"
            raise InputError(f"{told}: is a checkpoint of another model: '{name}' is {found}, not {tuple(tensor.shape)}")
        for alias in there[1:]:
            if not torch.equal(end[alias], end[there[0]]):
                raise InputError(f"{told}: '{there[0]}' and '{alias}' differ, but they are one tensor in the model")
        direction[name] = _exact(end[there[0]]) - _exact(tensor)
    return direction


def movable(model: nn.Module) -> dict[str, Tensor]:
    """Every floating-point or complex parameter and buffer by name; integer buffers (num_batches_tracked) never move."""
    kept = state_tensors(model).keys()
    tensors = {**distinct_parameters(model), **dict(model.named_buffers())}
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name in kept and tensor.layout == torch.strided and (tensor.is_floating_point() or tensor.is_complex())
    }


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().to(torch.complex128 if tensor.is_complex() else torch.float64)


def statistics_differ(model: nn.Module, other: Mapping[str, Tensor]) -> bool:
    """Whether the batch-norm running statistics of two checkpoints differ: then ``weights`` gives wrong losses between."""
    own = state_tensors(model)
    return any(
        name.rpartition(".")[2] in _STATISTICS and name in other and not torch.equal(own[name].cpu(), other[name].cpu())
        for name in own
    )
