"""Metrics beside the loss: accuracy where targets are classes, and the user's own, each as a sum and a count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from paraloss.compute.inputs.criterion import IGNORED, Criterion, counted
from paraloss.compute.inputs.losses import Losses, as_losses
from paraloss.compute.inputs.placing import on_device
from paraloss.compute.inputs.shapes import class_axis, column_as_row
from paraloss.compute.inputs.user_code import is_reference, load_reference, one_line
from paraloss.errors import InputError

_MASKS = (IGNORED, 255)
"""Targets outside the classes that are taken for masks under a user's loss; other such targets are no classes."""


class OutputsMetric(Protocol):
    """A metric of (outputs, targets)."""

    def sums(self, outputs: Tensor, targets: Tensor) -> Losses:
        """Sum and count over one batch."""
        ...


@dataclass(frozen=True)
class Accuracy:
    """Share of the targets that have the largest output of their place; targets that are no class count nowhere.

    Attributes:
        axis: axis of the outputs along which the classes lie.
        ignored: a class that does not count, as torch's ``ignore_index``; None where every class does.
    """

    axis: int
    ignored: int | None = None

    def counts_alike(self, outputs: Tensor, targets: Tensor) -> bool:
        """Whether every one of these targets counts."""
        outside = (targets < 0) | (targets >= outputs.shape[self.axis])
        return not bool((outside if self.ignored is None else outside | (targets == self.ignored)).any())

    def sums(self, outputs: Tensor, targets: Tensor) -> Losses:
        """Number of right targets and of those that count, in units of a sample."""
        targets = column_as_row(outputs, targets)
        kept = (targets >= 0) & (targets < outputs.shape[self.axis])
        if self.ignored is not None:
            kept &= targets != self.ignored
        return counted(((outputs.argmax(dim=self.axis) == targets) & kept).double(), kept)


def find_accuracy(criterion: Criterion, outputs: Tensor, targets: Tensor, every: Tensor) -> Accuracy | None:
    """The accuracy that makes sense here; None where targets are no classes.

    Args:
        criterion: the loss; Paraloss' own and torch's have the classes along axis 1.
        outputs: (n, …) outputs of a few samples.
        targets: (n, …) their targets.
        every: all targets of the split.

    For outputs (n, T, V) and targets (n, T) the classes are where the shapes say; where T = V, along the axis on which a
    larger output at the target lowers the loss.
    """
    targets = column_as_row(outputs, targets)
    axis = class_axis(outputs, targets)
    if axis is None or not every.numel():
        return None
    if outputs.ndim > 2 and outputs.shape[1] == outputs.shape[-1] and criterion.additive is None:
        axis = _axis_that_lowers(criterion, outputs, targets)
    masks = _MASKS if criterion.ignored is None else (criterion.ignored,)
    outside = (every < 0) | (every >= outputs.shape[axis])
    for mask in masks:
        outside &= every != mask
    return None if bool(outside.any()) else Accuracy(axis, criterion.ignored)


def _axis_that_lowers(criterion: Criterion, outputs: Tensor, targets: Tensor) -> int:
    """1 or the last axis: where outputs raised at the targets lower the loss more."""
    last = outputs.ndim - 1
    losses = {}
    for axis in (last, 1):
        classes = targets.clamp(0, outputs.shape[axis] - 1).unsqueeze(axis)
        raised = outputs.scatter_add(axis, classes, torch.ones_like(classes, dtype=outputs.dtype))
        losses[axis] = float(criterion.losses(raised, targets).mean)
    return 1 if losses[1] < losses[last] else last


@dataclass(frozen=True)
class UserMetric:
    """A user's own metric: of (outputs, targets) with two tensors, of (model, batch) with a step.

    Attributes:
        name: as it is called in the surface, behind the split.
        source: as the user named it.
        function: returns (n,) values or a pair (sum, count).
    """

    name: str
    source: str
    function: Callable[[Any, Any], Any]

    def to(self, device: torch.device) -> UserMetric:
        """The metric with its own tensors on ``device``."""
        return replace(self, function=on_device(self.function, device))

    def sums(self, first: Any, second: Any) -> Losses:
        """Sum and count over one batch.

        Raises:
            InputError: the function failed, or returned a mean, which cannot be added up.
        """
        try:
            value = self.function(first, second)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise InputError(f"the metric '{self.name}' failed: {type(error).__name__}: {one_line(error)[:200]}") from error
        found = as_losses(value, None, f"the metric '{self.name}'")
        if found.is_mean:
            raise InputError(
                f"the metric '{self.name}' returned a single number, which cannot be added up over batches; "
                "return (n,) values or a pair (sum, count)"
            )
        return found


def load_metrics(metrics: Sequence[str | Callable[..., Any]]) -> tuple[list[str], list[UserMetric]]:
    """Tell names from a user's own metrics.

    Args:
        metrics: names, ``file.py:callable`` or callables.

    Returns:
        The names, to be looked up elsewhere; and the user's own metrics.

    Raises:
        InputError: a reference that cannot be loaded or called, or two metrics of one name.
    """
    names: list[str] = []
    own: list[UserMetric] = []
    for metric in metrics:
        if isinstance(metric, str) and not is_reference(metric):
            names.append(metric)
            continue
        function = load_reference(metric) if isinstance(metric, str) else metric
        source = metric if isinstance(metric, str) else getattr(metric, "__qualname__", type(metric).__name__)
        name = source.rpartition(":")[2].rpartition(".")[2]
        if not callable(function):
            raise InputError(f"{source}: is {type(function).__name__}, not a callable that gives a metric")
        name = name if name.isidentifier() else "metric"
        if name in _TAKEN or name in [other.name for other in own]:
            raise InputError(f"{source}: there is a metric '{name}' already; rename the function")
        own.append(UserMetric(name, source, function))
    return names, own


_TAKEN = ("loss", "acc", "loss_stderr", "samples", "grad_norm", "hessian")
