"""The model's tensors moved one after the other, a piece at a time: nothing is kept but the center.

``moving_weights.MovingWeights`` keeps every direction and the center in float32, five times the weights; here directions by
recipe are made again at each move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from paraloss.compute.directions.moving_weights import checked_direction
from paraloss.compute.directions.recipe import check_recipe, piece_of
from paraloss.compute.directions.shards import Piece, local_part, pieces, real, reshard
from paraloss.compute.directions.sources import Source, is_exact, names_in
from paraloss.compute.inputs.tensors import is_spread, tied_names
from paraloss.errors import InputError
from paraloss.surface.recipes import Recipe


class MovingInPlace:
    """theta* + x * delta + y * eta, written into the model's own tensors.

    Args:
        model: its tensors get other numbers; type, strides and place stay.
        sources: one per axis.
        center: the tensors that ``sources`` move, at the center, by name; of any device and floating-point type.

    Raises:
        InputError: a direction does not fit the model; see ``MovingWeights``.

    The sum is in float32, or in float64 where a direction or a tensor is float64, and rounded once, as in ``MovingWeights``.
    """

    def __init__(self, model: nn.Module, sources: Sequence[Source], center: Mapping[str, Tensor]) -> None:
        tensors = movable_by_name(model)
        self._sources: list[Source] = []
        for source in sources:
            if isinstance(source, Recipe):
                check_recipe(source, model)
                self._sources.append(source)
            else:
                direction = checked_direction(source, tensors, tied_names(model))
                complex_ = {name: part.to(tensors[name].dtype.to_complex()) for name, part in direction.items()
                            if tensors[name].is_complex() and not part.is_complex()}  # fmt: skip
                self._sources.append({**direction, **complex_})
        names = {name for source in self._sources for name in names_in(source)}
        self._tensors = {name: tensor for name, tensor in tensors.items() if name in names}
        self._center, self._exact = center, is_exact(self._sources)
        spread = [name for name, tensor in self._tensors.items() if is_spread(tensor)]
        kept = [name for name in spread if any(name in s for s in self._sources if not isinstance(s, Recipe))]
        if kept:
            raise InputError(
                f"'{kept[0]}' is spread over processes and can only move along random directions of the generator philox",
                arguments=("generator",),
            )
        self._model = model

    @torch.no_grad()
    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``; a running variance that would fall below zero stays at zero."""
        reshard(self._model)
        for name, tensor in self._tensors.items():
            local, box = local_part(tensor.detach())
            local, center = real(local), real(self._center[name])
            wide = self._exact or local.dtype == torch.float64
            for piece in pieces(local, box):
                moved = piece.cut(center).to(local.device, torch.float64 if wide else torch.float32)
                weights = moved
                for step, source in zip(coordinates, self._sources, strict=True):
                    if step and name in names_in(source):
                        part = _values(source, name, piece, weights)
                        moved = torch.add(moved, part, alpha=float(step))
                piece.cut(local).copy_(moved)
            if name.endswith("running_var"):
                local.clamp_min_(0)


def movable_by_name(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, of tied ones the first."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _values(source: Source, name: str, piece: Piece, weights: Tensor) -> Tensor:
    if isinstance(source, Recipe):
        return piece_of(source, name, piece, weights)
    return piece.cut(real(source[name])).to(weights.device, weights.dtype)
