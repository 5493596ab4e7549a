"""The two models that are connected, and what the data give to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.problem import AnySplit, Loss
from paraloss.compute.inputs.split import Split
from paraloss.compute.inputs.steps import Step
from paraloss.compute.inputs.tensors import state_tensors
from paraloss.compute.inputs.trees import map_tensors
from paraloss.errors import InputError

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments of the model's forward, by place and by name."""


def check_ends(model: nn.Module, other: Mapping[str, Tensor], names: tuple[str, str]) -> None:
    """Check two models that shall be connected.

    Args:
        model: the first.
        other: tensors of the second by name.
        names: what to call them.

    Raises:
        InputError: a weight is not finite, or both have the same weights.
    """
    own = state_tensors(model)
    for title, tensors in zip(names, (own, other), strict=True):
        for name, tensor in tensors.items():
            if name in own and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise InputError(f"{title}: '{name}' holds NaN or infinite numbers; choose a checkpoint from before")
    floats = [name for name, tensor in own.items() if tensor.is_floating_point() and name in other]
    if all(torch.equal(own[name].cpu(), other[name].cpu().to(own[name].dtype)) for name in floats):
        raise InputError(f"{names[0]} and {names[1]} hold the same weights; choose two different solutions")


def choose_splits(data: Mapping[str, AnySplit], asked: list[str], usual: tuple[str, ...]) -> dict[str, AnySplit]:
    """The splits to evaluate, by name.

    Args:
        data: all splits.
        asked: names that the user gave.
        usual: names to take otherwise, as far as they exist.

    Raises:
        InputError: a split that the data lack.
    """
    names = asked or [name for name in usual if name in data] or [next(iter(data))]
    for name in names:
        if name not in data:
            raise InputError(f"the data have no split '{name}'; they have: {', '.join(data)}")
    return {name: data[name] for name in names}


def calls_on(model: nn.Module, loss: Loss, split: AnySplit, size: int, most: int, device: torch.device) -> Iterator[Call]:
    """What the model is called with on a few batches of equal shape.

    Args:
        model: the model, on ``device``.
        loss: a criterion, or a step, which is run to see how it calls the model.
        split: the samples.
        size: samples in a batch.
        most: samples in all.
        device: where.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if isinstance(split, Split):
        size = min(size, len(split))
        for start in range(0, min(most, len(split)) - size + 1, size):
            inputs = split.normalize(split.inputs[start : start + size].to(device))
            yield (inputs.to(dtype) if inputs.is_floating_point() else inputs,), {}
        return
    assert isinstance(loss, Step)
    batches = split.of_size(size)
    with _listening(model) as heard:
        for batch in batches[: max(1, most // size)]:
            heard.clear()
            loss.batch_losses(model, map_tensors(lambda tensor: tensor.to(device), batch))
            if not heard:
                raise InputError("the step never calls the model itself, so its forward pass cannot be traced")
            yield heard[0]


@contextmanager
def _listening(model: nn.Module) -> Iterator[list[Call]]:
    heard: list[Call] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        heard.append((args, kwargs))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield heard
    finally:
        hook.remove()
