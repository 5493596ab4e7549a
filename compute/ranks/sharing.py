"""Tensors of rank 0 on every rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def same_number(comm: Any | None, directions: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    if comm is None:
        return directions
    number = comm.bcast(len(directions))
    return directions or [{} for _ in range(number)]


def share_direction(comm: Any | None, direction: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rank 0's direction on every rank."""
    if comm is None:
        return direction
    shapes = comm.bcast({name: (tuple(t.shape), str(t.numpy().dtype)) for name, t in direction.items()})
    if comm.rank > 0:
        direction = {n: torch.from_numpy(np.empty(shape, dtype)) for n, (shape, dtype) in shapes.items()}
    share_tensors(comm, direction)
    return direction


def share_tensors(comm: Any | None, tensors: Mapping[str, torch.Tensor]) -> None:
    """Overwrite ``tensors`` on every rank with rank 0's."""
    if comm is None:
        return
    for tensor in tensors.values():
        if comm.rank == 0:
            comm.Bcast(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        else:
            buffer = np.empty(tensor.numel() * tensor.element_size(), np.uint8)
            comm.Bcast(buffer)
            with torch.no_grad():
                tensor.detach().copy_(torch.from_numpy(buffer).view(tensor.dtype).reshape(tensor.shape))
