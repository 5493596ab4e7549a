"""Criteria on the two-tensor road: what (outputs, targets) of a batch lose, as a sum and a count.

Three kinds: Paraloss' own (float64 from the logits on), torch's own (evaluated element by element, so that weights,
``ignore_index`` and label smoothing are divided by what torch divides by), and the user's, about which only measuring
determines whether a mean over batches is the mean over all samples (see ``paraloss.compute.evaluate.additivity``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.criterion import CRITERIA, IGNORED, Criterion, counted
from paraloss.compute.inputs.losses import Losses, as_losses
from paraloss.compute.inputs.placing import on_device
from paraloss.compute.inputs.shapes import class_axis
from paraloss.compute.inputs.torch_losses import torch_criterion
from paraloss.compute.inputs.user_code import is_reference, load_reference, one_line
from paraloss.errors import InputError


def load_criterion(loss: str | Callable[..., Any]) -> tuple[str, Criterion]:
    """Load a criterion by name, or make one from a callable (outputs, targets).

    Args:
        loss: ``cross_entropy``; ``mse`` (squared error of the raw outputs, integer targets one-hot); ``softmax_mse``
            (the same after a softmax, as Li et al. 2018 train with MSE); ``file.py:callable``; or a callable that returns
            (n,) losses, a pair (sum, count) or the batch's mean.

    Returns:
        The name for provenance, and the criterion.

    Raises:
        InputError: unknown name, what a reference stands for cannot be called, or a loss that sums over the batch.
    """
    if isinstance(loss, Criterion):
        return loss.name, loss
    if callable(loss):
        name = getattr(loss, "__qualname__", type(loss).__name__)
        return name, _from_callable(loss, name)
    if loss in CRITERIA:
        return loss, CRITERIA[loss]
    if is_reference(loss):
        target = load_reference(loss)
        if isinstance(target, type) and issubclass(target, nn.Module):
            target = target()
        if not callable(target):
            raise InputError(f"{loss}: is {type(target).__name__}, not a callable (outputs, targets) -> loss")
        return loss, _from_callable(target, loss)
    raise InputError(f"unknown loss '{loss}'; there are {', '.join(CRITERIA)}, and your own as file.py:callable")


def _from_callable(criterion: Callable[..., Any], name: str) -> Criterion:
    if getattr(criterion, "reduction", None) == "sum":
        raise InputError("the loss sums over a batch (reduction='sum'), so that it depends on the batch size; use mean or none")
    if isinstance(criterion, type):
        raise InputError(f"{name}: is a class, not a callable (outputs, targets) -> loss; give an instance")
    return torch_criterion(criterion, name) or _Users(criterion, name)


class _Users(Criterion):
    """A user's own function or module."""

    additive = None

    def __init__(self, criterion: Callable[..., Any], name: str) -> None:
        self.name, self._criterion = name, criterion

    def losses(self, outputs: Tensor, targets: Tensor) -> Losses:
        try:
            value = self._criterion(outputs, targets)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise InputError(
                f"the loss failed on outputs {tuple(outputs.shape)}: {type(error).__name__}: {one_line(error)}"
            ) from error
        found = as_losses(value, len(targets), "the loss")
        masked = isinstance(value, Tensor) and value.shape == targets.shape and not targets.dtype.is_floating_point
        return counted(value.double(), _classes_or_lossy(value, outputs, targets)) if masked and value.ndim > 1 else found

    def to(self, device: torch.device) -> Criterion:
        return _Users(on_device(self._criterion, device), self.name)


def _classes_or_lossy(losses: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Where a user's element losses count: all but those of exactly 0 whose target is no class of the outputs."""
    axis = class_axis(outputs, targets)
    classes = None if axis is None else outputs.shape[axis]
    outside = targets == IGNORED if classes is None else (targets < 0) | (targets >= classes)
    return ~(outside & (losses == 0))
