"""Batch norm folded into the convolution or linear layer before it: the same function, one pass over memory less.

In evaluation mode batch norm is an affine map of each channel, y = (x - mean) * scale + shift with
scale = gamma / sqrt(var + eps), so conv(x; w, b) followed by it is conv(x; w * scale, (b - mean) * scale + shift).
At every point of a surface the weights are others, so the fold is made anew there.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

from paraloss.compute.forward.fusing import FusedConvolution, can_fuse, fuse

_FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class FoldedModel:
    """``model`` with its batch norms folded where that is possible, and on a CPU its ReLUs fused.

    Args:
        model: in evaluation mode; its tensors are read anew at each ``refresh``.
        fused: fuse ReLUs too, where the device has the operators.

    Attributes:
        module: call this in place of ``model``; ``model`` itself where nothing could be made faster.
        folded: number of batch norms that were folded away.
        fused: number of ReLUs that became part of a convolution.
        reason: why nothing was folded; empty otherwise.
    """

    def __init__(self, model: nn.Module, fused: bool = True) -> None:
        self.module, self.folded, self.fused, self.reason = model, 0, 0, ""
        self._pairs: list[tuple[Any, Any, Any]] = []  # layer, batch norm, stand-in
        try:
            traced = fx.symbolic_trace(model)
        except Exception as error:  # tracing runs the user's forward on stand-ins: anything can come up
            self.reason = f"the model cannot be traced ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
            return
        self._fold(traced)
        device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
        if fused and can_fuse(device):
            self.fused = fuse(traced)
        if self.folded or self.fused:
            self.module = traced
            self._keep_head_exact(traced)
            self.refresh()

    def use(self, dtype: torch.dtype) -> None:
        """Keep the folded weights in ``dtype``; they are still computed in float32 and rounded once."""
        for _, _, stand_in in self._pairs:
            stand_in.weight.data = stand_in.weight.data.to(dtype)
            stand_in.bias.data = stand_in.bias.data.to(dtype)
        for module in self.module.modules():
            if isinstance(module, FusedConvolution):
                module.dtype = dtype

    def refresh(self) -> None:
        """Bring the folded weights up to date with the model's own."""
        for layer, norm, stand_in in self._pairs:
            scale = torch.rsqrt(norm.running_var + norm.eps)
            if norm.weight is not None:
                scale = scale * norm.weight
            shift = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
            shift = shift * scale if norm.bias is None else torch.addcmul(norm.bias, shift, scale)
            stand_in.weight.copy_(layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            stand_in.bias.copy_(shift)

    def _fold(self, traced: fx.GraphModule) -> None:
        modules: dict[str, Any] = dict(traced.named_modules())
        calls: dict[str, int] = {}
        for node in traced.graph.nodes:
            if node.op == "call_module":
                calls[str(node.target)] = calls.get(str(node.target), 0) + 1
        for node in list(traced.graph.nodes):
            before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
            if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
                continue
            norm, layer = modules[str(node.target)], modules[str(before.target)]
            alone = calls[str(node.target)] == calls[str(before.target)] == 1
            if not (alone and isinstance(norm, _NORMS) and isinstance(layer, _FOLDABLE) and norm.track_running_stats):
                continue
            if isinstance(layer, nn.Linear) and not isinstance(norm, nn.BatchNorm1d):
                continue
            self._pairs.append((layer, norm, _stand_in(traced, str(before.target), layer)))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
        self.folded = len(self._pairs)
        if not self._pairs:
            self.reason = "the model has no batch norm right behind a convolution or linear layer"
        traced.recompile()

    def _keep_head_exact(self, traced: fx.GraphModule) -> None:
        """A linear layer that gives the outputs stays in float32: it costs nothing, and its rounding would be the loss's."""
        modules = dict(traced.named_modules())
        last = next(node for node in traced.graph.nodes if node.op == "output").args[0]
        folded = {id(stand_in) for _, _, stand_in in self._pairs}
        if isinstance(last, fx.Node) and last.op == "call_module":
            layer = modules[str(last.target)]
            if type(layer) is nn.Linear and id(layer) not in folded:
                parent, _, name = str(last.target).rpartition(".")
                setattr(traced.get_submodule(parent) if parent else traced, name, _Float32Linear(layer))


class _Float32Linear(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            result: torch.Tensor = self.layer(x.float())
            return result


def _stand_in(traced: fx.GraphModule, target: str, layer: Any) -> Any:
    """A copy of ``layer`` with a weight and a bias of its own, in its place in ``traced``."""
    stand_in = copy.copy(layer)
    stand_in._parameters = dict(layer._parameters)
    weight = layer.weight.detach()
    layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    bias = torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)
    stand_in.weight = nn.Parameter(weight.clone(memory_format=layout), requires_grad=False)
    stand_in.bias = nn.Parameter(bias, requires_grad=False)
    parent, _, name = target.rpartition(".")
    # Tracing made containers of its own, so that this leaves the model itself alone.
    setattr(traced.get_submodule(parent) if parent else traced, name, stand_in)
    return stand_in
