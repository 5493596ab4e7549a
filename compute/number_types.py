"""Which number types a surface is evaluated in: decided once, from the settings and a comparison at a few points."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch

from paraloss.compute.evaluate.estimator import with_smaller_batches
from paraloss.compute.evaluate.fast_type import FEW, SAMPLES, choose_fast_type
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.tuning import check_points, choose_precision
from paraloss.compute.forward.precision import faster_precisions, own_precision
from paraloss.compute.inputs.batch_split import BatchSplit
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.problem import AnySplit
from paraloss.compute.settings import Settings

_COMPARED = 5  # points at which losses of samples are compared


def choose_number_types(
    settings: Settings, device: torch.device, ranks: int, make: Callable[..., PointEvaluator]
) -> tuple[str, str, dict[str, float]]:
    """Find the type that results are in, a faster one that is corrected to it ("" without one), and how types differ.

    Args:
        settings: what to compute.
        device: where.
        ranks: of the job.
        make: (precision, most=samples) -> evaluator of at most so many samples of each split.
    """
    options, points = settings.options, len(settings.grid)
    if options.precision != "auto":
        return options.precision, "", {}
    if own_precision(settings.model) != "fp32":
        return own_precision(settings.model), "", {}
    if not faster_precisions(device) or points < FEW:
        return "fp32", "", {}
    part = cache(partial(make, most=SAMPLES))  # each type once, whoever asks
    bound, shown = options.precision_bound, options.progress
    if not _why_not_corrected(settings, ranks, part):
        samples = max(len(split) for split in settings.chosen.values())
        at = check_points(settings.grid, _COMPARED)
        fast, differences = choose_fast_type(part, device, at, points, bound, samples, shown)  # type: ignore[arg-type]
        return "fp32", fast, differences
    again = () if not options.sampled else ("fp16",)  # its points that overflow cannot be evaluated again
    used, differences = choose_precision(part, device, check_points(settings.grid), points, bound, again, shown)
    return used, "", differences


def at_most(split: AnySplit, samples: int) -> AnySplit:
    """``samples`` of a split drawn at random, where its batches may be cut."""
    return split if isinstance(split, BatchSplit) and not split.divisible else split.subset(samples)


def _why_not_corrected(settings: Settings, ranks: int, make: Callable[[str], PointEvaluator]) -> str:
    """Why losses in a fast type are not corrected; empty where they are."""
    options = settings.options
    if settings.measures:
        return "gradients and curvature are of the plain model"
    if options.loss_cap is not None and options.rtol is None:
        return "points are left early"
    if (options.split_data or 1) > 1 or ranks > len(settings.grid):
        return "ranks share the samples of a point"
    if not isinstance(settings.criterion[1], Criterion):
        return "a step knows no samples"
    evaluator = make("fp32")
    return with_smaller_batches(evaluator, evaluator.no_sample_losses)
