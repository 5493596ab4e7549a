"""The evaluator for a problem: two tensors with a criterion, or batches with a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from paraloss.compute.directions.sources import Source
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.home import Home
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.stepping import StepEvaluator
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.problem import AnySplit, Loss
from paraloss.compute.inputs.steps import Step


def make_evaluator(
    model: nn.Module | Home,
    loss: Loss,
    data: Mapping[str, AnySplit],
    directions: Sequence[Source],
    device: str | torch.device = "cpu",
    **options: Any,
) -> PointEvaluator:
    """Make the evaluator that fits ``loss``.

    Args:
        model: the center; it is copied and left as it is; or a ``Home``, see ``PointEvaluator``.
        loss: a criterion, or a step.
        data: splits to evaluate, of the kind that ``loss`` takes.
        directions: one per axis.
        device: where to compute.
        options: further arguments of ``Evaluator`` and ``StepEvaluator``.
    """
    if isinstance(loss, Step):
        return StepEvaluator(model, loss, data, directions, device, **options)  # type: ignore[arg-type]
    assert isinstance(loss, Criterion)
    return Evaluator(model, loss, data, directions, device, **options)  # type: ignore[arg-type]
