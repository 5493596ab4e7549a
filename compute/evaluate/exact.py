"""Estimators that use all samples at each point: on one rank, or shared by a group of ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.evaluate.estimator import ignored, with_smaller_batches
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.inputs.user_code import one_line
from paraloss.compute.ranks.ending import raise_together, report
from paraloss.compute.ranks.world import Record, World
from paraloss.errors import InputError


class FullEstimator:
    """The evaluator's own metrics.

    Args:
        evaluator: evaluates the samples.
        steps: (points, directions) the coordinates of every grid point.

    Attributes:
        metrics: as ``PointEvaluator``.
    """

    corrected = 0.0

    def __init__(self, evaluator: PointEvaluator, steps: np.ndarray) -> None:
        self.evaluator, self.metrics, self._steps = evaluator, evaluator.metrics, steps

    def prepare(self, world: World, shown: bool = False, record: Record = ignored) -> dict[int, list[float]]:
        """As ``Estimator``; nothing to prepare."""
        return {}

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``."""
        return self.evaluator(self._steps[index])


class TogetherEstimator(FullEstimator):
    """The evaluator's own metrics, where a forward pass is made by all ranks of a group together."""


class SharedEstimator(FullEstimator):
    """The metrics of all samples, of which each rank of a group evaluates its shard.

    Args:
        evaluator: evaluates this rank's shard.
        steps: (points, directions) the coordinates of every grid point.
        team: the ranks of the group.
    """

    def __init__(self, evaluator: PointEvaluator, steps: np.ndarray, team: World) -> None:
        super().__init__(evaluator, steps)
        self._team = team

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``; collective within the group.

        Raises:
            InputError: the evaluation failed on a rank of the group; raised on all of them.
            Stopped: a rank of the group received a signal; raised likewise.
        """
        total = self._added_up(lambda: self.evaluator.sums(self._steps[index]))
        if self.evaluator.overflowed(total):  # on one rank: all do it again, so that the value does not depend on their number
            total = self._added_up(lambda: self.evaluator.wider_sums(self._steps[index]))
        return self.evaluator.metrics_of(total)

    def _added_up(self, shard: Callable[[], Tensor]) -> Tensor:
        """The sums of all shards."""
        wrong, sums = None, torch.empty(0)
        try:
            sums = with_smaller_batches(self.evaluator, lambda: shard().cpu())
        except Exception as error:  # whatever the user's model raises must not leave the others waiting
            wrong = InputError(f"{type(error).__name__}: {one_line(error)[:200]}")
        raise_together(self._team.allgather(report(self._team.rank, wrong)))
        return torch.from_numpy(self._team.allreduce(sums.numpy()))
