"""A copy of the user's model that may be moved about, and the part of it that computes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.tensors import check_movable, is_spread
from paraloss.errors import InputError

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def copy_model(model: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """A deep copy in evaluation mode whose tied parameters are tied and whose types are those of ``model``.

    Args:
        model: left as it is.
        device: where the copy shall be; None leaves each tensor where it is.

    Raises:
        InputError: a parameter cannot be moved, see ``check_movable``, or the model cannot be copied.
    """
    check_movable(model)
    for name, tensor in model.named_parameters():
        if is_spread(tensor):
            raise InputError(f"'{name}' is spread over processes (DTensor); gather the whole model on every rank first")
    memo: dict[int, Any] = {}
    places: dict[tuple[Any, ...], Tensor] = {}
    for module in model.modules():
        for value in vars(module).values():
            # Computed weights (weight norm, pruning) that the next forward pass replaces; copy.deepcopy refuses them.
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    if not isinstance(model, torch.jit.ScriptModule):
        for parameter in model.parameters():
            place = (parameter.data_ptr(), tuple(parameter.shape), parameter.stride(), parameter.dtype)
            if parameter.numel() and place in places:  # two parameters over one memory
                memo[id(parameter)] = places[place]
            elif parameter.numel():
                places[place] = memo[id(parameter)] = copy.deepcopy(parameter)
    try:
        result = copy.deepcopy(model, memo)
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        raise InputError(f"the model cannot be copied (copy.deepcopy: {type(error).__name__}: {text})") from error
    if device is not None and any(
        tensor.device != torch.device(device) for tensor in (*result.parameters(), *result.buffers())
    ):
        result = result.to(device)
    return result.eval()


def computing_part(model: nn.Module) -> nn.Module:
    """``model`` without what ``torch.compile`` and data parallelism put around it; it shares all tensors."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, _WRAPPERS):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner
