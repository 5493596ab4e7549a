"""Means of all samples from a part of them: survey sampling with unequal probabilities and a regression.

Sources: Cochran 1977, "Sampling techniques", chapter 7; Särndal, Swensson and Wretman 1992, "Model assisted survey sampling",
chapter 6; Ohlsson 1998, "Sequential Poisson sampling".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_COLLINEAR = 1e-10
_CONTRIBUTE = 6.0  # samples that must contribute to an error about alike, for it to say what the others may bring
_OFF = 0.2  # share by which the prediction of a single sample may be off
_NOTHING = 1e-7  # residuals below this share of the values' range are none: losses have 24 bits
_UNIT, _FEW = 32, 8192  # samples are added in multiples of this, of its double from so many samples on


def drawing_order(drawn: Tensor, size: Tensor) -> Tensor:
    """Order in which to draw samples, so that the first n are a sample for every n: ascending u / size.

    Args:
        drawn: (N,) uniform random numbers u.
        size: (N,) positive: to what the chances of a sample are proportional.
    """
    return torch.argsort(drawn / size, stable=True)


def inclusion(size: Tensor, count: int) -> Tensor:
    """(N,) probability of each sample to be among the first ``count``: proportional to its size, at most 1."""
    certain = torch.zeros(len(size), dtype=torch.bool)
    if count >= len(size):
        return torch.ones(len(size), dtype=torch.float64)
    while True:
        factor = (count - certain.sum()) / size[~certain].sum()
        more = (factor * size >= 1) & ~certain
        if not more.any():
            return torch.where(certain, 1.0, (factor * size).clamp(max=1.0))
        certain |= more


def more_samples(count: int, population: int, error: float, bound: float) -> int:
    """Number of samples for an error of ``bound``, were it to fall with 1 / n - 1 / N; at most three times as many.

    Args:
        count: samples so far.
        population: N.
        error: standard error that they gave.
        bound: of the error; 0 or less asks for as many as allowed.
    """
    share = (bound / error) ** 2 if bound > 0 else 0.0
    needed = 1.02 / (1 / population + (1 / count - 1 / population) * share)
    return min(population, whole_units(max(1.05 * count, min(needed, 3 * count)), population))


def whole_units(count: float, population: int) -> int:
    """``count`` rounded up, so that batches have few sizes: for each new one, a GPU's library searches its kernels again."""
    unit = _UNIT if population < _FEW else 2 * _UNIT
    return math.ceil(count / unit) * unit


def regression_estimate(
    values: Tensor, known: Tensor, chances: Tensor, skewness: float, span: float | None = None
) -> tuple[float, float]:
    """Estimate the mean over all N samples, and its standard error, from n.

    Args:
        values: (n,) values of the samples drawn.
        known: (p, N) quantities that are known of every sample, the n drawn ones first, to which the values are about linear;
            rows that are not finite everywhere are left out.
        chances: (n,) inclusion probabilities.
        skewness: the error is multiplied by 1 + skewness / n.
        span: by how much the value of a sample that was not drawn may be off; default: the range of ``values``.

    The error is sqrt(sum((1 - pi) * (e / (pi (1 - h)))^2)) / N with the residuals e of the regression and the leverage h (HC3).
    Three things that residuals of drawn samples cannot show are added to it:

    - 2 span / n for the samples that were not drawn, where few of the drawn ones make all of the error, as with a loss of zeros
      and ones: two samples in n may be as far off and were not met.
    - What predictions of samples that were not drawn add beyond the range of the values, widened by a tenth.
    - A fifth of what one such prediction adds, where that alone is more than the error.
    """
    population, count = known.shape[1], len(values)
    weights = 1 / chances
    design = with_constant(_finite_rows(known))
    mine = design[:count]
    coefficients, leverage = solve(mine, values, weights)
    residuals = values - mine @ coefficients
    mean = design.mean(dim=0) @ coefficients + (weights * residuals).sum() / population
    spread = weights * residuals / (1 - leverage)
    variances = (1 - chances) * spread.square()
    error = (1 + skewness / count) * variances.sum().sqrt() / population
    low, high = values.min(), values.max()
    span = float(high - low) if span is None else span
    variances = torch.where(residuals.abs() > _NOTHING * span, variances, 0.0)
    unseen = 2 * span / count * (1 - count / population) * max(0.0, 1 - _contributors(variances) / _CONTRIBUTE)
    fitted = design[count:] @ coefficients
    beyond = ((fitted - (low + high) / 2).abs() - 0.6 * (high - low)).clamp_min(0.0).sum() / population
    alone = (fitted - mean).abs() / population
    alone = _OFF * alone[alone > error]
    return float(mean), math.hypot(float(error), unseen, float(alone.square().sum().sqrt())) + float(beyond)


def _contributors(variances: Tensor) -> float:
    """How many parts make up a sum: k where k of them are equal and the others nothing."""
    largest = variances.max()
    if not largest > 0:
        return 0.0
    shares = variances / largest
    return float(shares.sum().square() / shares.square().sum())


def predictions(values: Tensor, known: Tensor, chances: Tensor) -> Tensor:
    """(N,) values of all samples as the regression of ``regression_estimate`` predicts them, the drawn ones as they are."""
    design = with_constant(_finite_rows(known))
    coefficients, _ = solve(design[: len(values)], values, 1 / chances)
    return torch.cat([values, design[len(values) :] @ coefficients])


def _finite_rows(known: Tensor) -> Tensor:
    return known[torch.isfinite(known).all(dim=1)]


def with_constant(known: Tensor) -> Tensor:
    """(N, p + 1): a one and the (p, N) known quantities, for each sample."""
    return torch.cat([torch.ones(1, known.shape[1], dtype=known.dtype), known]).T


def solve(design: Tensor, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
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
