"""Losses in a fast number type, corrected by a few samples that are evaluated in the wide one.

The second level of a multilevel estimator (Giles 2008, "Multilevel Monte Carlo path simulation"): with the losses a_i of
samples in the wide type and b_i in the fast one,

    mean(a) = mean(b) + mean(d),    d_i = a_i - b_i,

of which mean(d) needs few samples, since rounding moves every loss a little. It moves a loss about in proportion to the loss,
so that samples are drawn with chances in proportion to b_i + c (two-phase sampling, Särndal et al. 1992, chapter 9): at a point
where few samples make the loss, these are drawn. Where no b_i is known of a sample, a prediction of it decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.evaluate.estimator import with_smaller_batches
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.survey import drawing_order, inclusion, more_samples, regression_estimate

_FIRST = 32  # samples before the first look at the error
_ENOUGH = 0.5  # of all samples, from which on all are evaluated
_FLOOR = 0.25  # c, as a share of the mean prediction
_SKEWNESS = 8.0  # the error of few differences is too small more often than not; chosen on CIFAR-10, see docs/performance.md
_LEAST = 1 / 3  # of the bound, which the error is at least: rounding that few samples show is not known to be less
_CLEAR = 2.0  # standard errors that a correction of the accuracy must exceed: few samples change sides


@dataclass(frozen=True)
class Shift:
    """What the wide type adds to means in the fast type.

    Attributes:
        loss: to be added to the mean loss.
        error: standard error of it; 0 where every sample was evaluated in both types.
        hits: to be added to the mean of the hits.
        samples: number of samples evaluated in the wide type.
    """

    loss: float
    error: float
    hits: float
    samples: int


NO_SHIFT = Shift(0.0, 0.0, 0.0, 0)


class Correction:
    """Samples of the fast evaluator, evaluated again by a wide one.

    Args:
        fast: evaluator of nearly all samples; whoever uses it moves it and orders its samples.
        wide: evaluator of the same samples, in the same order, in the type that results are wanted in.
        seed: of the random numbers that choose the samples, the same at all points so that surfaces stay smooth.
    """

    def __init__(self, fast: Evaluator, wide: Evaluator, seed: int) -> None:
        self.fast, self.wide = fast, wide
        self._drawn = {
            name: torch.from_numpy(np.random.default_rng([seed, 78, number]).random(size))
            for number, (name, size) in enumerate(fast.samples.items())
        }

    def reorder(self, name: str, order: np.ndarray) -> None:
        """Put the samples of a split into another order, in the wide evaluator."""
        self.wide.reorder(name, order)

    def move_to(self, coordinates: np.ndarray) -> None:
        """Put the wide evaluator's model at ``coordinates``."""
        self.wide.move_to(coordinates.tolist())

    def in_range(self, name: str, losses: Tensor, hits: Tensor | None, start: int = 0) -> tuple[Tensor, Tensor | None]:
        """The ``losses`` and ``hits`` of the samples from ``start`` on, the wide type's where the fast one's is not finite."""
        left = torch.nonzero(~torch.isfinite(losses)).ravel()
        if len(left):
            wide, right = self._wide(name, left + start)
            losses = losses.index_put((left,), wide)
            hits = None if hits is None or right is None else hits.index_put((left,), right)
        return losses, hits

    def shift(self, name: str, predicted: Tensor, known: tuple[Tensor, Tensor | None] | None, bound: float) -> Shift:
        """Find what the wide type adds, to a standard error of at most ``bound``.

        Args:
            name: the split.
            predicted: (N,) loss of each sample, as far as it is known; chances are in proportion to it.
            known: (N,) losses and hits of all samples in the fast type; None evaluates those that are drawn.
            bound: of the standard error, in the loss's unit.
        """
        population = len(predicted)
        size = predicted.clamp_min(0.0)
        size = size + _FLOOR * size.mean() + 1e-12
        order = drawing_order(self._drawn[name], size)
        span = float(predicted.max() - predicted.min())  # a loss that the fast type gets wrong is another sample's at most
        empty = torch.empty(0, dtype=torch.float64)
        differences, changes, count = empty, empty, min(_FIRST, population)
        while True:
            rows = order[len(differences) : count]
            loss, hits = self._differences(name, rows, known)
            differences, changes = torch.cat([differences, loss]), changes if hits is None else torch.cat([changes, hits])
            if count == population:
                return Shift(float(differences.mean()), 0.0, float(changes.mean()) if len(changes) else 0.0, count)
            chances = inclusion(size, count)[order[:count]]
            mean, error = regression_estimate(differences, size[order][None], chances, _SKEWNESS, span)
            if error <= bound or not np.isfinite(error):
                return Shift(mean, max(error, _LEAST * bound), self._clear(changes, chances, population), count)
            count = more_samples(count, population, error, bound)
            count = population if count > _ENOUGH * population else count

    @staticmethod
    def _clear(changes: Tensor, chances: Tensor, population: int) -> float:
        """The mean change of the hits, 0 where it may be none: one sample that changes sides stands for many that do not."""
        if not len(changes):
            return 0.0
        weighed = changes / chances
        error = float(((1 - chances) * weighed.square()).sum().sqrt()) / population
        mean = float(weighed.sum()) / population
        return mean if abs(mean) > _CLEAR * error else 0.0

    def _differences(self, name: str, rows: Tensor, known: tuple[Tensor, Tensor | None] | None) -> tuple[Tensor, Tensor | None]:
        """(n,) wide minus fast losses, and hits."""
        wide, right = self._wide(name, rows)
        if known is not None:
            losses, hits = known[0][rows], None if known[1] is None else known[1][rows]
        else:
            losses, hits = on_cpu(self.fast.losses_at(name, rows))
            losses = torch.where(torch.isfinite(losses), losses, wide)
        same = losses == wide  # also where both are infinite
        return torch.where(same, 0.0, wide - losses), None if right is None or hits is None else right - hits

    def _wide(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        return on_cpu(with_smaller_batches(self.wide, partial(self.wide.losses_at, name, rows)))


def on_cpu(found: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Losses and hits on the CPU."""
    losses, hits = found
    return losses.cpu(), None if hits is None else hits.cpu()
