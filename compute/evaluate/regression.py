"""Losses to a stated relative standard error from a part of the samples.

A plain random subset saves nothing at 1 %: the losses of samples differ by more than their mean, so that n must be
(100 * deviation / mean)^2, often more than there are. Three things of survey sampling make it pay:

- **Regression estimator** (Cochran 1977, chapter 7; Särndal et al. 1992, chapter 6). At a coarse sub-grid of *anchors*
  the loss of every sample is known. At a point between them the loss y_i of sample i is close to a linear function
  x_i b of its losses at the nearest anchors, so that only the residuals e_i = y_i - x_i b need sampling:
  mean(y) = mean(x) b + 1/N * sum over the sample of e_i / pi_i.
- **Unequal probabilities**: samples whose losses the anchors do not predict well (found by predicting each anchor from
  the others) are drawn first, with inclusion probabilities pi_i proportional to the residual to be expected.
- **One order for all points** (sequential Poisson sampling, Ohlsson 1998: ascending u_i / size_i), so that every sample
  is a prefix of the same order and the surface stays smooth.

The standard error (see ``survey``) is multiplied by 1 + 24 / n: residuals are skewed, so that the error estimated from few of
them is too small more often than not, and sampling ends just when it is. The 24 was chosen on digits and mnist5k (see
docs/performance.md).

With a correction, all this is done in a fast number type, and what rounding did to the mean is estimated from a few samples in
the wide one (see ``correction``); both errors together stay within the bound. Without anchors it reduces to
``CorrectedEvaluator``, without a fast type to the regression alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.evaluate.correction import NO_SHIFT, Correction, Shift, on_cpu
from paraloss.compute.evaluate.estimator import (
    FIRST,
    check_sample_losses,
    sampled_kinds,
    sampled_metrics,
    with_smaller_batches,
)
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.guarded import one_line_errors
from paraloss.compute.evaluate.survey import (
    drawing_order,
    inclusion,
    more_samples,
    predictions,
    regression_estimate,
    solve,
    whole_units,
    with_constant,
)
from paraloss.compute.ranks.world import World
from paraloss.progress import Progress

_SKEWNESS = 24.0
_UNEXPECTED = 0.3  # of the root mean square residual: no sample is so predictable that it is never drawn
_OF_SAMPLING = math.sqrt(0.75)  # of the bound, where another part is for the correction
_KEPT = 32  # sets of inclusion probabilities, each as long as there are samples


def anchor_points(shape: Sequence[int]) -> np.ndarray:
    """Flat indices of the sub-grid at which every sample is evaluated: about a sixteenth of a 51×51 grid.

    The stride is 4 for up to 51 points per axis (8 on a curve), then grows so that the number of anchors does not.
    """
    stride = (4 if len(shape) == 2 else 8) * 2 ** max(0, math.ceil(math.log2(max(shape) / 51)))
    axes = [[i for i in range(size) if (i - (size - 1) // 2) % stride == 0] for size in shape]
    return np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), tuple(shape)).ravel()


@dataclass
class _Known:
    """What is known of a split: the losses (and hits) of all samples at the anchors."""

    losses: Tensor  # (anchors, N)
    hits: Tensor | None
    order: Tensor  # (N,) the order in which to sample
    size: Tensor  # (N,) residual to be expected, in sampling order


class SampledEvaluator:
    """Metrics at a point from as few samples as ``rtol`` allows; down to the exact value when all are used.

    Args:
        evaluator: evaluates the samples.
        shape: shape of the grid, (ny, nx) or (nx,).
        steps: (points, directions) the coordinates of every grid point.
        rtol: bound of the loss's standard error, relative to the loss.
        seed: seed for the order of the samples.
        cap: sampling ends where the loss is four standard errors above this; default: no cap.
        correction: what a wider type would add, where ``evaluator`` computes in a fast one; default: none.
        anchors: flat indices of the points at which all samples are evaluated; default: ``anchor_points``.

    Attributes:
        metrics: ``<split>_loss``, ``<split>_loss_stderr``, ``<split>_samples`` and, for classes, ``<split>_acc``.

    Raises:
        InputError: the criterion returns a batch's mean, so that nothing is known of single samples.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        shape: Sequence[int],
        steps: np.ndarray,
        rtol: float,
        seed: int = 0,
        cap: float | None = None,
        correction: Correction | None = None,
        anchors: np.ndarray | None = None,
    ) -> None:
        check_sample_losses(evaluator)
        self.evaluator, self.rtol, self.seed = evaluator, rtol, seed
        self.cap = math.inf if cap is None else cap
        self.correction = correction
        self._steps, self._shape = steps, tuple(shape)
        self.anchors = anchor_points(shape) if anchors is None else anchors
        self._places = np.stack(np.unravel_index(self.anchors, self._shape), axis=1)
        self._known: dict[str, _Known] = {}
        self._probabilities: dict[tuple[str, int], Tensor] = {}
        self.metrics = sampled_metrics(evaluator)

    def prepare(self, world: World, shown: bool = False) -> dict[int, list[float]]:
        """Evaluate every sample at the anchors, each anchor on one rank; see ``Estimator``."""
        share = range(world.rank, len(self.anchors), world.size)
        with Progress("evaluating anchors in full", len(share), shown=shown) as bar:
            tables, shifts = world.on_all(lambda: self._evaluate_anchors(share, bar.advance))
        results: dict[int, list[float]] = {int(index): [] for index in self.anchors}
        for name, part in tables.items():
            table, shift, kinds = world.allreduce(part), world.allreduce(shifts[name]), self.evaluator.kinds[name]
            for position, index in enumerate(self.anchors):
                losses, right = table[:, position]
                by_type, error, hits = shift[position]
                values = {"loss": losses.mean() + by_type, "loss_stderr": error, "samples": len(losses)}
                values["acc"] = _percent(right.mean() + hits)
                results[int(index)] += [float(values[kind]) for kind in sampled_kinds(kinds)]
            self._known[name] = self._learn(table, "acc" in kinds)
            order = self._known[name].order.numpy()
            self.evaluator.reorder(name, order)
            if self.correction is not None:
                self.correction.reorder(name, order)
        return results

    def _evaluate_anchors(
        self, share: Sequence[int], advance: Callable[[], None]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Split -> (2, anchors, N) losses and hits, and (anchors, 3) shifts of the mean loss, their errors, and shifts of the
        mean hits; zero at the anchors of other ranks.
        """
        tables = {name: np.zeros((2, len(self.anchors), size)) for name, size in self.evaluator.samples.items()}
        shifts = {name: np.zeros((len(self.anchors), 3)) for name in tables}
        for position in share:
            with one_line_errors("an anchor"):
                self._move_to(int(self.anchors[position]))
                for name, table in tables.items():
                    whole = partial(self._losses, name, 0, table.shape[2])
                    losses, right = with_smaller_batches(self.evaluator, whole, "an anchor")
                    table[0, position] = losses.numpy()
                    if right is not None:
                        table[1, position] = right.numpy()
                    if self.correction is not None:
                        shift = self._shift(name, losses, (losses, right), self.rtol * float(losses.mean()))
                        shifts[name][position] = shift.loss, shift.error, shift.hits
            advance()
        return tables, shifts

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``, in the order of ``metrics``."""
        self._move_to(index)
        results: list[float] = []
        for name, kinds in self.evaluator.kinds.items():
            values = self._sample(name, index, "acc" in kinds)
            results += [values[kind] for kind in sampled_kinds(kinds)]
        return results

    def _move_to(self, index: int) -> None:
        self.evaluator.move_to(self._steps[index])
        if self.correction is not None:
            self.correction.move_to(self._steps[index])

    def _losses(self, name: str, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of samples start..stop, of the wide type where they leave the range of the fast one."""
        losses, right = on_cpu(self.evaluator.sample_losses(name, start, stop))
        return (losses, right) if self.correction is None else self.correction.in_range(name, losses, right, start)

    def _shift(self, name: str, predicted: Tensor, known: tuple[Tensor, Tensor | None] | None, bound: float) -> Shift:
        if self.correction is None or not bool(torch.isfinite(predicted).all()):
            return NO_SHIFT
        return self.correction.shift(name, predicted, known, bound)

    def _sample(self, name: str, index: int, accuracy: bool) -> dict[str, float]:
        known, population = self._known[name], self.evaluator.samples[name]
        anchors = self.nearest(index)
        losses, rights = torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64)
        # A thirty-second of many, up to 256.
        count = min(population, whole_units(max(FIRST, min(256, population // 32)), population))
        share = 1.0 if self.correction is None else _OF_SAMPLING  # of the bound
        while True:
            more, right = self._losses(name, len(losses), count)
            losses = torch.cat([losses, more])
            rights = rights if right is None else torch.cat([rights, right])
            if count == population:
                mean, error, predicted = float(losses.mean()), 0.0, losses
                break
            chances = self._inclusion(name, count)[:count]
            mean, error = regression_estimate(losses, known.losses[anchors], chances, _SKEWNESS)
            predicted = predictions(losses, known.losses[anchors], chances)
            bound = share * self.rtol * mean
            if not math.isfinite(mean) or (mean > 0 and error <= bound) or mean - 4 * error > self.cap:
                break
            count = more_samples(count, population, error, bound)
        whole = (losses, rights if accuracy else None) if count == population else None
        rest = self.rtol * max(mean, 0.0) if whole else math.sqrt(1 - _OF_SAMPLING**2) * self.rtol * max(mean, 0.0)
        shift = self._shift(name, predicted, whole, rest) if mean - 4 * error <= self.cap else NO_SHIFT
        values = {"loss": mean + shift.loss, "loss_stderr": math.hypot(error, shift.error), "samples": float(count)}
        if accuracy and known.hits is not None:
            if count == population or not math.isfinite(mean):
                estimate = float(rights.mean())
            else:
                hits = known.hits[anchors]
                estimate, _ = regression_estimate(rights, hits, self._inclusion(name, count)[:count], _SKEWNESS)
            values["acc"] = _percent(estimate + shift.hits)
        return values

    def nearest(self, index: int) -> np.ndarray:
        """The places in ``anchors`` of those that predict the losses at a point."""
        return self._nearest(np.array(np.unravel_index(index, self._shape)))

    def _nearest(self, place: np.ndarray, without: int | None = None) -> np.ndarray:
        distances = ((self._places - place) ** 2).sum(axis=1).astype(float)
        if without is not None:
            distances[without] = np.inf
        wanted = min(2 * len(self._shape), len(self.anchors) - (without is not None))
        return np.argsort(distances, kind="stable")[:wanted]

    def _learn(self, table: np.ndarray, accuracy: bool) -> _Known:
        """Order the samples by how badly the anchors predict them; ``table`` (2, anchors, N) holds losses and hits."""
        losses = torch.from_numpy(table[0])
        residuals = torch.zeros_like(losses)
        everyone = torch.ones(losses.shape[1], dtype=torch.float64)
        for position in range(len(self.anchors) if len(self.anchors) > 1 else 0):
            others = losses[self._nearest(self._places[position], without=position)]
            own, mean = losses[position], losses[position].mean()
            if torch.isfinite(own).all() and torch.isfinite(others).all() and mean > 0:
                design = with_constant(others)
                residuals[position] = (own - design @ solve(design, own, everyone)[0]) / mean
        size = residuals.square().mean(dim=0).sqrt()
        size = (size.square() + (_UNEXPECTED * size.square().mean().sqrt()).square()).sqrt().clamp_min(1e-12)
        drawn = torch.from_numpy(np.random.default_rng([self.seed, 77]).random(len(size)))
        order = drawing_order(drawn, size)
        hits = torch.from_numpy(table[1])[:, order] if accuracy else None
        return _Known(losses[:, order], hits, order, size[order])

    def _inclusion(self, name: str, count: int) -> Tensor:
        """``inclusion``, kept for the next point."""
        key = (name, count)
        if key not in self._probabilities:
            while len(self._probabilities) >= _KEPT:
                del self._probabilities[next(iter(self._probabilities))]
            self._probabilities[key] = inclusion(self._known[name].size, count)
        return self._probabilities[key]


def _percent(share: float) -> float:
    return 100 * min(max(share, 0.0), 1.0)
