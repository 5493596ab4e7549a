"""What is measured at a checkpoint alone, without a surface: from its file to the evaluator, and to its sharpness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraloss.compute.directions.moving import names_to_move
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.report import Report
from paraloss.compute.evaluate.sharpness import Sharpness, sharpness
from paraloss.compute.inputs.load import load_all
from paraloss.compute.inputs.problem import load_loss
from paraloss.compute.options.surface import EffortOptions, InputOptions, MeasureOptions
from paraloss.compute.ranks.devices import rank_device
from paraloss.log import logger


def evaluator_at(
    weights: Path, inputs: InputOptions, effort: EffortOptions, measure: MeasureOptions, move: list[str] | None
) -> tuple[PointEvaluator, str, dict[str, Any]]:
    """Load a checkpoint with its training samples.

    Args:
        weights: the checkpoint.
        inputs: model, data and loss.
        effort: device and size of batches.
        measure: number of samples.
        move: patterns of the names of parameters that move. Default: all.

    Returns:
        The evaluator of one split, the split's name, and the facts of the inputs.

    Raises:
        InputError: model, data and loss do not fit.
    """
    model, data, loss, facts = load_all(weights, inputs)
    split = "train" if "train" in data else next(iter(data))
    chosen = {split: data[split].subset(measure.samples)}
    report = Report(moving=names_to_move(model, move))
    evaluator = make_evaluator(
        model, load_loss(loss)[1], chosen, [], rank_device(effort.device), batch_size=effort.batch_size, report=report
    )
    return evaluator, split, facts


def sharpness_of(
    weights: Path,
    inputs: InputOptions,
    effort: EffortOptions,
    measure: MeasureOptions,
    move: list[str] | None,
    numbers: Mapping[str, Any],
) -> dict[str, Sharpness]:
    """Measure the sharpness at a checkpoint, on its training samples.

    Args:
        weights, inputs, effort, measure, move: see ``evaluator_at``.
        numbers: further arguments of ``sharpness``.

    Raises:
        InputError: model, data and loss do not fit, or a number is out of its range.
    """
    evaluator, split, _ = evaluator_at(weights, inputs, effort, measure, move)
    logger.info(f"{weights.name}: {evaluator.samples[split]:,} samples of {split}; {evaluator.how()}")
    with evaluator.exactly():
        batches = evaluator.batches_to_measure(split)
        return sharpness(evaluator.model, evaluator.loss, batches, evaluator.measured, **numbers, shown=True)
