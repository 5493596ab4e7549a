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

The standard error is sqrt(sum((1 - pi_i) * (e_i / (pi_i (1 - h_i)))^2)) / N, with the leverage h_i against a fit that is
too good (HC3), times 1 + 24 / n: residuals are skewed, so that the error estimated from few of them is too small more
often than not, and sampling ends just when it is. The 24 was chosen on digits and mnist5k (see docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.evaluate.estimator import FIRST, check_sample_losses, sampled_kinds, sampled_metrics
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.guarded import one_line_errors
from paraloss.compute.ranks.world import World
from paraloss.progress import Progress

_SKEWNESS = 24.0
_UNEXPECTED = 0.3  # of the root mean square residual: no sample is so predictable that it is never drawn
_COLLINEAR = 1e-10
_UNIT, _FEW = 32, 8192  # samples are added in multiples of this, of its double from so many samples on
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
    ) -> None:
        check_sample_losses(evaluator)
        self.evaluator, self.rtol, self.seed = evaluator, rtol, seed
        self.cap = math.inf if cap is None else cap
        self._steps, self._shape = steps, tuple(shape)
        self.anchors = anchor_points(shape)
        self._places = np.stack(np.unravel_index(self.anchors, self._shape), axis=1)
        self._known: dict[str, _Known] = {}
        self._probabilities: dict[tuple[str, int], Tensor] = {}
        self.metrics = sampled_metrics(evaluator)

    def prepare(self, world: World, shown: bool = False) -> dict[int, list[float]]:
        """Evaluate every sample at the anchors, each anchor on one rank; see ``Estimator``."""
        share = range(world.rank, len(self.anchors), world.size)
        with Progress("evaluating anchors in full", len(share), shown=shown) as bar:
            tables = world.on_all(lambda: self._evaluate_anchors(share, bar.advance))
        results: dict[int, list[float]] = {int(index): [] for index in self.anchors}
        for name, part in tables.items():
            table, kinds = world.allreduce(part), self.evaluator.kinds[name]
            for position, index in enumerate(self.anchors):
                losses, right = table[:, position]
                values = {"loss": losses.mean(), "loss_stderr": 0.0, "samples": len(losses), "acc": 100 * right.mean()}
                results[int(index)] += [float(values[kind]) for kind in sampled_kinds(kinds)]
            self._known[name] = self._learn(table, "acc" in kinds)
            self.evaluator.reorder(name, self._known[name].order.numpy())
        return results

    def _evaluate_anchors(self, share: Sequence[int], advance: Callable[[], None]) -> dict[str, np.ndarray]:
        """Split -> (2, anchors, N) losses and hits; zero at the anchors of other ranks."""
        tables = {name: np.zeros((2, len(self.anchors), size)) for name, size in self.evaluator.samples.items()}
        for position in share:
            with one_line_errors("an anchor"):
                self.evaluator.move_to(self._steps[self.anchors[position]])
                for name, table in tables.items():
                    losses, right = self.evaluator.sample_losses(name, 0, table.shape[2])
                    table[0, position] = losses.cpu().numpy()
                    if right is not None:
                        table[1, position] = right.cpu().numpy()
            advance()
        return tables

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``, in the order of ``metrics``."""
        self.evaluator.move_to(self._steps[index])
        results: list[float] = []
        for name, kinds in self.evaluator.kinds.items():
            values = self._sample(name, index, "acc" in kinds)
            results += [values[kind] for kind in sampled_kinds(kinds)]
        return results

    def _sample(self, name: str, index: int, accuracy: bool) -> dict[str, float]:
        known, population = self._known[name], self.evaluator.samples[name]
        nearest = self._nearest(np.array(np.unravel_index(index, self._shape)))
        losses, rights = torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64)
        # A thirty-second of many, up to 256.
        count = min(population, _whole_units(max(FIRST, min(256, population // 32)), population))
        while True:
            more, right = self.evaluator.sample_losses(name, len(losses), count)
            losses = torch.cat([losses, more.cpu()])
            if right is not None:
                rights = torch.cat([rights, right.cpu()])
            if count == population:
                mean, error = float(losses.mean()), 0.0
                break
            chances = self._inclusion(name, count)[:count]
            mean, error = _regression_estimate(losses, known.losses[nearest], chances)
            bound = self.rtol * mean
            if not math.isfinite(mean) or (mean > 0 and error <= bound) or mean - 4 * error > self.cap:
                break
            # As many as the error calls for, were it to fall with 1 / n - 1 / N as it should.
            share = (bound / error) ** 2 if mean > 0 else 0.0
            needed = 1.02 / (1 / population + (1 / count - 1 / population) * share)
            count = min(population, _whole_units(max(1.05 * count, min(needed, 3 * count)), population))
        values = {"loss": mean, "loss_stderr": error, "samples": float(count)}
        if accuracy and known.hits is not None:
            if count == population or not math.isfinite(mean):
                estimate = float(rights.mean())
            else:
                estimate, _ = _regression_estimate(rights, known.hits[nearest], self._inclusion(name, count)[:count])
            values["acc"] = 100 * min(max(estimate, 0.0), 1.0)
        return values

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
                design = _design(others)
                residuals[position] = (own - design @ _solve(design, own, everyone)[0]) / mean
        size = residuals.square().mean(dim=0).sqrt()
        size = (size.square() + (_UNEXPECTED * size.square().mean().sqrt()).square()).sqrt().clamp_min(1e-12)
        drawn = torch.from_numpy(np.random.default_rng([self.seed, 77]).random(len(size)))
        order = torch.argsort(drawn / size, stable=True)
        hits = torch.from_numpy(table[1])[:, order] if accuracy else None
        return _Known(losses[:, order], hits, order, size[order])

    def _inclusion(self, name: str, count: int) -> Tensor:
        """(N,) probability of each sample to be among the first ``count``: proportional to its size, at most 1."""
        key = (name, count)
        if key not in self._probabilities:
            size = self._known[name].size
            certain = torch.zeros(len(size), dtype=torch.bool)
            while True:
                factor = (count - certain.sum()) / size[~certain].sum()
                more = (factor * size >= 1) & ~certain
                if not more.any():
                    break
                certain |= more
            while len(self._probabilities) >= _KEPT:
                del self._probabilities[next(iter(self._probabilities))]
            self._probabilities[key] = torch.where(certain, 1.0, (factor * size).clamp(max=1.0))
        return self._probabilities[key]


def _whole_units(count: float, population: int) -> int:
    """``count`` rounded up, so that batches have few sizes: for each new one, a GPU's library searches its kernels again."""
    unit = _UNIT if population < _FEW else 2 * _UNIT
    return math.ceil(count / unit) * unit


def _regression_estimate(values: Tensor, anchors: Tensor, chances: Tensor) -> tuple[float, float]:
    """The mean over all N samples, and its standard error, from the first n.

    Args:
        values: (n,) values at this point.
        anchors: (p, N) the same quantity of all samples at the nearest anchors.
        chances: (n,) inclusion probabilities.
    """
    population = anchors.shape[1]
    if not torch.isfinite(anchors).all():
        anchors = anchors[:0]
    weights = 1 / chances
    design = _design(anchors)
    mine = design[: len(values)]
    coefficients, leverage = _solve(mine, values, weights)
    residuals = values - mine @ coefficients
    mean = design.mean(dim=0) @ coefficients + (weights * residuals).sum() / population
    spread = weights * residuals / (1 - leverage)
    error = (1 + _SKEWNESS / len(values)) * ((1 - chances) * spread.square()).sum().sqrt() / population
    return float(mean), float(error)


def _design(anchors: Tensor) -> Tensor:
    """(N, p + 1): a one and the values at the anchors, for each sample."""
    return torch.cat([torch.ones(1, anchors.shape[1], dtype=anchors.dtype), anchors]).T


def _solve(design: Tensor, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares that tolerates collinear columns: coefficients (p + 1,) and leverages (n,), at most 0.9."""
    scale = design.square().mean(dim=0).sqrt().clamp_min(1e-300)
    scaled = design / scale * weights.sqrt()[:, None]
    gram = scaled.T @ scaled
    if not torch.isfinite(gram).all():
        return torch.zeros(design.shape[1], dtype=design.dtype), torch.zeros(len(design), dtype=design.dtype)
    eigenvalues, vectors = torch.linalg.eigh(gram)
    kept = eigenvalues > _COLLINEAR * eigenvalues[-1]
    inverse = (vectors[:, kept] / eigenvalues[kept]) @ vectors[:, kept].T
    leverage = ((scaled @ inverse) * scaled).sum(dim=1).clamp(max=0.9)
    return inverse @ (scaled.T @ (values * weights.sqrt())) / scale, leverage
