"""The graph of a model's forward pass (``torch.export``), and the units along the axes of its weights.

Weights start with axes that may be permuted in any way. Each operator of the graph makes axes equal, or fixes them; those of
inputs and outputs are fixed. What is left may be permuted.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from paraloss.compute.inputs.tensors import tied_names
from paraloss.compute.symmetry.axes import Axes, Unit, canonical, free, units_of
from paraloss.compute.symmetry.calls import Call, fix_all, fixed_like, value_of
from paraloss.compute.symmetry.layers import LAYERS, READERS
from paraloss.compute.symmetry.shapes import SHAPES, elementwise, unknown
from paraloss.errors import InputError
from paraloss.text import one_line

_INNER = "inner"  # place of the model within what is traced


@dataclass
class Symmetries:
    """What may be permuted in a model.

    Attributes:
        graph: the forward pass.
        axes: name of a parameter or buffer -> its axes, in their final units.
        read: node whose numbers a layer reads -> their axes.
        unknown: operator without a rule -> number of its calls; all that they touch keeps its order.
    """

    graph: fx.GraphModule
    axes: dict[str, Axes]
    read: dict[fx.Node, Axes] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)

    def units(self) -> list[Unit]:
        """The units that may be permuted, in the order of the model's tensors."""
        found: dict[Unit, None] = {}
        for axes in self.axes.values():
            for axis in axes:
                found.update(dict.fromkeys(unit for unit in units_of(axis) if unit.size > 1))
        return list(found)


def symmetries_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Symmetries:
    """Find what may be permuted in ``model``.

    Args:
        model: in evaluation mode.
        args: what its ``forward`` is called with.
        kwargs: the same by name.

    Raises:
        InputError: the model cannot be traced; says why.
    """
    graph = _export(model, args, kwargs)
    tied = tied_names(model)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    movable = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and name not in tied}
    found = Symmetries(graph, {name: tuple(free(size) for size in tensor.shape) for name, tensor in movable.items()})
    _walk(found, tied)
    found.axes = {name: tuple(map(canonical, axes)) for name, axes in found.axes.items()}
    return found


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.GraphModule:
    before = [parameter.requires_grad for parameter in model.parameters()]
    for parameter in model.parameters():  # else attention takes a shortcut in one operator, which has no rule
        parameter.requires_grad_(parameter.is_floating_point())
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph = torch.export.export(_TensorsOnly(model), args, dict(kwargs), strict=False).module()
    except Exception as error:  # tracing runs the user's forward on stand-ins: anything can come up
        reason = f"{type(error).__name__}: {one_line(error)[:160]}"
        raise InputError(
            f"the model has no graph that torch.export can trace ({reason}); its units cannot be permuted"
        ) from error
    finally:
        for parameter, needed in zip(model.parameters(), before, strict=True):
            parameter.requires_grad_(needed)
    assert isinstance(graph, fx.GraphModule)
    return graph


class _TensorsOnly(nn.Module):
    """A model whose outputs are a list of tensors: what else it returns, such as a cache of keys, cannot be traced."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model

    def forward(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        return tensors_of(self.inner(*args, **kwargs))


def tensors_of(outputs: Any) -> list[Tensor]:
    """All tensors that a model returned, in order."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def name_of(node: fx.Node) -> str:
    """The model's name of the tensor that a node gets."""
    return str(node.target).removeprefix(f"{_INNER}.")


def _walk(found: Symmetries, tied: Mapping[str, str]) -> None:
    values: dict[fx.Node, Any] = {}
    for node in found.graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = fixed_like(value_of(node))
        elif node.op == "get_attr":
            values[node] = _attribute(found, node, tied)
        elif node.op == "output":
            for one in node.all_input_nodes:
                _fix(values.get(one))
        elif node.op == "call_function":
            values[node] = _called(found, node, values)
        else:
            for one in node.all_input_nodes:
                _fix(values.get(one))
            values[node] = fixed_like(value_of(node))


def _attribute(found: Symmetries, node: fx.Node, tied: Mapping[str, str]) -> Any:
    name, tensor = name_of(node), attribute_of(found.graph, node)
    if not isinstance(tensor, Tensor):
        return None
    node.meta.setdefault("val", tensor)
    return found.axes.get(tied.get(name, name)) or fixed_like(tensor)


def attribute_of(graph: nn.Module, node: fx.Node) -> Any:
    """What a node gets."""
    value: Any = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _called(found: Symmetries, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    target: Any = node.target
    if getattr(target, "__name__", "") == "getitem" and not isinstance(target, torch._ops.OpOverload):
        parts = values.get(node.args[0])  # type: ignore[arg-type]
        return parts[node.args[1]] if isinstance(parts, list) else fixed_like(value_of(node))  # type: ignore[index]
    call = Call(node, values)
    result = value_of(node)
    if not isinstance(result, Tensor) and not (isinstance(result, (tuple, list)) and tensors_of(result)):
        return None
    name = _name_of(target)
    rule = {**SHAPES, **LAYERS}.get(name)
    if rule is None and torch.Tag.pointwise in getattr(target, "tags", ()):
        rule = elementwise
    if rule is not None:
        with contextlib.suppress(NotImplementedError):
            axes = rule(call)
            if name in READERS:
                found.read.update({one: call.axes(one) for one in call.tensors() if one.op == "call_function"})
            return axes
    if any(units_of(axis) for one in call.tensors() for axis in call.axes(one)):
        found.unknown[name] += 1
    return unknown(call)


def _name_of(target: Any) -> str:
    """``add`` for ``aten.add_.Tensor``: an operator that works in place makes the same axes equal."""
    schema = getattr(target, "_schema", None)
    name = str(getattr(schema, "name", getattr(target, "__name__", target))).rpartition("::")[2]
    return name[:-1] if name.endswith("_") and not name.startswith("__") else name


def _fix(value: Any) -> None:
    if isinstance(value, tuple):
        fix_all(value)
    elif isinstance(value, list):
        for one in value:
            _fix(one)
