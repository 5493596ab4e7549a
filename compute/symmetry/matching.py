"""The order of a network's units in which its weights, or its activations, are closest to those of another network.

Weight matching: unit after unit, a linear assignment of its slices of the weights, the others as they are, until nothing
changes (Ainsworth et al. 2023, algorithm 1). Activation matching: one assignment each unit, of the correlations between the
activations of the two networks on the same samples (Li et al. 2015; Ainsworth et al. 2023, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, fx

from paraloss.compute.symmetry.axes import Axes, Unit, canonical, index_along
from paraloss.compute.symmetry.graph import Symmetries, attribute_of, name_of

_SWEEPS = 100
_GAIN = 1e-9  # of the product of the norms: less is rounding
_STATISTICS = ("running_mean", "running_var")
Orders = dict[Unit, np.ndarray]
Values = dict[fx.Node, Tensor]


@dataclass(frozen=True)
class _Place:
    """Where a unit lies in a tensor: ``term``, from ``start`` on along ``dim``, the unit at ``position`` of the term."""

    name: Any
    dim: int
    start: int
    term: tuple[Unit, ...]
    position: int

    def rows(self, tensor: Tensor) -> Tensor:
        """(unit, numbers): one row for each position of the unit."""
        sizes = [unit.size for unit in self.term]
        part = tensor.narrow(self.dim, self.start, prod(sizes)).movedim(self.dim, 0)
        return part.reshape(*sizes, -1).movedim(self.position, 0).reshape(sizes[self.position], -1).double()


def indices(axes: Axes, orders: Orders) -> dict[int, np.ndarray]:
    """Dimension -> (n,) the position that comes to each place, for the dimensions whose order changes."""
    found = {dim: index_along(axis, orders) for dim, axis in enumerate(axes)}
    return {dim: index for dim, index in found.items() if (index != np.arange(len(index))).any()}


def permuted(tensor: Tensor, changes: Mapping[int, np.ndarray]) -> Tensor:
    """``tensor`` in another order, see ``indices``; each number stays what it is, to the bit."""
    for dim, index in changes.items():
        tensor = tensor.index_select(dim, torch.from_numpy(index).to(tensor.device))
    return tensor


def match_weights(
    found: Symmetries, one: Mapping[str, Tensor], other: Mapping[str, Tensor], seed: int, orders: Orders | None = None
) -> Orders:
    """Find the orders of ``other``'s units that bring its weights closest to those of ``one``.

    Args:
        found: what may be permuted.
        one: parameters by name, on the CPU.
        other: the same of the network to permute.
        seed: of the order in which units are visited.
        orders: units that have their order already. Default: none.

    Returns:
        Unit -> (size,) the position that comes to each place.
    """
    given = dict(orders or {})
    names = [name for name in found.axes if not name.endswith(_STATISTICS)]
    units = [unit for unit in found.units() if unit not in given]
    places = _places({name: found.axes[name] for name in names})
    result: Orders = given | {unit: np.arange(unit.size) for unit in units}
    current = {name: permuted(other[name], indices(found.axes[name], result)) for name in names}
    generator = np.random.default_rng(seed)
    for _ in range(_SWEEPS):
        changed = False
        for k in generator.permutation(len(units)):
            changed |= _improve(units[k], places.get(units[k], []), found, one, other, current, result)
        if not changed:
            break
    return result


def _improve(
    unit: Unit,
    places: Sequence[_Place],
    found: Symmetries,
    one: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    current: dict[str, Tensor],
    result: Orders,
) -> bool:
    """Give one unit its best order while all others keep theirs; whether that brought the weights closer."""
    if not places:
        return False
    gain: Tensor = sum(place.rows(one[place.name]) @ place.rows(current[place.name]).T for place in places)  # type: ignore[assignment]
    order = assign(gain.numpy(), sorted(unit.blocks))
    if (order == np.arange(unit.size)).all():
        return False
    before, touched = result[unit], {place.name for place in places}
    result[unit] = before[order]
    moved = {name: permuted(other[name], indices(found.axes[name], result)) for name in touched}
    rise = sum(_inner(one[name], moved[name]) - _inner(one[name], current[name]) for name in touched)
    scale = sum(float(one[name].double().norm() * other[name].double().norm()) for name in touched)
    if not rise > _GAIN * scale:  # a unit on two axes of one tensor: the assignment is only a guess
        result[unit] = before
        return False
    current.update(moved)
    return True


def match_activations(
    found: Symmetries,
    one: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    batches: Iterable[Sequence[Any]],
) -> Orders:
    """Find the orders of ``other``'s units in which its activations correlate most with those of ``one``.

    Args:
        found: what may be permuted.
        one: parameters and buffers by name.
        other: the same of the network to permute.
        batches: for each batch what the graph's placeholders stand for.

    Returns:
        Unit -> (size,) the position that comes to each place; units whose activations no layer reads are left out.
    """
    nodes = dict(enumerate(found.read))
    places = _places({number: found.read[node] for number, node in nodes.items()})
    sums: dict[_Place, _Correlation] = {}
    for inputs in batches:
        values = [_activations(found.graph, state, inputs, found.read) for state in (one, other)]
        for unit, where in places.items():
            for place in where:
                rows = [place.rows(kept[nodes[place.name]]) for kept in values]
                sums.setdefault(place, _Correlation(unit.size)).add(*rows)
    result: Orders = {}
    for unit, where in places.items():
        correlation = sum(sums[place].matrix() for place in where)
        result[unit] = assign(np.asarray(correlation), sorted(unit.blocks))
    return result


class _Correlation:
    """Correlations between the rows of two matrices whose columns arrive in batches."""

    def __init__(self, size: int) -> None:
        self._count = 0
        self._sums = [torch.zeros(size, dtype=torch.float64) for _ in range(4)]
        self._products = torch.zeros(size, size, dtype=torch.float64)

    def add(self, one: Tensor, other: Tensor) -> None:
        """Add (rows, columns) of each."""
        self._count += one.shape[1]
        for total, part in zip(self._sums, (one, other, one.square(), other.square()), strict=True):
            total += part.sum(dim=1)
        self._products += one @ other.T

    def matrix(self) -> np.ndarray:
        """(rows of one, rows of other); 0 where a row is constant."""
        mean, other_mean, square, other_square = (total / self._count for total in self._sums)
        covariance = self._products / self._count - mean[:, None] * other_mean
        variances = (square - mean**2).clamp_min(0)[:, None] * (other_square - other_mean**2).clamp_min(0)
        found = torch.where(variances > 0, covariance / variances.sqrt(), torch.zeros_like(covariance))
        return found.nan_to_num(0, 0, 0).numpy()


def assign(gain: np.ndarray, blocks: Sequence[int] = ()) -> np.ndarray:
    """(n,) the column for each row that makes the sum of ``gain`` largest.

    Args:
        gain: (n, n).
        blocks: sizes of runs that stay together, ascending, each a divisor of the next.
    """
    if not blocks:
        return np.asarray(linear_sum_assignment(gain, maximize=True)[1])
    size, count = blocks[-1], len(gain) // blocks[-1]
    cells = gain.reshape(count, size, count, size).swapaxes(1, 2)
    inner = [[assign(cells[i, j], blocks[:-1]) for j in range(count)] for i in range(count)]
    values = np.array([[cells[i, j][np.arange(size), inner[i][j]].sum() for j in range(count)] for i in range(count)])
    outer = assign(values)
    return np.concatenate([outer[i] * size + inner[i][outer[i]] for i in range(count)])


def _inner(one: Tensor, other: Tensor) -> float:
    return float((one.double() * other.double()).sum())


def _places(axes: Mapping[Any, Axes]) -> dict[Unit, list[_Place]]:
    found: dict[Unit, list[_Place]] = {}
    for name, tensor in axes.items():
        for dim, axis in enumerate(tensor):
            start = 0
            for term in canonical(axis):
                for position, unit in enumerate(term):
                    if not unit.fixed:
                        found.setdefault(unit, []).append(_Place(name, dim, start, term, position))
                start += prod(unit.size for unit in term)
    return found


class _Recorder(fx.Interpreter):
    """Runs the graph with other weights and keeps the activations that layers read."""

    def __init__(self, graph: fx.GraphModule, state: Mapping[str, Tensor], wanted: Iterable[fx.Node]) -> None:
        super().__init__(graph)
        self._state, self._wanted = state, set(wanted)
        self.kept: Values = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "get_attr":
            name = name_of(n)
            return self._state[name] if name in self._state else attribute_of(self.module, n)
        if n.op == "call_module":  # what checks the inputs' shapes
            return None
        found = super().run_node(n)
        if n in self._wanted:
            self.kept[n] = found.detach().to("cpu", copy=True)
        return found


@torch.no_grad()
def _activations(
    graph: fx.GraphModule, state: Mapping[str, Tensor], inputs: Sequence[Any], wanted: Iterable[fx.Node]
) -> Values:
    recorder = _Recorder(graph, state, wanted)
    recorder.run(*inputs)
    return recorder.kept
