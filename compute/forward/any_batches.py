"""Batches of any structure on the device: resident where they fit, else moved one at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from paraloss.compute.forward.batches import free_bytes
from paraloss.compute.forward.manner import Manner
from paraloss.compute.inputs.batch_split import BatchSplit
from paraloss.compute.inputs.trees import bytes_of, map_tensors

_SHARE_OF_FREE_MEMORY = 0.5  # of the GPU; activations need the rest


class AnyBatches:
    """Iterating gives each batch in new containers on ``device``, in the layout and type that the model wants.

    Args:
        split: the samples, or ready batches; on the CPU, or where another of these has put them.
        device: where the batches are wanted.
        manner: how the model wants its inputs.
        size: samples at once, where the batches may be cut; None takes all together.

    Attributes:
        streamed: whether batches are moved to the device one at a time.
    """

    def __init__(self, split: BatchSplit, device: torch.device, manner: Manner, size: int | None) -> None:
        self.device, self._manner = device, manner
        self.streamed = device.type == "cuda" and bytes_of(split.batches) > _SHARE_OF_FREE_MEMORY * free_bytes(device)
        self._split = split if self.streamed else split.placed(self._moved)
        self._batches = self._cut(size)

    def of_size(self, size: int | None) -> AnyBatches:
        """The same samples, where they are, in batches of another size."""
        other = copy.copy(self)
        other._batches = other._cut(size)
        if size is None:  # together they stay, so that ready batches are not twice on the device
            other._split = BatchSplit(other._batches)
        return other

    def _cut(self, size: int | None) -> list[Any]:
        return [self._split.whole()] if size is None else self._split.of_size(size)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            moved = self._moved(batch) if self.streamed else batch
            yield map_tensors(lambda tensor: tensor.clone() if self._manner.clone else tensor, moved)

    def _moved(self, batch: Any) -> Any:
        moved = map_tensors(lambda tensor: tensor.to(self.device, non_blocking=True), batch)
        return replace(self._manner, clone=False).prepare(moved)
