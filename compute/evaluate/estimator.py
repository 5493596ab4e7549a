"""What every estimator of a point's metrics offers, and what those that take a part of the samples share."""

from __future__ import annotations

from collections.abc import Sequence

from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.errors import InputError

FIRST = 64  # samples before the first look at the error


def sampled_kinds(kinds: Sequence[str]) -> list[str]:
    """The metrics of one split when a part of its samples is taken; ``kinds`` are those of all samples."""
    return ["loss", "loss_stderr", "samples"] + (["acc"] if "acc" in kinds else [])


def sampled_metrics(evaluator: PointEvaluator) -> list[str]:
    """Names of the metrics of all splits, in order."""
    return [f"{name}_{kind}" for name, kinds in evaluator.kinds.items() for kind in sampled_kinds(kinds)]


def check_sample_losses(evaluator: PointEvaluator) -> None:
    """Check that the loss of each sample is known, and that all samples count alike.

    Raises:
        InputError: it is not; the message says why.
    """
    reason = evaluator.no_sample_losses()
    if reason:
        raise InputError(f"--rtol and --loss-cap need the loss of each sample, but {reason}")
