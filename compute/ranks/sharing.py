"""Rank 0's tensors on every rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from paraloss.compute.ranks.world import World

Named = dict[str, torch.Tensor]


def share_tensors(world: World, tensors: Mapping[str, torch.Tensor]) -> None:
    """Overwrite ``tensors``, which have the same names and shapes on every rank, with rank 0's."""
    if world.size == 1:
        return
    for tensor in tensors.values():
        if world.is_first:
            world.fill(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        else:
            buffer = np.empty(tensor.numel() * tensor.element_size(), np.uint8)
            world.fill(buffer)
            with torch.no_grad():
                tensor.detach().copy_(torch.from_numpy(buffer).view(tensor.dtype).reshape(tensor.shape))


def from_first(world: World, groups: Sequence[Named]) -> list[Named]:
    """Rank 0's ``groups`` of named CPU tensors on every rank; what the other ranks pass does not count."""
    layouts = world.bcast([{name: (tuple(t.shape), str(t.numpy().dtype)) for name, t in group.items()} for group in groups])
    if world.is_first:
        result = list(groups)
    else:
        result = [{n: torch.from_numpy(np.empty(*layout)) for n, layout in group.items()} for group in layouts]
    for group in result:
        share_tensors(world, group)
    return result
