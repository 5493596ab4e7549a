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

from paraloss.errors import InputError


def normalizing_layers(model: nn.Module) -> list[_BatchNorm]:
    """The layers of ``model`` that keep running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]


def recompute_statistics(model: nn.Module, passes: Iterable[tuple[int, Callable[[], object]]]) -> None:
    """Replace the running statistics of ``model`` by the averages of the batches' own, each weighted by its samples.

    torch's own average, momentum None, weighs a short last batch as much as a whole one, and reads the number of batches back
    from the device at every call.

    Args:
        model: in evaluation mode, and so it stays; dropout and all else evaluate meanwhile.
        passes: (samples, what runs the model on them) of each batch.

    Raises:
        InputError: there is no batch.
    """
    layers = normalizing_layers(model)
    momenta = [layer.momentum for layer in layers]
    average = _Average()
    hooks = [layer.register_forward_pre_hook(average) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    try:
        for size, run in passes:
            average.size = size
            run()
    finally:
        for layer, momentum, hook in zip(layers, momenta, hooks, strict=True):
            hook.remove()
            layer.momentum = momentum
            layer.eval()
    if not average.size:
        raise InputError(
            "{bn}=recompute: each batch is one sample, which has no variance; choose a larger {batch_size}",
            arguments=("bn", "batch_size"),
        )


class _Average:
    """Before each call of a layer: the momentum by which its statistics stay the mean over all samples so far."""

    def __init__(self) -> None:
        self.size = 0  # of the batch that runs
        self._seen: dict[nn.Module, int] = {}

    def __call__(self, layer: Any, _: object) -> None:
        self._seen[layer] = self._seen.get(layer, 0) + self.size
        layer.momentum = self.size / self._seen[layer]
