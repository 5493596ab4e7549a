"""Directions through parameter space: random and normalized, or from one checkpoint to another.

Normalization follows Li et al. 2018, section 4 (arXiv 1712.09913). A direction is a dict from the name of a parameter
(or buffer) to a tensor of its shape; what it does not name does not move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from paraloss.errors import InputError, ShapeMismatch

Direction = dict[str, Tensor]
Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer", "none"]
Ignore = Literal["biasbn", "none"]
DirectionType = Literal["weights", "states"]

NORMS: tuple[Norm, ...] = ("filter", "layer", "weight", "dfilter", "dlayer", "none")
_TINY = 1e-10  # keeps a zero filter a zero direction instead of NaN
_STATISTICS = ("running_mean", "running_var")


def random_direction(
    model: nn.Module,
    generator: torch.Generator,
    norm: Norm = "filter",
    ignore: Ignore = "biasbn",
    dir_type: DirectionType = "weights",
) -> Direction:
    """A Gaussian direction, normalized to the weights of ``model``.

    Args:
        model: the center of the surface.
        generator: CPU generator; draw x first, then y from the same one, to get the numbers of Li et al. 2018.
        norm: see ``normalize``; ``none`` leaves the Gaussian as drawn.
        ignore: ``biasbn`` zeroes tensors of dimension <= 1 (biases, batch norm); ``none`` copies the weights there.
        dir_type: ``weights`` draws for the parameters; ``states`` for the whole state_dict, in its order. Running
            statistics stay where they are in both: moving a running variance at random makes it negative.

    Returns:
        One float32 CPU tensor a floating-point parameter.
    """
    parameters = dict(model.named_parameters())
    entries = model.state_dict() if dir_type == "states" else parameters
    direction = {}
    for name, weight in entries.items():
        # Tensors of dimension <= 1 are drawn too: they use up numbers of the stream, as in the reference.
        drawn = torch.randn(weight.shape, generator=generator)
        if name in parameters:
            direction[name] = normalize(drawn, weight.detach().cpu().float(), norm, ignore)
    return direction


def normalize(direction: Tensor, weight: Tensor, norm: Norm = "filter", ignore: Ignore = "biasbn") -> Tensor:
    """Scale one direction tensor by its weights.

    Args:
        direction: (out, in, …).
        weight: the parameter at the center, same shape.
        norm: ``filter``: each slice d[k] gets the norm of w[k]; ``layer``: d gets the norm of w; ``weight``: d * w;
            ``dfilter``: each d[k] gets norm 1; ``dlayer``: d gets norm 1; ``none``: d.
        ignore: what becomes of tensors of dimension <= 1 under every norm but ``none``: ``biasbn`` zero,
            ``none`` a copy of the weights.

    Returns:
        A new tensor of the same shape.

    Raises:
        ShapeMismatch: the shapes differ.
        InputError: no such norm.

    Source: Li et al. 2018, eq. 1: d_ij <- d_ij / ||d_ij|| * ||theta_ij||, and the norms of their public code.
    """
    if direction.shape != weight.shape:
        raise ShapeMismatch(f"a direction is {tuple(direction.shape)} but its parameter {tuple(weight.shape)}")
    if norm not in NORMS:
        raise InputError(f"unknown norm '{norm}'; there are {', '.join(NORMS)}")
    if norm == "none":
        return direction.clone()
    if direction.ndim <= 1:
        return torch.zeros_like(direction) if ignore == "biasbn" else weight.clone()
    if norm == "filter":
        return direction * (_filter_norms(weight) / (_filter_norms(direction) + _TINY))
    if norm == "layer":
        return direction * (_length(weight) / _length(direction).clamp_min(_TINY))
    if norm == "weight":
        return direction * weight
    if norm == "dfilter":
        return direction / (_filter_norms(direction) + _TINY)
    return direction / _length(direction).clamp_min(_TINY)


def _length(tensor: Tensor) -> Tensor:
    length: Tensor = tensor.norm()
    return length


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


def _filter_norms(tensor: Tensor) -> Tensor:
    """(out, 1, …): the Euclidean norm of each slice tensor[k]."""
    norms = tensor.flatten(1).norm(dim=1)
    result: Tensor = norms.reshape(-1, *[1] * (tensor.ndim - 1))
    return result
