"""What a criterion is, and Paraloss' own ones: the losses of (outputs, targets), as a sum and a count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraloss.compute.inputs.losses import Losses
from paraloss.compute.inputs.shapes import check_classes, column_as_row, shaped_like

IGNORED = -100
"""The target that torch leaves out by default."""


class Criterion:
    """The losses of (outputs, targets).

    Attributes:
        name: for messages and for the file.
        additive: see ``BatchLoss``.
        ignored: target value that counts nowhere; None where no target is a class.
    """

    name: str
    additive: bool | None = True
    ignored: int | None = None

    def losses(self, outputs: Tensor, targets: Tensor) -> Losses:
        """Sum and count of a batch: outputs (n, …) and targets (n, …)."""
        raise NotImplementedError

    def to(self, device: torch.device) -> Criterion:
        """The criterion with its own tensors on ``device``, in evaluation mode; it itself where it has none."""
        return self

    def check_targets(self, targets: Tensor, outputs: Tensor, split: str) -> None:
        """Check all targets of a split against the outputs of a few samples.

        Raises:
            InputError: targets are not classes of these outputs.
        """

    def counts_alike(self, targets: Tensor) -> bool:
        """Whether every one of these samples counts 1: no target is left out, none is weighted."""
        return self.ignored is None or not bool((targets == self.ignored).any())

    def batch_losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        """As ``BatchLoss`` has it."""
        inputs, targets = batch
        return self.losses(model(inputs), targets)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) float64, one loss per sample where they count alike; else the 0-d mean of the batch."""
        losses = self.losses(outputs, targets)
        alike = losses.counts is None or bool((losses.counts == 1).all())
        return losses.each if losses.each is not None and alike else losses.mean


class _CrossEntropy(Criterion):
    """``F.cross_entropy``: classes along axis 1; in float64, because a float32 log-softmax knows losses near zero to 1e-7."""

    name, ignored = "cross_entropy", IGNORED

    def losses(self, outputs: Tensor, targets: Tensor) -> Losses:
        targets = column_as_row(outputs, targets)
        return counted(F.cross_entropy(outputs.double(), targets, reduction="none"), targets != IGNORED)

    def check_targets(self, targets: Tensor, outputs: Tensor, split: str) -> None:
        check_classes(targets, outputs, split, IGNORED)


class _MeanSquare(Criterion):
    def __init__(self, name: str, softmax: bool) -> None:
        self.name, self._softmax = name, softmax

    def losses(self, outputs: Tensor, targets: Tensor) -> Losses:
        outputs = outputs.double().softmax(dim=1) if self._softmax else outputs.double()
        targets = column_as_row(outputs, targets)
        if not targets.dtype.is_floating_point and outputs.ndim == targets.ndim + 1:
            targets = F.one_hot(targets, outputs.shape[1]).movedim(-1, 1)
        each = ((outputs - shaped_like(targets, outputs).double()) ** 2).reshape(len(outputs), -1).mean(dim=1)
        return Losses(each.sum(), float(len(each)), each)

    def check_targets(self, targets: Tensor, outputs: Tensor, split: str) -> None:
        if not targets.dtype.is_floating_point and outputs.ndim == column_as_row(outputs, targets).ndim + 1:
            check_classes(targets, outputs, split, None)


def counted(losses: Tensor, kept: Tensor | None) -> Losses:
    """Element losses (n, …), zero where not ``kept``; in units of a sample, so that whole samples count 1."""
    per_sample = losses.numel() // max(1, len(losses))
    each = losses.reshape(len(losses), -1).sum(dim=1) / per_sample
    if kept is None:
        return Losses(each.sum(), float(len(each)), each)
    counts = kept.reshape(len(losses), -1).sum(dim=1).double() / per_sample
    return Losses(each.sum(), counts.sum(), each, counts)


CRITERIA: dict[str, Criterion] = {
    "cross_entropy": _CrossEntropy(),
    "mse": _MeanSquare("mse", softmax=False),
    "softmax_mse": _MeanSquare("softmax_mse", softmax=True),
}
