"""Batch norm folded into the convolution or linear layer before it: the same function, one pass over memory less.

In evaluation mode batch norm is an affine map of each channel, y = (x - mean) * scale + shift with
scale = gamma / sqrt(var + eps), so conv(x; w, b) followed by it is conv(x; w * scale, (b - mean) * scale + shift).
At every point of a surface the weights are others, so the fold is repeated there.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

from paraloss.compute.forward import cudnn_fusing, fusing
from paraloss.compute.forward.cudnn_fusing import CudnnConvolution
from paraloss.compute.forward.flat_folding import FlatFold
from paraloss.compute.forward.fusing import FusedConvolution, fuse, is_plain
from paraloss.compute.forward.tracing import NotTraceable, trace

_FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_EXACT = (torch.float32, torch.float64)


class FoldedModel:
    """``model`` with its batch norms folded where that is possible, and its ReLUs fused.

    Args:
        model: in evaluation mode; its tensors are read again at each ``refresh``.
        fused: fuse ReLUs too, where the device has the operators.

    Attributes:
        module: call this in place of ``model``; ``model`` itself where nothing could be made faster.
        folded: number of batch norms that were folded away.
        fused: number of ReLUs that became part of a convolution.
        rounds_inputs: whether layers that run in the lower precision are all that reads the inputs.
        reason: why nothing was folded; empty otherwise.
    """

    def __init__(self, model: nn.Module, fused: bool = True) -> None:
        self.module, self.folded, self.fused, self.reason, self.rounds_inputs = model, 0, 0, "", False
        self._pairs: list[tuple[Any, Any, Any]] = []  # layer, batch norm, stand-in
        tensors = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
        types = {tensor.dtype for tensor in tensors}
        if len(types) != 1 or not types <= set(_EXACT):
            self.reason = "its tensors are not all fp32 or all fp64" if tensors else "it has no parameters"
            return
        try:
            traced = trace(model)
        except NotTraceable as error:
            self.reason = f"the model: {error}"
            return
        self._fold(traced)
        kind = _fused_layer(tensors[0].device)
        if fused and kind is not None and types == {torch.float32}:
            self.fused = fuse(traced, kind)
        self._flat: FlatFold | None = None
        if self._pairs and tensors[0].device.type == "cuda":
            self._flat = FlatFold(self._pairs, tensors[0].dtype)
        if self.folded or self.fused:
            self.module, self.rounds_inputs = traced, _rounds_inputs(traced)
            self.refresh()

    def use(self, dtype: torch.dtype) -> None:
        """Keep the folded weights in ``dtype``; they are still computed in float32 and rounded once.

        A linear layer that gives the outputs stays in float32: it costs nothing, and its rounding would be the loss's.
        """
        if isinstance(self.module, fx.GraphModule):
            self._keep_head_exact(self.module)
        if self._flat is not None:
            self._flat = FlatFold(self._pairs, dtype)
        for _, _, stand_in in self._pairs if self._flat is None else []:
            stand_in.weight.data = stand_in.weight.data.to(dtype)
            stand_in.bias.data = stand_in.bias.data.to(dtype)
        for module in self.module.modules():
            if isinstance(module, FusedConvolution):
                module.dtype = dtype

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the folded weights up to date with the model's own."""
        if self._flat is not None:
            return self._flat.refresh()
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
        calls: dict[int, int] = {}
        for node in traced.graph.nodes:
            if node.op == "call_module":
                calls[id(modules[str(node.target)])] = calls.get(id(modules[str(node.target)]), 0) + 1
        for node in list(traced.graph.nodes):
            before = node.args[0] if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
            if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
                continue
            norm, layer = modules[str(node.target)], modules[str(before.target)]
            alone = calls.get(id(norm)) == calls.get(id(layer)) == 1
            if not (alone and _can_fold(layer, norm)):
                continue
            stand_in, name = _stand_in(layer), f"{str(before.target).replace('.', '_')}_folded_{len(self._pairs)}"
            traced.add_submodule(name, stand_in)  # under a name of its own: others may read the layer's weights
            self._pairs.append((layer, norm, stand_in))
            modules[name], before.target = stand_in, name
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
        self.folded = len(self._pairs)
        if not self._pairs:
            self.reason = "the model has no batch norm right behind a convolution or linear layer"
        traced.recompile()

    def _keep_head_exact(self, traced: fx.GraphModule) -> None:
        modules = dict(traced.named_modules())
        last = next(node for node in traced.graph.nodes if node.op == "output").args[0]
        folded = {id(stand_in) for _, _, stand_in in self._pairs}
        if isinstance(last, fx.Node) and last.op == "call_module":
            layer = modules[str(last.target)]
            if type(layer) is nn.Linear and id(layer) not in folded:
                if "float32_head" in modules:
                    return
                traced.add_submodule("float32_head", _Float32Linear(layer))
                last.target = "float32_head"
                traced.recompile()


class _Float32Linear(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            result: torch.Tensor = self.layer(x.float())
            return result


def _rounds_inputs(traced: fx.GraphModule) -> bool:
    modules = dict(traced.named_modules())
    readers = [user for node in traced.graph.nodes if node.op == "placeholder" for user in node.users]
    kinds = (*_FOLDABLE, FusedConvolution)
    return all(user.op == "call_module" and isinstance(modules[str(user.target)], kinds) for user in readers)


def _fused_layer(device: torch.device) -> type[FusedConvolution] | None:
    """The fused convolution of ``device``; None where this torch has none."""
    if device.type == "cuda":
        return CudnnConvolution if cudnn_fusing.has_operators() else None
    return FusedConvolution if device.type == "cpu" and fusing.has_operators() else None


def _can_fold(layer: Any, norm: Any) -> bool:
    if type(layer) not in _FOLDABLE or type(norm) not in _NORMS or not (is_plain(layer) and is_plain(norm)):
        return False
    kept = norm.running_mean is not None and norm.running_var is not None and not norm.training
    fits = kept and norm.num_features == layer.weight.shape[0]
    return fits and (type(layer) is not nn.Linear or type(norm) is nn.BatchNorm1d)


def _stand_in(layer: Any) -> Any:
    """A copy of ``layer`` with a weight and a bias of its own."""
    stand_in = copy.copy(layer)
    stand_in._parameters = dict(layer._parameters)
    weight = layer.weight.detach()
    layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    bias = torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)
    stand_in.weight = nn.Parameter(weight.clone(memory_format=layout), requires_grad=False)
    stand_in.bias = nn.Parameter(bias, requires_grad=False)
    return stand_in
