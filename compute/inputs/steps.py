"""Steps: a user's own evaluation of one batch, for models, data and losses that two tensors cannot describe.

``step(model, batch)`` returns (n,) losses, a pair (sum, count) whose totals are divided at the end, or the batch's mean.
``huggingface`` is built in: ``model(**batch)``, and the loss per token that counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from paraloss.compute.inputs.losses import Losses, as_losses
from paraloss.compute.inputs.placing import on_device
from paraloss.compute.inputs.trees import rows_of
from paraloss.compute.inputs.user_code import is_reference, load_reference, one_line
from paraloss.errors import InputError, ParalossError


class Step:
    """A user's step.

    Attributes:
        name: for messages and for the file.
        additive: see ``BatchLoss``.
    """

    additive: bool | None = None

    def __init__(self, function: Callable[[nn.Module, Any], Any], name: str) -> None:
        self.name, self._function = name, function

    def to(self, device: torch.device) -> Step:
        """The step with its own tensors on ``device``."""
        placed = copy.copy(self)
        placed._function = on_device(self._function, device)
        return placed

    def batch_losses(self, model: nn.Module, batch: Any) -> Losses:
        """Sum and count of one batch.

        Raises:
            InputError: the step failed, or returned something else than losses.
        """
        try:
            value = self._function(model, batch)
        except (ParalossError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(f"the step failed: {type(error).__name__}: {one_line(error)[:200]}") from error
        losses = as_losses(value, None, "the step")
        if not losses.is_mean:
            return losses
        rows = rows_of(batch)
        return losses if rows is None else Losses(losses.total * rows, float(rows), is_mean=True)


def load_step(step: str | Callable[..., Any]) -> Step:
    """Load a step by name, or make one from a callable (model, batch).

    Args:
        step: ``huggingface``, ``file.py:callable`` or a callable.

    Raises:
        InputError: unknown name, or what a reference stands for cannot be called.
    """
    if isinstance(step, Step):
        return step
    if callable(step):
        return Step(step, getattr(step, "__qualname__", type(step).__name__))
    if step == "huggingface":
        from paraloss.compute.inputs.token_losses import HuggingFaceStep

        return HuggingFaceStep()
    if not is_reference(step):
        raise InputError(f"unknown step '{step}'; there is huggingface, and your own as file.py:callable")
    function = load_reference(step)
    if not callable(function):
        raise InputError(f"{step}: is {type(function).__name__}, not a callable (model, batch) -> losses")
    return Step(function, step)
