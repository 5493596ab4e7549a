"""What a job knows of the ways to evaluate a point, and what those have in common that use a part of the samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import torch

from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.ranks.world import Record, World
from paraloss.errors import InputError
from paraloss.log import logger

T = TypeVar("T")

FIRST = 128  # samples before the first look at the error


def ignored(index: int, values: list[float]) -> None:
    """A ``Record`` that keeps nothing."""


class Estimator(Protocol):
    """Estimates the metrics of a grid point.

    Attributes:
        metrics: names of what a call returns, in order.
        corrected: how far another machine's fast type may lead, as a share of |loss| + 0.1 and at most as far as the standard
            error; 0 where the point is evaluated in a type that gives the same everywhere but for rounding.
    """

    metrics: list[str]
    corrected: float

    def prepare(self, world: World, shown: bool = False, record: Record = ignored) -> dict[int, list[float]]:
        """Compute what all points need. Collective: every rank calls this once, before the first point.

        Args:
            world: all ranks.
            shown: show progress on standard error.
            record: called on rank 0 with each point that is evaluated on the way, as soon as it is.

        Returns:
            Flat index -> metrics of the points that are known now, on every rank.
        """

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``. Not collective, except within a group of ranks."""


def with_smaller_batches(evaluator: PointEvaluator, work: Callable[[], T], place: str = "") -> T:
    """What ``work`` returns, in smaller batches where memory runs out.

    Each attempt is outside of the handler of the last one: an exception keeps everything alive that was in use.

    Args:
        evaluator: its batches are halved.
        work: evaluates something.
        place: where, for messages.

    Raises:
        InputError: one sample needs more memory than there is.
    """
    while True:
        with suppress(torch.OutOfMemoryError):
            return work()
        size = evaluator.batch_size
        if not evaluator.halve_batch():
            start = f"at {place}: " if place else ""
            raise InputError(f"{start}out of memory with {size} samples at once; use another device")
        where = f" at {place}" if place else ""
        logger.warning(f"out of memory{where}: continuing with batches of {evaluator.batch_size}")


def sampled_kinds(kinds: Sequence[str]) -> list[str]:
    """The metrics of one split when a part of its samples is used; ``kinds`` are those of all samples."""
    return ["loss", "loss_stderr", "samples"] + (["acc"] if "acc" in kinds else [])


def sampled_metrics(evaluator: PointEvaluator) -> list[str]:
    """Names of the metrics of all splits, in order."""
    return [f"{name}_{kind}" for name, kinds in evaluator.kinds.items() for kind in sampled_kinds(kinds)]


def check_sample_losses(evaluator: PointEvaluator) -> None:
    """Check that the loss of each sample is known, and that all samples count alike.

    Raises:
        InputError: it is not; the message says why.
    """
    reason = with_smaller_batches(evaluator, evaluator.no_sample_losses)
    if reason:
        raise InputError(
            f"{{rtol}} and {{loss_cap}} need the loss of each sample, but {reason}", arguments=("rtol", "loss_cap")
        )
