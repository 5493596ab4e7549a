"""Whether a faster forward pass computes what the model computes, wherever the model is moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from paraloss.compute.forward.batch_norm import normalizing_layers
from paraloss.compute.forward.copying import copy_model

_CLOSE = 3e-6  # of the largest output: nothing to look into
_MORE_ROUNDING = 3.0  # times the rounding error of the model's own forward pass


def probe_points(directions: int) -> list[list[float]]:
    """Coordinates at which to compare: the center, both ways along every direction, and one off all axes."""
    points = [[0.0] * directions]
    for axis in range(directions):
        points += [[step if k == axis else 0.0 for k in range(directions)] for step in (1.0, -1.0, 0.1)]
    return [*points, [(0.6, -0.7, 0.4)[k % 3] for k in range(directions)]] if directions > 1 else points


def agrees(model: nn.Module, fast: Callable[[Any], Any], inputs: Any) -> bool:
    """Whether ``fast(inputs)`` is ``model(inputs)`` but for rounding.

    Args:
        model: the plain model, where it is now.
        fast: the other forward pass, of the same weights.
        inputs: one batch.

    Where the two differ by more than a few roundings of the largest output, float64 decides: the faster pass may be off by
    three times what the plain one is off by. Deep networks far from a minimum multiply rounding errors.
    """
    expected, found = _numbers(model(inputs)), _numbers(fast(inputs))
    if len(expected) != len(found) or any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
        return False
    if all(_distance(a, b) <= _CLOSE * _scale(a) for a, b in zip(expected, found, strict=True)):
        return True
    try:
        exact = _numbers(copy_model(model).double()(_double(inputs)))
    except Exception:  # a model that insists on float32
        return False
    return len(exact) == len(expected) and all(
        _distance(fast_, exact_) <= _MORE_ROUNDING * _distance(plain, exact_) + _CLOSE * _scale(exact_)
        for plain, fast_, exact_ in zip(expected, found, exact, strict=True)
    )


@contextmanager
def other_statistics(model: nn.Module) -> Iterator[None]:
    """Running statistics displaced within the context."""
    layers = normalizing_layers(model)
    before = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]  # type: ignore[union-attr, operator]
    try:
        for layer in layers:
            layer.running_mean += 0.3 * layer.running_var.sqrt()  # type: ignore[assignment, operator, union-attr]
            layer.running_var *= 1.7  # type: ignore[assignment, operator]
        yield
    finally:
        for layer, (mean, variance) in zip(layers, before, strict=True):
            layer.running_mean.copy_(mean)  # type: ignore[operator, union-attr]
            layer.running_var.copy_(variance)  # type: ignore[operator, union-attr]


def _numbers(outputs: Any) -> Sequence[Tensor]:
    return [leaf.detach() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _double(inputs: Any) -> Any:
    return tree_map(lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, inputs)


def _scale(tensor: Tensor) -> float:
    finite = tensor[tensor.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0.0


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference; infinite where one is finite and the other is not."""
    if not torch.equal(one.isfinite(), other.isfinite()):
        return float("inf")
    finite = one.isfinite()
    differences = (one[finite].double() - other[finite].double()).abs()
    return float(differences.max()) if differences.numel() else 0.0
