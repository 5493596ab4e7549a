"""The samples of a split as batches on the device: resident where they fit, streamed one batch ahead where not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from paraloss.compute.forward.manner import Manner
from paraloss.compute.inputs.split import Split

_SHARE_OF_FREE_MEMORY = 0.5  # of the GPU; activations need the rest


class Batches:
    """Iterating gives (inputs, targets) on ``device``, normalized, in the layout and type that the model wants.

    Args:
        split: the samples; uint8 inputs with a mean and a deviation stay uint8 until their batch is used.
        device: where the batches are wanted.
        size: samples a batch; the last may be smaller.
        manner: how the model wants its inputs.
    """

    def __init__(self, split: Split, device: torch.device, size: int, manner: Manner = Manner()) -> None:  # noqa: B008
        self.device, self.size, self._split, self._manner = device, size, split, manner
        inputs = replace(manner, clone=False).prepare(split.inputs)
        self.streamed = device.type == "cuda" and not _fits(inputs, device)
        if self.streamed:
            self._inputs, self._targets = inputs.pin_memory(), split.targets.pin_memory()
        else:
            self._inputs, self._targets = inputs.to(device), split.targets.to(device)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._split) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self._streamed() if self.streamed else self._parts():
            yield self._ready(inputs, targets)

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Samples start..stop (excluded) as one batch."""
        inputs, targets = self._inputs[start:stop].to(self.device), self._targets[start:stop].to(self.device)
        return self._ready(inputs, targets)

    def _ready(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        inputs, manner = self._split.normalize(inputs), self._manner
        if manner.cast is not None:
            inputs, targets = (part.to(manner.cast) if part.is_floating_point() else part for part in (inputs, targets))
        return (inputs.clone(), targets.clone()) if manner.clone else (inputs, targets)

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
    except (ValueError, OSError):  # a system that does not tell
        return 2**32


def _fits(inputs: Tensor, device: torch.device) -> bool:
    return inputs.numel() * inputs.element_size() < _SHARE_OF_FREE_MEMORY * free_bytes(device)
