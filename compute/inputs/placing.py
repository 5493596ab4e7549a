"""The tensors that a user's own function holds, on the device where it is called."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from paraloss.compute.inputs.trees import map_tensors


def on_device(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """``function`` with its own tensors on ``device``: a module's, and those that ``functools.partial`` holds."""
    if isinstance(function, nn.Module):
        return copy.deepcopy(function).to(device).eval()
    if isinstance(function, partial):
        arguments, keywords = map_tensors(lambda tensor: tensor.to(device), (function.args, dict(function.keywords)))
        return partial(on_device(function.func, device), *arguments, **keywords)
    return function
