"""What a criterion, a step or a metric says of one batch: a sum and what it is divided by, added up over all batches.

A mean of means is the mean only where every batch counts alike. A sum and a count are right for any division into batches,
and over any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from paraloss.errors import InputError


@dataclass(frozen=True)
class Losses:
    """The losses of a batch.

    Attributes:
        total: 0-d float64, their sum.
        count: the number that the sum is divided by, once all batches are added up.
        each: (n,) float64, what each sample adds to ``total``; None where that is unknown.
        counts: (n,) float64, what each sample adds to ``count``; None where that is 1.
        is_mean: the batch gave nothing but its mean, so that ``total`` is right only for a mean over samples.
    """

    total: Tensor
    count: Tensor | float
    each: Tensor | None = None
    counts: Tensor | None = None
    is_mean: bool = False

    def detach(self) -> Losses:
        """The same without what autograd recorded."""
        count = self.count.detach() if isinstance(self.count, Tensor) else self.count
        each = None if self.each is None else self.each.detach()
        return replace(self, total=self.total.detach(), count=count, each=each)

    @property
    def mean(self) -> Tensor:
        """0-d float64, differentiable where the losses are."""
        return self.total / self.count


class BatchLoss(Protocol):
    """What can be summed over batches: a criterion for pairs of tensors, or a step for batches of any kind.

    Attributes:
        name: for messages and for the file.
        additive: whether sums over batches are known to be right for any division; None where it must be measured.
    """

    name: str
    additive: bool | None

    def batch_losses(self, model: nn.Module, batch: Any) -> Losses:
        """The losses of ``model`` on one batch, differentiable where the model is."""
        ...


def as_losses(value: Any, samples: int | None, who: str) -> Losses:
    """Interpret what a user's function returned for one batch.

    Args:
        value: (n,) losses; a pair (sum, count); or a 0-d mean of the batch.
        samples: number of samples in the batch; None where it is unknown.
        who: name of the function, for messages.

    Returns:
        The sum and the count; an (n, …) value is averaged per sample, a mean counts as ``samples`` losses.

    Raises:
        InputError: another form, or a mean of a batch whose number of samples is unknown.
    """
    if isinstance(value, (tuple, list)) and len(value) == 2:
        total, count = (_number(part, who) for part in value)
        return Losses(total, count)
    if not isinstance(value, (Tensor, float, int)):
        raise InputError(f"{who} returned {type(value).__name__}; return (n,) losses, a pair (sum, count), or the batch's mean")
    tensor = torch.as_tensor(value)
    if tensor.is_complex():
        raise InputError(f"{who} returned complex numbers; a loss is real")
    if tensor.ndim == 0:
        return Losses(tensor.double() * (samples or 1), float(samples or 1), is_mean=True)
    if samples is not None and len(tensor) != samples:
        raise InputError(f"{who} returned {tuple(tensor.shape)} for {samples} samples; return (n,), (sum, count) or the mean")
    each = tensor.double().reshape(len(tensor), -1).mean(dim=1)
    return Losses(each.sum(), float(len(each)), each)


def _number(part: Any, who: str) -> Tensor:
    number = torch.as_tensor(part)
    if number.numel() != 1 or number.is_complex():
        raise InputError(f"{who} returned a pair that is not (sum, count): a part has shape {tuple(number.shape)}")
    return number.reshape(()).double()
