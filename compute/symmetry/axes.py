"""Which positions along the axes of tensors may be permuted together.

A *unit* is a set of positions with one permutation. An *axis* is a concatenation of terms, a term a product of units, the
outermost first: a flattened image is (channels)(pixels), an axis of attention (heads)(features), the input of a dense block
(block 1) then (block 2). Whatever a network computes makes axes equal; ``unify`` cuts and factors units until both sides have
the same ones. A unit that is *fixed* keeps its order.

The permutations that are left are symmetries of the network, though not always all of them: features of all attention heads
have one permutation, for example.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import prod

import numpy as np

_MOST_PIECES = 4096  # terms that a product of a fixed unit and a concatenation may be expanded to


class Unit:
    """Positions that are permuted together.

    Args:
        size: number of positions.
        fixed: whether they keep their order.

    Attributes:
        blocks: sizes of runs of positions that must stay together, as the groups of a group norm.
        expansion: what the unit was cut or factored into, or the unit that it was found equal to.
    """

    __slots__ = ("blocks", "expansion", "fixed", "size")

    def __init__(self, size: int, fixed: bool = False) -> None:
        self.size, self.fixed = size, fixed
        self.blocks: set[int] = set()
        self.expansion: Axis | None = None


Term = tuple[Unit, ...]
Axis = tuple[Term, ...]
Axes = tuple[Axis, ...]
ONE: Axis = ((),)
"""An axis with one position."""


def free(size: int) -> Axis:
    """An axis whose positions may be permuted in any way."""
    return ((Unit(size),),) if size != 1 else ONE


def still(size: int) -> Axis:
    """An axis whose positions keep their order."""
    return ((Unit(size, fixed=True),),) if size != 1 else ONE


def size_of(axis: Axis) -> int:
    """Number of positions along ``axis``."""
    return sum(prod(unit.size for unit in term) for term in axis)


def product(axes: Iterable[Axis]) -> Axis:
    """The axis that flattening ``axes`` gives, the first outermost."""
    units = []
    for axis in axes:
        unit = Unit(size_of(axis))
        unit.expansion = axis
        units.append(unit)
    return (tuple(units),)


def canonical(axis: Axis) -> Axis:
    """The same axis in units that are neither cut nor factored; fixed neighbors are joined, units of size 1 left out."""
    terms = [_joined(term) for part in axis for term in _expanded(part)]
    if not terms:
        return ONE
    return tuple(terms)


def units_of(axis: Axis) -> list[Unit]:
    """The units of a canonical axis that may be permuted."""
    return [unit for term in canonical(axis) for unit in term if not unit.fixed]


def fix(axis: Axis) -> None:
    """Let all positions along ``axis`` keep their order."""
    for term in axis:
        for unit in term:
            if unit.expansion is None:
                unit.fixed = True
            else:
                fix(unit.expansion)


def unify(one: Axis, other: Axis) -> None:
    """Let two axes of equal size be permuted in the same way."""
    while _unify_once(list(canonical(one))[::-1], list(canonical(other))[::-1]):
        pass


def keep_blocks(axis: Axis, size: int) -> None:
    """Let runs of ``size`` positions along ``axis`` stay together, as groups that are normalized together must."""
    start = 0
    for term in canonical(axis):
        end = start + prod(unit.size for unit in term)
        if start // size != (end - 1) // size:
            if start % size or end % size:
                fix((term,))
            else:
                _keep_in_term(term, size)
        start = end


def index_along(axis: Axis, permutations: Mapping[Unit, np.ndarray]) -> np.ndarray:
    """(n,) the position that comes to each place of ``axis``.

    Args:
        axis: any axis.
        permutations: unit -> (size,) the position that comes to each place; units that are left out keep their order.
    """
    pieces, start = [], 0
    for term in canonical(axis):
        index = np.zeros((1,), np.int64)
        for unit in term:
            order = permutations.get(unit)
            index = (index[:, None] * unit.size + (np.arange(unit.size) if order is None else order)).ravel()
        pieces.append(index + start)
        start += len(index)
    return np.concatenate(pieces)


def _expanded(term: Term) -> list[Term]:
    for k, unit in enumerate(term):
        inner = unit.expansion
        if inner is None:
            continue
        if len(inner) == 1:
            return _expanded(term[:k] + inner[0] + term[k + 1 :])
        if k == 0:
            return [found for piece in inner for found in _expanded(piece + term[1:])]
        # A concatenation within a product: what is outside of it must keep its order, and is written out.
        outer = term[:k]
        fix((outer,))
        count = prod(one.size for one in outer)
        if count * len(inner) > _MOST_PIECES:
            fix((term,))
            return [(Unit(prod(one.size for one in term), fixed=True),)]
        return [found for _ in range(count) for piece in inner for found in _expanded(piece + term[k + 1 :])]
    return [term]


def _joined(term: Term) -> Term:
    found: list[Unit] = []
    for unit in term:
        if unit.size == 1:
            continue
        if unit.fixed and found and found[-1].fixed:
            found[-1] = Unit(found[-1].size * unit.size, fixed=True)
        else:
            found.append(unit)
    return tuple(found)


def _unify_once(left: list[Term], right: list[Term]) -> bool:
    """Make the first difference go away; whether there was one. Both are stacks, the first term on top."""
    while left and right:
        one, other = left.pop(), right.pop()
        size, rest = prod(unit.size for unit in one), prod(unit.size for unit in other)
        if size > rest:
            one, other, left, right, size, rest = other, one, right, left, rest, size
        if size < rest:
            inner = prod(unit.size for unit in other[1:])
            if size % inner:
                fix((other,))
                return True
            if not other[0].fixed:
                _cut(other[0], size // inner)
                return True
            right.append((Unit(other[0].size - size // inner, fixed=True), *other[1:]))
            other = _joined((Unit(size // inner, fixed=True), *other[1:]))
        if _unify_terms(one, other):
            return True
    return False


def _unify_terms(one: Term, other: Term) -> bool:
    left, right = list(_joined(one))[::-1], list(_joined(other))[::-1]
    while left and right:
        small, large = left.pop(), right.pop()
        if small is large:
            continue
        if small.size == large.size:
            if small.fixed and large.fixed:
                continue
            _join(small, large)
            return True
        if small.size > large.size:
            small, large, left, right = large, small, right, left
        if large.size % small.size:
            fix((one, other))
            return True
        if not large.fixed:
            _factor(large, small.size)
            return True
        right.append(Unit(large.size // small.size, fixed=True))
        if not small.fixed:
            small.fixed = True
            return True
    return False


def _join(one: Unit, other: Unit) -> None:
    if one.fixed or other.fixed:
        one.fixed = other.fixed = True
        return
    other.expansion = ((one,),)
    one.blocks |= other.blocks
    if any(large % small for small, large in pairwise(sorted(one.blocks))):
        one.fixed = True


def _cut(unit: Unit, size: int) -> None:
    """Make ``unit`` the concatenation of its first ``size`` positions and the others."""
    parts = Unit(size), Unit(unit.size - size)
    for block in unit.blocks:
        for part in parts:
            part.fixed |= bool(size % block)
            if block < part.size:
                part.blocks.add(block)
    unit.expansion = tuple((part,) for part in parts)


def _factor(unit: Unit, outer: int) -> None:
    """Make ``unit`` the product of ``outer`` positions and others."""
    first, last = Unit(outer), Unit(unit.size // outer)
    unit.expansion = ((first, last),)
    for block in unit.blocks:
        _keep_in_term((first, last), block)


def _keep_in_term(term: Term, size: int) -> None:
    """Let runs of ``size`` positions of a product stay together."""
    inner = 1
    for unit in reversed(term):
        whole = inner * unit.size
        if size % inner == 0 and whole % size == 0:
            block = size // inner
            if 1 < block < unit.size:
                unit.blocks.add(block)
                if any(large % small for small, large in pairwise(sorted(unit.blocks))):
                    unit.fixed = True
            return
        inner = whole
    fix((term,))
