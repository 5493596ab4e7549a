"""A split of a data set as two whole tensors: loaded once, kept on the device, never augmented."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """inputs: (n, …) and targets: (n, …); row k belongs to row k.

    ``scale`` is (mean, deviation) of inputs kept as uint8, each broadcastable to a batch: a quarter of the memory.
    """

    inputs: Tensor
    targets: Tensor
    scale: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, samples: int | None, seed: int = 0) -> Split:
        """``samples`` of the rows, drawn without replacement with ``seed``, in their old order; all when None."""
        if samples is None or samples >= len(self):
            return self
        return self.rows(np.sort(np.random.default_rng(seed).permutation(len(self))[:samples]))

    def rows(self, chosen: np.ndarray | slice) -> Split:
        """A split of the rows ``chosen``, in that order."""
        return Split(self.inputs[chosen], self.targets[chosen], self.scale)

    def normalize(self, inputs: Tensor) -> Tensor:
        """What the model is given for some of ``inputs``: (inputs - mean) / deviation in float32, or they themselves."""
        if self.scale is None:
            return inputs
        mean, deviation = (part.to(inputs.device) for part in self.scale)
        return (inputs.float() - mean) / deviation

    def sha256(self) -> str:
        """Identifies the numbers of this split."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets, *(self.scale or ())):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().cpu().view(torch.uint8).numpy().data if tensor.numel() else b"")
        return digest.hexdigest()


DataSet = dict[str, Split]
