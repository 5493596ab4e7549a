"""The samples of a split as batches on the device: resident where they fit, streamed one batch ahead where not."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from paraloss.compute.forward.manner import Manner
from paraloss.compute.inputs.split import Split

_SHARE_OF_FREE_MEMORY = 0.5  # of the GPU; activations need the rest
_SHARE_FOR_READY = 0.25  # of the free memory of the GPU, for inputs that are kept normalized
_CHUNK = 4096  # samples that are normalized at once


class Batches:
    """Iterating gives (inputs, targets) on ``device``, normalized, in the layout and type that the model wants.

    Args:
        split: the samples; uint8 inputs with a mean and a deviation stay uint8 until their batch is used.
        device: where the batches are wanted.
        size: samples a batch; the last may be smaller.
        manner: how the model wants its inputs.
        dtype: type of floating-point inputs, rounded once, for a model that rounds them first of all. Default: as they are.

    Attributes:
        streamed: whether batches are copied to the device one ahead.
        ready: whether all inputs are kept normalized, on a GPU that has room for them.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device,
        size: int,
        manner: Manner = Manner(),  # noqa: B008
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device, self.size, self._split, self._manner, self._dtype = device, size, split, manner, dtype
        # On the device once: a copy for each batch would wait for the device.
        self._scale = None if split.scale is None else (split.scale[0].to(device), split.scale[1].to(device))
        inputs = replace(manner, clone=False).prepare(split.inputs)
        self.streamed = device.type == "cuda" and not _fits(inputs, device)
        if self.streamed:
            self._inputs, self._targets = inputs.pin_memory(), split.targets.pin_memory()
        else:
            self._inputs, self._targets = inputs.to(device), split.targets.to(device)
        normalizes = split.scale is not None or dtype is not None
        self.ready = normalizes and not self.streamed and _keeps_ready(self._inputs, dtype, device)
        if self.ready:
            self._inputs = self._all_normalized(self._inputs)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._split) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self._streamed() if self.streamed else self._parts():
            yield self._ready(inputs, targets)

    def of_size(self, size: int) -> Batches:
        """The same samples, where they are, in batches of another size."""
        other = copy.copy(self)
        other.size = size
        return other

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Samples start..stop (excluded) as one batch."""
        inputs, targets = self._inputs[start:stop].to(self.device), self._targets[start:stop].to(self.device)
        return self._ready(inputs, targets)

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The samples with the indices ``rows`` as one batch."""
        rows = rows.to(self._inputs.device)
        return self._ready(self._inputs[rows].to(self.device), self._targets[rows].to(self.device))

    def _ready(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        inputs, manner = inputs if self.ready else self._normalized(inputs), self._manner
        if manner.cast is not None:
            inputs, targets = (part.to(manner.cast) if part.is_floating_point() else part for part in (inputs, targets))
        return (inputs.clone(), targets.clone()) if manner.clone else (inputs, targets)

    def _normalized(self, inputs: Tensor) -> Tensor:
        inputs = replace(self._split, scale=self._scale).normalize(inputs)
        return inputs if self._dtype is None or not inputs.is_floating_point() else inputs.to(self._dtype)

    def _all_normalized(self, inputs: Tensor) -> Tensor:
        ready = torch.empty_like(inputs, dtype=self._normalized(inputs[:1]).dtype)
        for kept, part in zip(ready.split(_CHUNK), inputs.split(_CHUNK), strict=True):
            kept.copy_(self._normalized(part))
        return ready

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self._inputs.split(self.size), self._targets.split(self.size), strict=True)

    def _streamed(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Copies the next batch on a stream of its own while the caller computes on this one."""
        copying, computing = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        ahead: tuple[Tensor, Tensor] | None = None
        for parts in self._parts():
            with torch.cuda.stream(copying):
                following = tuple(part.to(self.device, non_blocking=True) for part in parts)
            if ahead is not None:
                yield ahead
            computing.wait_stream(copying)
            for tensor in following:
                tensor.record_stream(computing)
            ahead = (following[0], following[1])
        if ahead is not None:
            yield ahead


def default_batch_size(split: Split, device: torch.device) -> int:
    """About 64 images of 3×32×32 on a CPU, whose activations then stay in its cache; 4,096 such images on a GPU."""
    numbers, most = (196_608, 512) if device.type == "cpu" else (12_582_912, 8192)
    return max(1, min(len(split), most, numbers // max(1, split.inputs[0].numel())))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on ``device``."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not report it
        return 2**32


def _keeps_ready(inputs: Tensor, dtype: torch.dtype | None, device: torch.device) -> bool:
    """Whether normalized ``inputs`` take little enough memory on a GPU; on a CPU bytes are read faster than floats."""
    return device.type == "cuda" and inputs.numel() * (dtype or torch.float32).itemsize < _SHARE_FOR_READY * free_bytes(device)


def _fits(inputs: Tensor, device: torch.device) -> bool:
    return inputs.numel() * inputs.element_size() < _SHARE_OF_FREE_MEMORY * free_bytes(device)
