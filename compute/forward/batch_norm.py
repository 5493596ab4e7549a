"""Batch-norm statistics estimated from the training data, at any point of the plane (``--bn recompute``).

Away from a checkpoint the statistics that were stored with it describe another network. With statistics of its own each
point of the plane is a network as training would have left it: Izmailov et al. 2018 (arXiv 1803.05407) do the same for
averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def normalizing_layers(model: nn.Module) -> list[_BatchNorm]:
    """The layers of ``model`` that keep running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]


def recompute_statistics(model: nn.Module, passes: Iterable[Callable[[], object]]) -> None:
    """Replace the running statistics of ``model`` by the averages of the batches' own, as torch does in training.

    Args:
        model: in evaluation mode, and so it stays; dropout and all else evaluate meanwhile.
        passes: each runs the model on one batch of two samples at least; one sample has no variance.
    """
    layers = normalizing_layers(model)
    momenta = [layer.momentum for layer in layers]
    hooks = [layer.register_forward_pre_hook(_average()) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    try:
        for run in passes:
            run()
    finally:
        for layer, momentum, hook in zip(layers, momenta, hooks, strict=True):
            hook.remove()
            layer.momentum = momentum
            layer.eval()


def _average() -> Callable[[Any, object], None]:
    """Before each call of a layer: the momentum by which its statistics stay the plain average of all batches so far.

    torch's own average, momentum None, reads the number of batches back from the device at every call.
    """
    calls = 0

    def before(layer: Any, _: object) -> None:
        nonlocal calls
        calls += 1
        layer.momentum = 1.0 / calls

    return before
