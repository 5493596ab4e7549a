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

The standard error (see ``survey``) is multiplied by 1 + 48 / n: residuals are skewed, so that the error estimated from few of
them is too small more often than not, and sampling ends just when it is. The 48 was chosen on digits and mnist5k (see
docs/performance.md).

With a correction, all this is done in a fast number type, and what rounding did to the mean is estimated from a few samples in
the wide one (see ``correction``); both errors together stay within the bound. Without anchors it reduces to
``CorrectedEvaluator``, without a fast type to the regression alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.evaluate.anchors import AnchorTable, anchor_levels, anchor_points
from paraloss.compute.evaluate.correction import NO_SHIFT, Correction, Shift, on_cpu
from paraloss.compute.evaluate.estimator import (
    FIRST,
    check_sample_losses,
    ignored,
    sampled_kinds,
    sampled_metrics,
    with_smaller_batches,
)
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.guarded import one_line_errors
from paraloss.compute.evaluate.resuming import near_center
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
from paraloss.compute.ranks.world import Record, World
from paraloss.progress import Progress

_SKEWNESS = 48.0
_UNEXPECTED = 0.3  # of the root mean square residual: no sample is so predictable that it is never drawn
_OF_SAMPLING = math.sqrt(0.75)  # of the bound, where another part is for the correction
# Samples taken at a point between the anchors, as a share of those for an anchor that its neighbors predict; and with anchors
# at half the distance, as a share of these. Measured, see docs/performance.md.
_BETWEEN, _NEXT = 0.4, 0.45
_MANY = 8192  # samples from which on fewer anchors are thought of: an error is estimated worse where they predict little
_SUSPECT = 100.0  # times the largest size
_KEPT = 32  # sets of inclusion probabilities, each as long as there are samples


@dataclass
class _Known:
    """What is known of a split: the losses (and hits) of all samples at the anchors."""

    losses: Tensor  # (anchors, N)
    hits: Tensor | None
    order: Tensor  # (N,) the order in which to sample
    size: Tensor  # (N,) residual to be expected, in sampling order
    alone: Tensor  # samples that each anchor would take if it were estimated from its neighbors, and N endless


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
        anchors: flat indices of the points at which all samples are evaluated. Default: ``anchor_points``; of many samples
            as many of ``anchor_levels`` as pay.

    Attributes:
        metrics: ``<split>_loss``, ``<split>_loss_stderr``, ``<split>_samples`` and, for classes, ``<split>_acc``.
        corrected: as ``Estimator``.

    Raises:
        InputError: the losses of single samples are not known or do not count alike.
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
        self.corrected = 0.0 if correction is None else math.inf
        self._steps, self._shape = steps, tuple(shape)
        if anchors is not None:
            levels = [anchors]
        elif sum(evaluator.samples.values()) < _MANY:
            levels = [anchor_points(shape)]
        else:
            levels = anchor_levels(shape)
        self.anchors = self._candidates = levels[-1]
        self._places = self._places_of(self.anchors)
        self._levels = [np.flatnonzero(np.isin(self._candidates, level)) for level in levels if len(level)]
        self._known: dict[str, _Known] = {}
        self._probabilities: dict[tuple[str, int], Tensor] = {}
        self.metrics = sampled_metrics(evaluator)
        self._table = AnchorTable(len(self._candidates), len(self.metrics), evaluator.samples)

    def keep(self, surface: Path, settings: Mapping[str, Any], resumed: bool) -> None:
        """Keep what is found at the anchors beside a surface's file; see ``AnchorTable.keep``."""
        bounds = {"rtol": self.rtol, "seed": self.seed, "anchors": self._candidates.tolist()}
        self._table.keep(surface, {**settings, **bounds}, resumed)

    def forget(self) -> None:
        """Remove what is kept: the surface is complete."""
        self._table.forget()

    def from_all(self, index: int) -> list[float]:
        """The metrics at one point from all samples, before ``prepare``."""
        return self._all_samples(index)[: len(self.metrics)]

    def kept_again(self) -> tuple[int, dict[str, float], dict[str, float]] | None:
        """Evaluate one of the anchors that are kept again.

        Returns:
            Its flat index, and losses by name as they are kept and as they are now, both in the type of ``evaluator``; None
            where no row has finite losses. Then none is used.
        """
        names = list(self.evaluator.samples)
        kept = [
            position
            for position in np.flatnonzero(self._table.done).tolist()
            if all(np.isfinite(self._table.losses(name, position)).all() for name in names)
        ]
        if not kept:
            self._table.drop()
            return None
        position = kept[near_center(self._steps[self._candidates[kept]])]
        before = {f"{name}_loss": float(self._table.losses(name, position).mean()) for name in names}
        self._move_to(int(self._candidates[position]))
        with one_line_errors("an anchor"):
            now = {f"{name}_loss": float(self._whole(name)[0].mean()) for name in names}
        return int(self._candidates[position]), before, now

    def prepare(self, world: World, shown: bool = False, record: Record = ignored) -> dict[int, list[float]]:
        """Evaluate every sample at the anchors, level by level, until more anchors would not pay; see ``Estimator``."""
        table, chosen = self._table, np.empty(0, dtype=int)
        for number, level in enumerate(self._levels):
            done = set(world.bcast(np.flatnonzero(table.done).tolist()))
            new = np.setdiff1d(level, chosen).tolist()
            with Progress("evaluating anchors in full", len(new), len(done.intersection(new)), shown=shown) as bar:

                def enter(position: int, values: list[float], bar: Progress = bar) -> None:
                    table.add(position, values)
                    record(int(self._candidates[position]), table.metrics(position))
                    bar.advance()

                todo = [position for position in new if position not in done]
                world.on_all(partial(world.visit, todo, self._evaluate_anchor, enter, lambda: None))
            table.share(world, new)
            chosen = np.sort(level)
            self._use(chosen)
            if number + 1 < len(self._levels) and not world.bcast(self._more_pay(len(self._levels[number + 1]))):
                break
        for name, known in self._known.items():
            order = known.order.numpy()
            self.evaluator.reorder(name, order)
            if self.correction is not None:
                self.correction.reorder(name, order)
        results = {int(index): table.metrics(position) for position, index in zip(chosen, self.anchors, strict=True)}
        table.clear()
        return results

    def _use(self, chosen: np.ndarray) -> None:
        """Predict from the anchors at these places of the table."""
        self.anchors = self._candidates[chosen]
        self._places = self._places_of(self.anchors)
        self._known = {
            name: self._learn(self._table.losses(name, chosen), self._table.hits(name, chosen) if "acc" in kinds else None)
            for name, kinds in self.evaluator.kinds.items()
        }

    def _more_pay(self, count: int) -> bool:
        """Whether ``count`` anchors, the next level's, would take fewer evaluations in all.

        With half the distance to the anchors a point takes a share of the samples that it takes now. Too few anchors to judge
        from are always more.
        """
        if len(self.anchors) <= 2 * len(self._shape) or not all(len(known.alone) for known in self._known.values()):
            return True
        more, others = count - len(self.anchors), len(self._steps) - count
        saved = spent = 0.0
        for name, known in self._known.items():
            now, then = (self._taken(name, share * known.alone).mean() for share in (_BETWEEN, _BETWEEN * _NEXT))
            saved += others * float(now - then)
            spent += more * self.evaluator.samples[name]
        return saved > spent

    def _taken(self, name: str, wanted: Tensor) -> Tensor:
        """Samples taken where ``wanted`` are of an endless population."""
        population = self.evaluator.samples[name]
        return (1 / (1 / wanted.clamp_min(1e-9) + 1 / population)).clamp_min(self._fewest(population))

    def _fewest(self, population: int) -> int:
        """Samples before the first look at the error: a thirty-second of many, up to 256; 256 where anchors are far."""
        far = len(self.anchors) < len(self._candidates)
        return min(population, whole_units(256 if far else max(FIRST, min(256, population // 32)), population))

    def _evaluate_anchor(self, position: int) -> list[float]:
        return self._all_samples(int(self._candidates[position]))

    def _whole(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of all samples of a split, where the model is."""
        whole = partial(self._losses, name, 0, self.evaluator.samples[name])
        return with_smaller_batches(self.evaluator, whole, "an anchor")

    def _all_samples(self, index: int) -> list[float]:
        """Metrics, losses and hits of all samples at one point, as ``AnchorTable.row`` puts them."""
        found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        metrics: list[float] = []
        with one_line_errors("an anchor"):
            self._move_to(index)
            for name, size in self.evaluator.samples.items():
                losses, right = self._whole(name)
                shift = NO_SHIFT
                if self.correction is not None:
                    shift = self._shift(name, losses, (losses, right), self.rtol * float(losses.mean()))
                values = {"loss": float(losses.mean()) + shift.loss, "loss_stderr": shift.error, "samples": float(size)}
                if right is not None:
                    values["acc"] = _percent(float(right.mean()) + shift.hits)
                metrics += [values[kind] for kind in sampled_kinds(self.evaluator.kinds[name])]
                found[name] = losses.numpy(), None if right is None else right.numpy()
        return self._table.row(metrics, found)

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
        count = self._fewest(population)
        share = 1.0 if self.correction is None else _OF_SAMPLING  # of the bound
        while True:
            more, right = self._losses(name, len(losses), count)
            losses = torch.cat([losses, more])
            rights = rights if right is None else torch.cat([rights, right])
            if count == population:
                mean, error = float(losses.mean()), 0.0
                break
            chances = self._inclusion(name, count)[:count]
            mean, error = regression_estimate(losses, known.losses[anchors], chances, _SKEWNESS)
            bound = share * self.rtol * mean
            if not math.isfinite(mean) or (mean > 0 and error <= bound) or mean - 4 * error > self.cap:
                break
            count = more_samples(count, population, error, bound)
        whole = (losses, rights if accuracy else None) if count == population else None
        predicted = losses
        if self.correction is not None and whole is None:
            predicted = predictions(losses, known.losses[anchors], self._inclusion(name, count)[:count])
        rest = self.rtol * max(mean, 0.0) if whole else math.sqrt(1 - _OF_SAMPLING**2) * self.rtol * max(mean, 0.0)
        shift = self._shift(name, predicted, whole, rest) if mean - 4 * error <= self.cap else NO_SHIFT
        values = {"loss": mean + shift.loss, "loss_stderr": math.hypot(error, shift.error), "samples": float(count)}
        if accuracy and known.hits is not None:
            if count == population:
                estimate = float(rights.mean())
            else:
                hits = known.hits[anchors].double()
                estimate, _ = regression_estimate(rights, hits, self._inclusion(name, count)[:count], _SKEWNESS)
            values["acc"] = _percent(estimate + shift.hits)
        return values

    def nearest(self, index: int) -> np.ndarray:
        """The places in ``anchors`` of those that predict the losses at a point."""
        return self._nearest(np.array(np.unravel_index(index, self._shape)))

    def _places_of(self, points: np.ndarray) -> np.ndarray:
        return np.stack(np.unravel_index(points, self._shape), axis=1)

    def _nearest(self, place: np.ndarray, without: int | None = None) -> np.ndarray:
        distances = ((self._places - place) ** 2).sum(axis=1).astype(float)
        if without is not None:
            distances[without] = np.inf
        wanted = min(2 * len(self._shape), len(self.anchors) - (without is not None))
        return np.argsort(distances, kind="stable")[:wanted]

    def _learn(self, table: np.ndarray, hits: np.ndarray | None) -> _Known:
        """Order the samples by how badly the anchors predict them.

        Args:
            table: (anchors, N) losses.
            hits: (anchors, N), or None where nothing is classified.
        """
        losses = torch.from_numpy(table)
        residuals = torch.zeros_like(losses)
        everyone = torch.ones(losses.shape[1], dtype=torch.float64)
        for position in range(len(self.anchors) if len(self.anchors) > 1 else 0):
            others = losses[self._nearest(self._places[position], without=position)]
            own, mean = losses[position], losses[position].mean()
            if torch.isfinite(own).all() and torch.isfinite(others).all() and mean > 0:
                design = with_constant(others)
                residuals[position] = (own - design @ solve(design, own, everyone)[0]) / mean
        size = residuals.square().mean(dim=0).sqrt()
        suspects = ~torch.isfinite(losses) & torch.isfinite(losses).any(dim=1)[:, None]
        size = (size.square() + (_UNEXPECTED * size.square().mean().sqrt()).square()).sqrt().clamp_min(1e-12)
        alone = size.mean() * (residuals.square() / size).mean(dim=1) / self.rtol**2
        alone = alone[torch.isfinite(losses).all(dim=1)]
        # A sample that is not finite where others are decides the mean alone, so that it is drawn first.
        size = torch.where(suspects.any(dim=0), _SUSPECT * size.max(), size)
        drawn = torch.from_numpy(np.random.default_rng([self.seed, 77]).random(len(size)))
        order = drawing_order(drawn, size)
        in_order = None if hits is None else torch.from_numpy(hits)[:, order]
        return _Known(losses[:, order], in_order, order, size[order], alone)

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
