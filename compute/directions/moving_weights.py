"""The model's tensors that move: one flat buffer, one fused update for each point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from paraloss.compute.directions.random import Direction


class MovingWeights:
    """The tensors that the directions name, laid out in one flat buffer that one fused update moves.

    Args:
        model: its tensors become views of the buffer.
        directions: which tensors move, and how.

    The sum is in float32 (as in the reference), or in float64 and rounded once when a direction is float64.
    """

    def __init__(self, model: nn.Module, directions: Sequence[Direction]) -> None:
        tensors: Mapping[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        names = [name for name in tensors if any(name in direction for direction in directions)]
        exact = any(t.dtype == torch.float64 for direction in directions for t in direction.values())
        work = torch.float64 if exact else torch.float32
        device = next(iter(tensors.values())).device
        nothing = [torch.zeros(0, device=device)]  # no direction at all: the model stays where it is
        self._buffer = torch.cat([tensors[name].detach().reshape(-1) for name in names] or nothing)
        self._center = self._buffer.to(work, copy=True)
        self._directions = [
            torch.cat(
                [
                    d[name].reshape(-1).to(device, work) if name in d else self._center.new_zeros(tensors[name].numel())
                    for name in names
                ]
            )
            for d in directions
        ]
        self._variances: list[Tensor] = []
        start = 0
        for name in names:
            tensor = tensors[name]
            view = self._buffer[start : start + tensor.numel()].view(tensor.shape)
            tensor.data = view
            start += tensor.numel()
            if name.endswith("running_var"):
                self._variances.append(view)

    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``; a running variance that would fall below zero stays at zero."""
        moved = self._center
        for step, direction in zip(coordinates, self._directions, strict=True):
            moved = torch.add(moved, direction, alpha=float(step))
        self._buffer.copy_(moved)
        for variance in self._variances:
            variance.clamp_(min=0)
