"""Random directions through parameter space, normalized.

Normalization follows Li et al. 2018, section 4 (arXiv 1712.09913). A direction is a dict from the name of a parameter
(or buffer) to a tensor of its shape; what it does not name does not move.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.tensors import distinct_parameters, state_tensors
from paraloss.compute.options.surface import DirectionType, Ignore, Norm
from paraloss.errors import InputError, ShapeMismatch

Direction = dict[str, Tensor]

NORMS: tuple[Norm, ...] = get_args(Norm)
_TINY = 1e-10  # keeps a zero filter a zero direction instead of NaN


def random_direction(
    model: nn.Module,
    generator: torch.Generator,
    norm: Norm = "filter",
    ignore: Ignore = "biasbn",
    dir_type: DirectionType = "weights",
    moving: Collection[str] | None = None,
) -> Direction:
    """A Gaussian direction, normalized to the weights of ``model``.

    Args:
        model: the center of the surface.
        generator: CPU generator; draw x first, then y from the same one, to get the numbers of Li et al. 2018.
        norm: see ``normalize``; ``none`` leaves the Gaussian as drawn.
        ignore: ``biasbn`` zeroes tensors of dimension <= 1 (biases, batch norm); ``none`` copies the weights there.
        dir_type: ``weights`` draws for the parameters; ``states`` for the whole state_dict, in its order. Running
            statistics stay where they are in both: moving a running variance at random makes it negative.
        moving: names of the parameters in the direction. Default: all. The others are drawn, too, and dropped, so that a seed
            gives a parameter the same numbers whatever else moves.

    Returns:
        One CPU tensor for each floating-point or complex parameter: float32, float64 for a float64 parameter. The real and
        imaginary parts of a complex one are drawn as a last axis of length 2. A tied parameter has its first name only.
    """
    parameters = distinct_parameters(model)
    entries = state_tensors(model) if dir_type == "states" else parameters
    direction = {}
    for name, weight in entries.items():
        if weight.layout != torch.strided:
            continue
        # Tensors of dimension <= 1 are drawn too: they use up numbers of the stream, as in the reference.
        if weight.is_complex():
            drawn = torch.view_as_complex(torch.randn(*weight.shape, 2, generator=generator))
        else:
            drawn = torch.randn(weight.shape, generator=generator)
        if name in parameters and (moving is None or name in moving):
            work = torch.promote_types(weight.dtype, torch.float32)
            direction[name] = normalize(drawn.to(work), weight.detach().cpu().to(work), norm, ignore)
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

    A complex tensor is treated as one of real numbers with a last axis of length 2.
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
    if direction.is_complex():
        return torch.view_as_complex(normalize(torch.view_as_real(direction), torch.view_as_real(weight), norm, ignore))
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


def _filter_norms(tensor: Tensor) -> Tensor:
    """(out, 1, …): the Euclidean norm of each slice tensor[k]."""
    norms = tensor.flatten(1).norm(dim=1)
    result: Tensor = norms.reshape(-1, *[1] * (tensor.ndim - 1))
    return result
