"""Directions that the loss at the center gives: its gradient, where it rises most, the Hessian's eigenvectors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.directions.random import Direction, normalize
from paraloss.compute.evaluate.curvature import spectrum
from paraloss.compute.evaluate.measures import mean_gradient
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.inputs.tensors import distinct_parameters
from paraloss.compute.options.surface import Ignore, Norm
from paraloss.errors import InputError

_STEPS = 8  # of the ascent, from each of two starts
_SAME = 1e-4  # relative change of a direction that ends the ascent


class Center:
    """The loss around a model's weights.

    Args:
        make: makes the evaluator, at the center; called where it is first needed.
        split: name of the split whose mean loss counts.
        moving: names of the tensors that may move; None for all.
    """

    def __init__(self, make: Callable[[], PointEvaluator], split: str, moving: frozenset[str] | None) -> None:
        self._make, self._split, self._moving = make, split, moving
        self._most = 1
        self._eigenvectors: tuple[Direction, ...] = ()

    def expect(self, number: int) -> None:
        """Let the ``number``-th eigenvector be asked for, so that all come out of one run."""
        self._most = max(self._most, number)

    def gradient(self) -> Direction:
        """The gradient of the mean loss, scaled as a whole to the norm of the weights that it moves.

        Raises:
            InputError: it is zero or not finite.
        """
        _, found = self._rise({name: torch.zeros_like(part) for name, part in self._parameters.items()}, 0.0)
        return as_long_as_weights(found, self._weights, "the gradient of the loss at the center")

    def worst(self, radius: float, norm: Norm, ignore: Ignore, seed: int) -> Direction:
        """The direction of normalized filters along which the loss at ``radius`` is highest, found by ascent.

        Each step takes the gradient at the point that was reached and normalizes it: the filters of a direction have fixed
        norms, and among these directions that one has the largest product with the gradient. It starts from the gradient at
        the center and from a random direction; the highest loss of all that were visited decides.

        Args:
            radius: step along the direction at which the loss is measured.
            norm: see ``normalize``.
            ignore: see ``normalize``.
            seed: seed of the random start.

        Raises:
            InputError: the loss is not finite there.

        Source: Chen et al. 2025 (arXiv 2505.17646), "worst-case" basins; the step is that of Foret et al. 2021 (SAM).
        """
        generator = torch.Generator().manual_seed(seed)
        still = {name: torch.zeros_like(part) for name, part in self._parameters.items()}
        drawn = {name: torch.randn(part.shape, generator=generator, dtype=part.dtype) for name, part in self._weights.items()}
        best, highest = None, -torch.inf
        for start in (self._rise(still, 0.0)[1], drawn):
            direction = self._normalized(start, norm, ignore)
            for _ in range(_STEPS):
                loss, gradient = self._rise(direction, radius)
                if loss > highest:
                    best, highest = direction, loss
                before, direction = direction, self._normalized(gradient, norm, ignore)
                if _distance(direction, before) < _SAME * _length(before):
                    break
        if best is None or not any(bool(part.any()) for part in best.values()):
            raise InputError(
                f"along worst:{radius:g} the loss is not finite, or nothing moves; choose a smaller radius",
                arguments=("along",),
            )
        return best

    def eigenvector(self, number: int) -> Direction:
        """The Hessian's eigenvector of the ``number``-th largest magnitude, scaled to the norm of the weights that it moves.

        Raises:
            InputError: there are fewer, or the run did not converge.
            MissingPackage: curvlinops is not installed.
        """
        if len(self._eigenvectors) < number:
            at, top = self._evaluator, max(self._most, number)
            with at.exactly():
                found = spectrum(at.model, at.loss, self._batches, top, only=at.measured, density=False)
            self._eigenvectors = found.eigenvectors
        chosen = self._eigenvectors[number - 1]
        largest = max((part.flatten()[part.abs().argmax()] for part in chosen.values()), key=abs)
        signed = {name: part * torch.sign(largest) for name, part in chosen.items()}  # the solver's own sign means nothing
        return as_long_as_weights(signed, self._weights, f"eigenvector {number}")

    @cached_property
    def _evaluator(self) -> PointEvaluator:
        return self._make()

    @cached_property
    def _batches(self) -> Collection[Any]:
        return self._evaluator.batches_to_measure(self._split)

    @cached_property
    def _parameters(self) -> dict[str, nn.Parameter]:
        names = distinct_parameters(self._evaluator.model).keys()
        named = self._evaluator.model.named_parameters()
        return {name: part for name, part in named if name in names and (self._moving is None or name in self._moving)}

    @cached_property
    def _weights(self) -> Direction:
        work = {name: torch.promote_types(part.dtype, torch.float32) for name, part in self._parameters.items()}
        return {name: part.detach().cpu().to(work[name], copy=True) for name, part in self._parameters.items()}

    def _normalized(self, direction: Mapping[str, Tensor], norm: Norm, ignore: Ignore) -> Direction:
        """Each filter at its norm; biases and batch norm zero, or each tensor of them as one filter."""
        result = {}
        for name, part in direction.items():
            if part.ndim <= 1 and ignore == "none":
                result[name] = normalize(part.reshape(1, -1), self._weights[name].reshape(1, -1), norm).reshape(part.shape)
            else:
                result[name] = normalize(part, self._weights[name], norm)
        return result

    def _rise(self, direction: Mapping[str, Tensor], step: float) -> tuple[float, Direction]:
        """(mean loss, its gradient) a step away from the center; the model stands at the center again afterwards."""
        evaluator = self._evaluator
        try:
            self._put(direction, step)
            with evaluator.exactly():
                loss, found = mean_gradient(evaluator.model, evaluator.loss, self._batches, list(self._parameters.values()))
        finally:
            self._put(direction, 0.0)
        work = (part.cpu().to(self._weights[name].dtype) for name, part in zip(self._parameters, found, strict=True))
        return loss, dict(zip(self._parameters, work, strict=True))

    def _put(self, direction: Mapping[str, Tensor], step: float) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                moved = self._weights[name] if step == 0 else self._weights[name] + step * direction[name].cpu()
                parameter.copy_(moved.to(parameter.dtype))


def as_long_as_weights(direction: Mapping[str, Tensor], weights: Mapping[str, Tensor], name: str) -> Direction:
    """Scale a direction as a whole to the Euclidean norm of the weights that it moves, as long as a random one is.

    Args:
        direction: name -> tensor.
        weights: the parameters at the center.
        name: for the message.

    Raises:
        InputError: the direction is zero or not finite.
    """
    length, wanted = _length(direction), _length({key: weights[key] for key in direction})
    if not (0 < length < torch.inf):
        what = "zero" if length == 0 else "not finite"
        raise InputError(f"{name} is {what}, so that no axis can run along it", arguments=("along",))
    return {key: (part.cpu() * (wanted / length)).to(weights[key].dtype) for key, part in direction.items()}


def _length(direction: Mapping[str, Tensor]) -> float:
    return float(sum(part.double().abs().square().sum() for part in direction.values()) ** 0.5)


def _distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return _length({name: part - other[name] for name, part in one.items()})
