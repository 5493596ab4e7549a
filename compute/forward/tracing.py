"""The graph of a model's forward pass, refused where it would hold numbers that belong to one point only.

``torch.fx`` runs ``forward`` once on stand-ins. Whatever Python computes meanwhile on real tensors becomes a constant of
the graph: right at the center of a surface and wrong everywhere else.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode


class NotTraceable(Exception):
    """The model has no graph that stays right when its tensors change; the message says why."""


def trace(model: nn.Module) -> fx.GraphModule:
    """The graph of ``model``, which reads the tensors of ``model`` itself at each call.

    Args:
        model: in evaluation mode; it is not changed.

    Raises:
        NotTraceable: control flow depends on data, ``forward`` computes on real tensors meanwhile, keeps values in
            attributes, or reads tensors that are neither parameters nor buffers.
    """
    hooks = (model._forward_hooks, model._forward_pre_hooks, model._backward_hooks, model._backward_pre_hooks)
    if any(hooks) or "forward" in vars(model):
        raise NotTraceable("it has hooks or a forward of its own")
    tensors = [*model.parameters(), *model.buffers()]
    try:
        # Containers and attributes of its own, the tensors themselves shared: what forward leaves behind goes away with it.
        skeleton = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
        before, watch = _attributes(skeleton), _RealArithmetic()
        with watch:
            graph = _Tracer().trace(skeleton)
    except Exception as error:  # tracing runs the user's forward on stand-ins: anything can come up
        raise NotTraceable(f"it cannot be traced ({type(error).__name__}: {' '.join(str(error).split())[:120]})") from error
    if watch.seen:
        raise NotTraceable(f"its forward computes {watch.seen} on tensors while it is traced")
    after = _attributes(skeleton)
    changed = next((name for name in after if before.get(name) != after[name]), None)
    if changed:
        raise NotTraceable(f"its forward sets {changed}")
    known = {id(tensor) for tensor in tensors}
    for node in graph.nodes:
        if node.op == "get_attr" and id(_attribute(skeleton, str(node.target))) not in known:
            raise NotTraceable(f"its forward reads '{node.target}', which is neither a parameter nor a buffer")
    return fx.GraphModule(model, graph)


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # arithmetic among buffers goes into the graph, not into a constant


class _RealArithmetic(TorchDispatchMode):
    """Refuses every operator on real tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen = str(func).removeprefix("aten.")
        raise NotTraceable(f"computes {self.seen} on tensors")


def _attributes(model: nn.Module) -> dict[str, Any]:
    """What every attribute of every module is, for detecting whether one was set."""
    found: dict[str, Any] = {}
    for place, module in model.named_modules():
        for name, value in vars(module).items():
            members = tuple(map(id, value)) if isinstance(value, (list, set)) else ()
            if isinstance(value, dict):
                members = tuple(map(id, value.values()))
            found[f"{place}.{name}".lstrip(".")] = (id(value), members)
    return found


def _attribute(model: nn.Module, target: str) -> Tensor | None:
    place, _, name = target.rpartition(".")
    try:
        found = getattr(model.get_submodule(place), name, None)
    except AttributeError:
        return None
    return found if isinstance(found, torch.Tensor) else None
