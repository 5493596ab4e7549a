"""One call of an operator in a graph: its arguments by name, their shapes and axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from paraloss.compute.symmetry.axes import ONE, Axes, Axis, fix, free, still, unify

Value = Any
"""Axes of a tensor, a list of such for several tensors, or None for what is no tensor."""


class Call:
    """A node of the graph whose operator computes.

    Args:
        node: the node.
        values: axes of the nodes before.

    Attributes:
        given: argument name -> value; nodes stand for tensors.
    """

    def __init__(self, node: fx.Node, values: Mapping[fx.Node, Value]) -> None:
        self.node, self._values = node, values
        self.given: dict[str, Any] = {}
        schema = getattr(node.target, "_schema", None)
        for number, argument in enumerate(schema.arguments if schema is not None else ()):
            if number < len(node.args):
                self.given[argument.name] = node.args[number]
            else:
                self.given[argument.name] = node.kwargs.get(argument.name, argument.default_value)

    @property
    def first(self) -> Any:
        """The first argument."""
        return self.node.args[0] if self.node.args else None

    def axes(self, argument: Any) -> Axes:
        """Axes of a tensor argument."""
        found = self._values[argument]
        assert isinstance(found, tuple)
        return found

    def shape(self, argument: Any) -> tuple[int, ...]:
        """Shape of a tensor argument, or of a result."""
        return tuple(int(size) for size in value_of(argument).shape)

    def is_tensor(self, argument: Any) -> bool:
        """Whether an argument is a tensor whose axes are known."""
        return isinstance(argument, fx.Node) and isinstance(self._values.get(argument), tuple)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the result, of the first where there are several."""
        found = value_of(self.node)
        return tuple(int(size) for size in (found[0] if isinstance(found, (tuple, list)) else found).shape)

    def tensors(self) -> list[fx.Node]:
        """All tensor arguments, at any depth."""
        return [node for node in self.node.all_input_nodes if self.is_tensor(node)]

    def dims(self, name: str = "dim", ndim: int | None = None) -> list[int]:
        """The dimensions that an argument names, from 0 on; all where it names none."""
        asked, ndim = self.given.get(name), len(self.axes(self.first)) if ndim is None else ndim
        listed = [asked] if isinstance(asked, int) else list(asked or range(ndim))
        return [dim % max(ndim, 1) for dim in listed]


def value_of(node: fx.Node) -> Any:
    """What the node gives, as a tensor without numbers."""
    return node.meta.get("val")


def fixed_like(value: Any) -> Value:
    """Axes that keep their order, for whatever an operator gives."""
    if isinstance(value, Tensor):
        return tuple(still(int(size)) for size in value.shape)
    if isinstance(value, (tuple, list)):
        return [fixed_like(one) for one in value]
    return None


def free_like(shape: tuple[int, ...]) -> Axes:
    """Axes of a tensor whose numbers are all equal."""
    return tuple(free(size) for size in shape)


def fix_all(axes: Axes) -> None:
    """Let all axes keep their order."""
    for axis in axes:
        fix(axis)


def broadcast(call: Call, tensors: list[tuple[Axes, tuple[int, ...]]], shape: tuple[int, ...]) -> Axes:
    """The axes of an elementwise result: dimensions that meet are permuted together."""
    found: list[Axis] = []
    for place in range(1, len(shape) + 1):
        met = [axes[-place] for axes, own in tensors if len(axes) >= place and own[-place] == shape[-place] != 1]
        for other in met[1:]:
            unify(met[0], other)
        found.append(met[0] if met else ONE if shape[-place] == 1 else free(shape[-place]))
    return tuple(found[::-1])
