"""Criteria: the loss of each sample, in its own unit; and accuracy where targets are classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paraloss.compute.inputs.user_code import is_reference, load_reference, one_line
from paraloss.errors import InputError

SampleLosses = Callable[[Tensor, Tensor], Tensor]
"""(outputs of n samples, their targets) -> float64, (n,) a loss for each sample, or a scalar: the batch's mean."""


def load_criterion(loss: str | Callable[..., Any]) -> tuple[str, SampleLosses]:
    """A criterion by name, or from a callable (outputs, targets) -> mean over the batch or one loss a sample.

    Args:
        loss: ``cross_entropy``; ``mse`` (squared error of the raw outputs, integer targets one-hot); ``softmax_mse``
            (the same after a softmax, as Li et al. 2018 train with MSE); ``file.py:callable``; or a callable.

    Returns:
        The name for provenance, and the function.

    Raises:
        InputError: unknown name, what a reference stands for cannot be called, or a loss that sums over the batch.
    """
    if callable(loss):
        return getattr(loss, "__qualname__", type(loss).__name__), _from_callable(loss)
    if loss in CRITERIA:
        return loss, CRITERIA[loss]
    if is_reference(loss):
        target = load_reference(loss)
        if isinstance(target, type) and issubclass(target, torch.nn.Module):
            target = target()
        if not callable(target):
            raise InputError(f"{loss}: is {type(target).__name__}, not a callable (outputs, targets) -> loss")
        return loss, _from_callable(target)
    raise InputError(f"unknown loss '{loss}'; there are {', '.join(CRITERIA)}, and your own as file.py:callable")


def counts_accuracy(outputs: Tensor, targets: Tensor) -> bool:
    """Whether targets are class numbers of these outputs, (n, classes, …) against (n, …)."""
    return (
        not targets.dtype.is_floating_point
        and outputs.ndim == targets.ndim + 1
        and outputs.shape[0] == targets.shape[0]
        and outputs.shape[2:] == targets.shape[1:]
    )


def hits(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,) float64: the share of right classes of each sample."""
    right = (outputs.argmax(dim=1) == targets).double()
    return right.reshape(len(targets), -1).mean(dim=1)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    # In float64 from the logits on: a float32 log-softmax knows losses near zero only to 1e-7 absolute.
    losses = F.cross_entropy(outputs.double(), targets, reduction="none")
    return losses.reshape(len(targets), -1).mean(dim=1)


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    if not targets.dtype.is_floating_point and outputs.ndim == targets.ndim + 1:
        targets = F.one_hot(targets, outputs.shape[1]).movedim(-1, 1)
    squares = (outputs.double() - targets.double().reshape(outputs.shape)) ** 2
    return squares.reshape(len(outputs), -1).mean(dim=1)


def _softmax_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return _mse(outputs.double().softmax(dim=1), targets)


def _from_callable(criterion: Callable[..., Any]) -> SampleLosses:
    if getattr(criterion, "reduction", None) == "sum":
        raise InputError("the loss sums over a batch (reduction='sum'), so that it depends on the batch size; use mean or none")

    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        try:
            loss = torch.as_tensor(criterion(outputs, targets))
        except Exception as error:
            raise InputError(f"the loss failed on outputs {tuple(outputs.shape)}: {one_line(error)}") from error
        if loss.ndim == 0:
            return loss.double()
        if len(loss) != len(targets):
            raise InputError(f"the loss returned {tuple(loss.shape)} for {len(targets)} samples; return (n,) or the mean")
        return loss.double().reshape(len(targets), -1).mean(dim=1)

    return losses


CRITERIA: dict[str, SampleLosses] = {"cross_entropy": _cross_entropy, "mse": _mse, "softmax_mse": _softmax_mse}
