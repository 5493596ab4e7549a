"""Losses of ``torch.nn`` element by element, so that each is divided by what torch's own mean divides by.

torch's mean of cross entropy divides by the weights of the targets that count, not by their number; over batches such means
are not the mean. Sums and counts are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraloss.compute.inputs.criterion import Criterion, counted
from paraloss.compute.inputs.losses import Losses
from paraloss.compute.inputs.shapes import check_classes, column_as_row, shaped_like


def torch_criterion(loss: Any, name: str) -> Criterion | None:
    """The criterion that ``loss`` is: a module of ``torch.nn`` or its function; None for everything else."""
    module = next((made() for function, made in _FUNCTIONS if function is loss), loss)
    if type(module) in _BY_CLASS:
        return _TorchClasses(module, name)
    return _TorchElements(module, name) if type(module) in _BY_ELEMENT else None


class _TorchModule(Criterion):
    """A loss of ``torch.nn``, evaluated element by element in float64."""

    def __init__(self, module: Any, name: str) -> None:
        self.name, self._given = name, module
        self._none = copy.deepcopy(module).double().eval()
        self._none.reduction = "none"

    def to(self, device: torch.device) -> Criterion:
        return type(self)(copy.deepcopy(self._given).to(device), self.name)


class _TorchClasses(_TorchModule):
    """Cross entropy and NLL: torch's mean divides by the weights of the targets that count."""

    def __init__(self, module: Any, name: str) -> None:
        super().__init__(module, name)
        self.ignored = module.ignore_index

    def counts_alike(self, targets: Tensor) -> bool:
        if targets.dtype.is_floating_point:
            return True
        weighted = self._given.weight is not None and self._given.reduction != "none"
        return not weighted and super().counts_alike(targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Losses:
        if targets.dtype.is_floating_point:  # probabilities
            return counted(self._none(outputs.double(), targets.double()), None)
        targets = column_as_row(outputs, targets)
        kept, weight = targets != self._given.ignore_index, self._none.weight
        losses = self._none(outputs.double(), targets)
        if weight is None or self._given.reduction == "none":
            return counted(losses, kept)
        return Losses(losses.sum(), (weight[targets.where(kept, 0)] * kept).sum())

    def check_targets(self, targets: Tensor, outputs: Tensor, split: str) -> None:
        if not targets.dtype.is_floating_point:
            check_classes(targets, outputs, split, self._given.ignore_index)


class _TorchElements(_TorchModule):
    """Losses of torch whose mean is over all elements, or over the rows."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Losses:
        if type(self._given) in _BY_SHAPE:
            targets = shaped_like(targets, outputs).to(torch.float64)
        losses = self._none(outputs.double(), targets)
        if self._given.reduction == "batchmean":  # of KLDivLoss
            each = losses.reshape(len(losses), -1).sum(dim=1)
            return Losses(each.sum(), float(len(each)), each)
        return counted(losses, None)


_BY_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss)
_BY_SHAPE = (
    nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.PoissonNLLLoss,
    nn.SoftMarginLoss, nn.MultiLabelSoftMarginLoss, nn.KLDivLoss,
)  # fmt: skip
_BY_ELEMENT = (*_BY_SHAPE, nn.MultiMarginLoss, nn.MultiLabelMarginLoss)
_FUNCTIONS: tuple[tuple[Callable[..., Any], Callable[[], nn.Module]], ...] = (
    (F.cross_entropy, nn.CrossEntropyLoss),
    (F.nll_loss, nn.NLLLoss),
    (F.l1_loss, nn.L1Loss),
    (F.mse_loss, nn.MSELoss),
    (F.smooth_l1_loss, nn.SmoothL1Loss),
    (F.huber_loss, nn.HuberLoss),
    (F.binary_cross_entropy, nn.BCELoss),
    (F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss),
    (F.soft_margin_loss, nn.SoftMarginLoss),
)
