"""Measures at each point beside loss and accuracy: gradient norm and both ends of the Hessian's spectrum."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.evaluate.curvature import eigenvalue_ends
from paraloss.compute.inputs.losses import BatchLoss
from paraloss.compute.options.surface import PLAIN
from paraloss.errors import InputError

Only = Collection[nn.Parameter] | None  # the parameters that a measure is of; None for all
Measure = Callable[[nn.Module, BatchLoss, Collection[Any], Only], list[float]]


def gradient_norm(model: nn.Module, loss: BatchLoss, batches: Collection[Any], only: Only = None) -> list[float]:
    """[Euclidean norm of the gradient of the mean loss with respect to the parameters], in evaluation mode."""
    chosen = model.parameters() if only is None else only
    parameters = [parameter for parameter in chosen if parameter.is_floating_point() or parameter.is_complex()]
    _, totals, count = _summed_gradient(model, loss, batches, parameters)
    return [float(torch.stack([total.abs().double().square().sum() for total in totals]).sum().sqrt() / count)]


def mean_gradient(
    model: nn.Module, loss: BatchLoss, batches: Collection[Any], parameters: Sequence[nn.Parameter]
) -> tuple[float, list[Tensor]]:
    """(mean loss, its gradient with respect to each of ``parameters``), in evaluation mode."""
    summed, totals, count = _summed_gradient(model, loss, batches, parameters)
    return float(summed / count), [total / count for total in totals]


def _summed_gradient(
    model: nn.Module, loss: BatchLoss, batches: Collection[Any], parameters: Sequence[nn.Parameter]
) -> tuple[Tensor | float, list[Tensor], Tensor | float]:
    """(sum of the losses, its gradient, what both are divided by)."""
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        totals = [torch.zeros_like(parameter) for parameter in parameters]
        summed: Tensor | float = 0.0  # both stay on the device: a wait for each batch would leave it idle
        count: Tensor | float = 0.0
        for batch in batches:
            losses = loss.batch_losses(model, batch)
            summed, count = summed + losses.total.detach(), count + losses.detach().count
            gradients = torch.autograd.grad(losses.total, parameters, materialize_grads=True)
            for total, gradient in zip(totals, gradients, strict=True):
                total += gradient
        return summed, totals, count
    finally:
        for parameter, wanted in zip(parameters, before, strict=True):
            parameter.requires_grad_(wanted)


def eigenvalues(model: nn.Module, loss: BatchLoss, batches: Collection[Any], only: Only = None) -> list[float]:
    """[smallest, largest, |smallest / largest|] eigenvalue of the Hessian; see ``curvature``."""
    low, high = eigenvalue_ends(model, loss, batches, only)
    return [low, high, abs(low / high) if high else float("nan")]


# What a user asks for -> the metrics that the surface then holds, and who computes them, on the first split.
_MEASURES: dict[str, tuple[tuple[str, ...], Measure]] = {
    "grad_norm": (("{split}_grad_norm",), gradient_norm),
    "hessian": (("min_eig", "max_eig", "eig_ratio"), eigenvalues),
}


def choose_measures(names: Sequence[str]) -> list[str]:
    """Those of ``names`` that need more than a forward pass, each once.

    Raises:
        InputError: a name that is not known.
    """
    known = (*PLAIN, *_MEASURES)
    for name in names:
        if name not in known:
            raise InputError(f"unknown metric '{name}'; there are {', '.join(known)}")
    return [name for name in _MEASURES if name in names]


def metric_names(measures: Sequence[str], split: str) -> list[str]:
    """Names of the surface's metrics that ``measures`` give."""
    return [name.format(split=split) for measure in measures for name in _MEASURES[measure][0]]


def measure_all(
    measures: Sequence[str], model: nn.Module, loss: BatchLoss, batches: Collection[Any], only: Only = None
) -> list[float]:
    """Their values where ``model`` is now, in the order of ``metric_names``."""
    return [value for measure in measures for value in _MEASURES[measure][1](model, loss, batches, only)]
