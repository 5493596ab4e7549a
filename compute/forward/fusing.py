"""Convolution, addition and ReLU as one pass over memory: which layers, and on a CPU by oneDNN (``cudnn_fusing``: on a GPU).

A residual network in inference is bound by memory as much as by arithmetic: writing a convolution's output, reading it
to add the shortcut and reading it again for the ReLU costs two passes that the convolution's own last step can save.
"""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_RELU_FUNCTIONS = {F.relu, torch.relu, torch.relu_, F.relu_}
_RELU_METHODS = {"relu", "relu_"}
_ADDITIONS = {operator.add, operator.iadd, torch.add}


def has_operators() -> bool:
    """Whether this torch has oneDNN's fused operators."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class FusedConvolution(nn.Module):
    """relu(convolution(x)) or relu(convolution(x) + other) in ``dtype``, with the weights that ``layer`` has just now."""

    dtype = torch.float32  # autocast does not know these operators

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        layer = self.layer
        # fp16 overflows easily, and the fused ReLU would make 0 of NaN; a compiler fuses by itself.
        if self.dtype == torch.float16 or torch.compiler.is_compiling():
            outputs = layer(x)
            return F.relu_(outputs if other is None else outputs + other)
        x, weight = x.to(self.dtype), layer.weight.to(self.dtype)
        bias = None if layer.bias is None else layer.bias.to(self.dtype)
        geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
        operators = cast(Any, torch.ops.mkldnn)
        if other is None:
            return cast(Tensor, operators._convolution_pointwise(x, weight, bias, *geometry, "relu", [], ""))
        return cast(
            Tensor,
            operators._convolution_pointwise.binary(
                x, other.to(self.dtype), weight, bias, *geometry, "add", 1.0, "relu", [], None
            ),
        )


def is_plain(layer: nn.Module) -> bool:
    """Whether ``layer`` computes from its own parameters and nothing else: no hooks, pruning, weight norm, own forward."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(layer) and {"weight", "bias"} <= layer._parameters.keys()


def fuse(traced: fx.GraphModule, kind: type[FusedConvolution]) -> int:
    """Replace every conv-relu and conv-add-relu chain of ``traced`` by a ``kind``. Returns the number of ReLUs fused."""
    modules: dict[str, Any] = dict(traced.named_modules())
    fused = 0
    for node in list(traced.graph.nodes):
        if not _is_relu(node, modules):
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or len(before.users) != 1:
            continue
        convolution, other = _convolution_of(before, modules)
        if convolution is None:
            continue
        name = f"{str(convolution.target).replace('.', '_')}_relu_{fused}"
        traced.add_submodule(name, kind(modules[str(convolution.target)]))
        with traced.graph.inserting_before(node):
            arguments = (convolution.args[0],) if other is None else (convolution.args[0], other)
            stand_in = traced.graph.call_module(name, arguments)
        node.replace_all_uses_with(stand_in)
        for dead in dict.fromkeys((node, before, convolution)):
            traced.graph.erase_node(dead)
        fused += 1
    if fused:
        traced.recompile()
    return fused


def _convolution_of(node: fx.Node, modules: dict[str, Any]) -> tuple[fx.Node | None, fx.Node | None]:
    """The convolution behind ``node``, and what is added to its output; (None, None) where there is none to fuse."""
    if _is_convolution(node, modules):
        return node, None
    plain_sum = node.op == "call_function" and node.target in _ADDITIONS and len(node.args) == 2 and not node.kwargs
    if not plain_sum or not all(isinstance(part, fx.Node) for part in node.args):
        return None, None
    left, right = cast(tuple[fx.Node, fx.Node], node.args)
    for convolution, other in ((left, right), (right, left)):
        if convolution is not other and _is_convolution(convolution, modules) and len(convolution.users) == 1:
            return convolution, other
    return None, None


def _is_convolution(node: fx.Node, modules: dict[str, Any]) -> bool:
    layer = modules.get(str(node.target)) if node.op == "call_module" else None
    return (
        type(layer) is nn.Conv2d
        and is_plain(layer)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and len(node.args) == 1
        and not node.kwargs
    )


def _is_relu(node: fx.Node, modules: dict[str, Any]) -> bool:
    if len(node.args) < 1:
        return False
    if node.op == "call_function":
        return node.target in _RELU_FUNCTIONS
    if node.op == "call_method":
        return node.target in _RELU_METHODS
    return node.op == "call_module" and type(modules.get(str(node.target))) is nn.ReLU
