"""Batches of any structure on the device: resident where they fit, else moved one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from paraloss.compute.forward.batches import free_bytes
from paraloss.compute.forward.manner import Manner
from paraloss.compute.inputs.trees import bytes_of, map_tensors

_SHARE_OF_FREE_MEMORY = 0.5  # of the GPU; activations need the rest


class AnyBatches:
    """Iterating gives each batch in new containers on ``device``, in the layout and type that the model wants.

    Args:
        batches: on the CPU.
        device: where the batches are wanted.
        manner: how the model wants its inputs.
    """

    def __init__(self, batches: Sequence[Any], device: torch.device, manner: Manner) -> None:
        self.device, self._manner = device, manner
        self.streamed = device.type == "cuda" and bytes_of(batches) > _SHARE_OF_FREE_MEMORY * free_bytes(device)
        self._batches = list(batches) if self.streamed else [self._moved(batch) for batch in batches]

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
