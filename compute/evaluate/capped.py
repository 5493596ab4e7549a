"""Exact losses, except that points whose loss is clearly above a cap are left early."""

from __future__ import annotations

import math

import numpy as np
import torch

from paraloss.compute.evaluate.estimator import FIRST, check_sample_losses, ignored, sampled_kinds, sampled_metrics
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.ranks.world import Record, World


class CappedEvaluator:
    """Exact metrics, except that a point whose loss lies clearly above ``cap`` is left after a first random part.

    Args:
        evaluator: evaluates the samples.
        steps: (points, directions) the coordinates of every grid point.
        cap: loss above which a point is left early, in the criterion's unit.
        seed: seed for the order of the samples.

    Attributes:
        metrics: as ``SampledEvaluator``; a point that was left early has ``<split>_samples`` below the number of samples.

    Raises:
        InputError: the losses of single samples are not known or do not count alike.
    """

    corrected = 0.0

    def __init__(self, evaluator: Evaluator, steps: np.ndarray, cap: float, seed: int = 0) -> None:
        check_sample_losses(evaluator)
        self.evaluator, self.cap, self._steps = evaluator, cap, steps
        self.metrics = sampled_metrics(evaluator)
        for name, size in evaluator.samples.items():
            evaluator.reorder(name, random_order(size, seed))

    def prepare(self, world: World, shown: bool = False, record: Record = ignored) -> dict[int, list[float]]:
        """As ``Estimator``; nothing to prepare."""
        return {}

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``, in the order of ``metrics``."""
        self.evaluator.move_to(self._steps[index])
        results: list[float] = []
        for name, kinds in self.evaluator.kinds.items():
            population = self.evaluator.samples[name]
            # Not by the size of a batch, which is chosen by timing.
            count = min(population, max(FIRST, population // 32))
            losses, right = self.evaluator.sample_losses(name, 0, count)
            error = 0.0
            if count < population:
                error = float(losses.std() / math.sqrt(count)) * math.sqrt(1 - count / population)
                if not float(losses.mean()) - 4 * error > self.cap:
                    more, more_right = self.evaluator.sample_losses(name, count, population)
                    losses, count, error = torch.cat([losses, more]), population, 0.0
                    right = None if right is None or more_right is None else torch.cat([right, more_right])
            values = {"loss": float(losses.mean()), "loss_stderr": error, "samples": float(count)}
            if right is not None:
                values["acc"] = 100 * float(right.mean())
            results += [values[kind] for kind in sampled_kinds(kinds)]
        return results


def random_order(size: int, seed: int) -> np.ndarray:
    """(size,) the same permutation for the same seed."""
    return np.random.default_rng([seed, 77]).permutation(size)
