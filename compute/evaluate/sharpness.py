"""How sharp the loss is around a checkpoint, in numbers with errors: worst and mean rises, trace and largest eigenvalues.

Everything is of the mean loss of the given batches, in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.directions.random import normalize
from paraloss.compute.evaluate.curvature import Hessian, lanczos_vectors, leading_pairs
from paraloss.compute.evaluate.measures import mean_gradient
from paraloss.compute.inputs.losses import BatchLoss
from paraloss.errors import InputError
from paraloss.progress import Progress

_ASAM_FLOOR = 0.01  # eta of Kwon et al. 2021: weights near zero may move, too
_ENOUGH = 1e-3  # relative gain of a step of ascent below which a start has arrived


@dataclass(frozen=True)
class Sharpness:
    """A number about the surroundings of a checkpoint.

    Attributes:
        value: the number.
        error: its standard error, or what ``meaning`` says.
        meaning: what it is, with its source.
    """

    value: float
    error: float
    meaning: str


def sharpness(
    model: nn.Module,
    loss: BatchLoss,
    batches: Collection[Any],
    only: Collection[nn.Parameter] | None = None,
    *,
    rho: float = 0.05,
    adaptive_rho: float = 0.5,
    noise: float = 0.1,
    draws: int = 20,
    starts: int = 3,
    steps: int = 20,
    top: int = 3,
    products: int = 60,
    seed: int = 0,
    shown: bool = False,
) -> dict[str, Sharpness]:
    """Measure the sharpness of the mean loss where ``model`` is; the model is left there.

    Args:
        model: the model, in evaluation mode.
        loss: a criterion or a step.
        batches: what ``loss`` takes, on the model's device; iterated once per evaluation.
        only: parameters that move. Default: all of floating-point numbers.
        rho: Euclidean radius of the worst rise.
        adaptive_rho: radius of the adaptive one, in which each weight counts by its own size.
        noise: standard deviation of the Gaussian noise, as a share of each filter's norm.
        draws: number of noises, each used in both signs.
        starts: of the ascents, the first from the center, the others from random points.
        steps: largest number of steps of each ascent.
        top: number of eigenvalues, those of largest magnitude.
        products: of the Hessian with a vector, for the trace.
        seed: of the random numbers.
        shown: show progress on standard error.

    Returns:
        Name -> number: ``loss``, ``worst_rise``, ``adaptive_rise``, ``noise_rise``, ``trace``, ``eigenvalue_1`` …

    Raises:
        InputError: a radius, a noise or a number that is not above zero, a loss that is not finite, or no weights to move.
        MissingPackage: curvlinops is not installed.
    """
    _check(rho=rho, adaptive_rho=adaptive_rho, noise=noise, draws=draws, starts=starts, steps=steps, top=top, products=products)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Sharpness] = {}
    with _Around(model, loss, batches, only) as around:
        if not math.isfinite(around.center):
            raise InputError("the loss is not finite at the checkpoint, so that it has no sharpness")
        found["loss"] = Sharpness(around.center, 0.0, "mean loss at the checkpoint")
        with Progress("looking for the worst rise", 2 * starts, unit="ascents", shown=shown) as bar:
            for name, radius, ones, source in (
                ("worst_rise", rho, True, "Euclidean distance (SAM, Foret et al. 2021)"),
                ("adaptive_rise", adaptive_rho, False, "distance in units of each weight (ASAM, Kwon et al. 2021)"),
            ):
                scales = [torch.ones_like(c) if ones else c.abs() + _ASAM_FLOOR for c in around.centers]
                rises = _worst_rises(around, scales, radius, starts, steps, generator, bar.advance)
                meaning = f"largest rise found within {radius:g}, {source}; error: range over {starts} starts"
                found[name] = Sharpness(max(rises), max(rises) - min(rises), meaning)
        found["noise_rise"] = _noise_rise(around, noise, draws, generator, shown)
    found |= _of_the_hessian(model, loss, batches, only, top, products, seed, shown)
    return found


def _check(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{{{name}}} must be above zero, not {value:g}", arguments=(name,))


class _Around:
    """The mean loss and its gradient at offsets from the center, where the parameters are put back at the end.

    Attributes:
        center: the mean loss there.
        centers: the parameters there.
    """

    def __init__(
        self, model: nn.Module, loss: BatchLoss, batches: Collection[Any], only: Collection[nn.Parameter] | None
    ) -> None:
        chosen = model.parameters() if only is None else only
        self._parameters = [parameter for parameter in chosen if parameter.is_floating_point()]
        if not self._parameters:
            raise InputError("the model has no parameters of floating-point numbers that move")
        self._model, self._loss, self._batches = model, loss, batches

    def __enter__(self) -> _Around:
        self.centers = [parameter.detach().clone() for parameter in self._parameters]
        self._before = [parameter.requires_grad for parameter in self._parameters]
        self.center = self.loss()
        return self

    def __exit__(self, *_: object) -> None:
        self._put(None)
        for parameter, wanted in zip(self._parameters, self._before, strict=True):
            parameter.requires_grad_(wanted)

    def loss(self, offsets: Sequence[Tensor] | None = None) -> float:
        """The mean loss."""
        self._put(offsets)
        total: Tensor | float = 0.0
        count: Tensor | float = 0.0
        with torch.enable_grad():  # a step may differentiate itself, as that of a PINN does
            for batch in self._batches:
                found = self._loss.batch_losses(self._model, batch)
                total, count = total + found.total.detach(), count + found.count
        return float(total) / float(count)  # read back once: a wait for each batch would leave the device idle

    def gradient(self, offsets: Sequence[Tensor] | None = None) -> tuple[float, list[Tensor]]:
        """The mean loss and its gradient."""
        self._put(offsets)
        with torch.enable_grad():
            return mean_gradient(self._model, self._loss, self._batches, self._parameters)

    def _put(self, offsets: Sequence[Tensor] | None) -> None:
        with torch.no_grad():
            for number, (parameter, center) in enumerate(zip(self._parameters, self.centers, strict=True)):
                parameter.copy_(center if offsets is None else center + offsets[number])


def _worst_rises(
    around: _Around,
    scales: Sequence[Tensor],
    radius: float,
    starts: int,
    steps: int,
    generator: torch.Generator,
    advance: Callable[[], None],
) -> list[float]:
    """The largest rises within ||offset / scale|| <= radius that ascents from several starts find.

    A step goes to the point of the ball where the loss's linear part is largest, radius * scale^2 g / ||scale g||, which never
    goes down on a convex loss, and half-way there where it would: conditional gradients, Frank and Wolfe 1956. The first step
    of the first start is that of SAM.
    """
    rises = []
    for start in range(starts):
        offsets = [torch.zeros_like(scale) for scale in scales]
        best, gradient = around.gradient(offsets)
        if start or not any(bool(each.any()) for each in gradient):  # at a minimum no step leads anywhere
            offsets = [scale * torch.randn(scale.shape, generator=generator).to(scale) for scale in scales]
            offsets = _on_the_ball(offsets, scales, radius)
            best, gradient = around.gradient(offsets)
        for _ in range(steps):
            target = _on_the_ball([scale.square() * g for scale, g in zip(scales, gradient, strict=True)], scales, radius)
            if not all(bool(torch.isfinite(each).all()) for each in target):
                break
            value, share = around.loss(target), 1.0
            while value < best and share > 0.1:
                share /= 2
                value = around.loss(_between(offsets, target, share))
            if not value > best + _ENOUGH * abs(best - around.center):
                best = max(best, value)
                break
            offsets = _between(offsets, target, share)
            best, gradient = around.gradient(offsets)
        rises.append(best - around.center)
        advance()
    return rises


def _on_the_ball(offsets: Sequence[Tensor], scales: Sequence[Tensor], radius: float) -> list[Tensor]:
    """``offsets`` scaled to the norm ``radius``; zero stays zero."""
    squares = sum(float((each / scale).double().square().sum()) for each, scale in zip(offsets, scales, strict=True))
    return [each * (radius / math.sqrt(squares) if squares else 0.0) for each in offsets]


def _between(offsets: Sequence[Tensor], target: Sequence[Tensor], share: float) -> list[Tensor]:
    return [torch.lerp(each, to, share) for each, to in zip(offsets, target, strict=True)]


def _noise_rise(around: _Around, noise: float, draws: int, generator: torch.Generator, shown: bool) -> Sharpness:
    rises = []
    with Progress("adding noise", draws, unit="draws", shown=shown) as bar:
        for _ in range(draws):
            offsets = []
            for center in around.centers:
                drawn = torch.randn(center.shape, generator=generator).to(center)
                offsets.append(noise * normalize(drawn, center, "filter", "biasbn"))
            both = around.loss(offsets) + around.loss([-each for each in offsets])
            rises.append(both / 2 - around.center)
            bar.advance()
    error = float(np.std(rises, ddof=1) / math.sqrt(draws)) if draws > 1 else float("nan")
    meaning = f"mean rise under Gaussian noise of {noise:g} of each filter's norm, {draws} draws in both signs; standard error"
    return Sharpness(float(np.mean(rises)), error, meaning)


def _of_the_hessian(
    model: nn.Module,
    loss: BatchLoss,
    batches: Collection[Any],
    only: Collection[nn.Parameter] | None,
    top: int,
    products: int,
    seed: int,
    shown: bool,
) -> dict[str, Sharpness]:
    """Trace and largest eigenvalues of the Hessian with respect to weights of dimension > 1."""
    with Hessian(model, loss, batches, only) as hessian:
        operator = hessian.operator.to_scipy()
        size = operator.shape[0]
        if not np.isfinite(operator @ np.ones(size, operator.dtype)).all():
            raise InputError("the second derivative of the loss is not finite here")
        with hessian.counting("trace", products, shown):
            found = {"trace": _trace(operator, products, np.random.default_rng(seed))}
        wanted = min(top, size - 1)
        with hessian.counting("eigenvalues", lanczos_vectors(size, wanted) + wanted, shown):
            values, vectors = (
                leading_pairs(operator, wanted) if wanted else np.linalg.eigh(operator @ np.eye(size, dtype=operator.dtype))
            )
            residuals = np.linalg.norm(operator @ vectors - vectors * values, axis=0)
    for number, k in enumerate(np.argsort(-np.abs(values)), start=1):
        meaning = "eigenvalue of the Hessian by magnitude; one lies within the error, the norm of the residual"
        found[f"eigenvalue_{number}"] = Sharpness(float(values[k]), float(residuals[k]), meaning)
    return found


def _trace(operator: Any, products: int, random: np.random.Generator) -> Sharpness:
    """Hutch++: exact on the span that a third of the products find, by random signs on the rest.

    Source: Meyer, Musco, Musco and Woodruff 2021, "Hutch++: optimal stochastic trace estimation" (arXiv 2010.09649).
    """
    size = operator.shape[0]
    meaning = "trace of the Hessian with respect to weights of dimension > 1; standard error (Hutch++, Meyer et al. 2021)"
    if products >= size:
        matrix = operator @ np.eye(size, dtype=operator.dtype)
        return Sharpness(float(np.trace(matrix)), 0.0, meaning)
    third = max(2, products // 3)
    signs = random.choice([-1.0, 1.0], (size, third)).astype(operator.dtype)
    basis, _ = np.linalg.qr(operator @ signs)
    inside = float(np.einsum("ij,ij->", basis, operator @ basis, dtype=np.float64))
    rest = random.choice([-1.0, 1.0], (size, third)).astype(operator.dtype)
    rest -= basis @ (basis.T @ rest)
    each = np.einsum("ij,ij->j", rest, operator @ rest, dtype=np.float64)
    return Sharpness(inside + float(each.mean()), float(each.std(ddof=1) / math.sqrt(third)), meaning)
