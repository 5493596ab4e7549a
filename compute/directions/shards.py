"""A tensor a piece at a time, whether this process holds all of it or a shard (a DTensor of ``fully_shard`` and the like)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.tensors import is_spread

_MOST = {"cpu": 2**20, "cuda": 2**23}
"""Numbers of a piece by type of device: what is computed of them takes about a hundred bytes each."""

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape of the whole tensor, and where in it the part of this process begins."""


@dataclass(frozen=True)
class Piece:
    """A part of a tensor that is small enough to compute with.

    Attributes:
        rows: first slice along the first axis of the whole tensor, and the one after the last; (0, 1) for one dimension.
        columns: first number within these slices, and the one after the last, as far as they lie side by side.
        index: where the piece lies in the local tensor.
        inner: sizes that ``columns`` unfold to, and where in them the piece lies; None where it is all of them.
        flat: whether ``index`` is into a table (slices, numbers of a slice).
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    index: tuple[slice, ...]
    inner: tuple[tuple[int, ...], tuple[slice, ...]] | None = None
    flat: bool = True

    def cut(self, tensor: Tensor) -> Tensor:
        """Return this piece of a tensor of the local shape; a view where the tensor's memory allows it."""
        if tensor.ndim <= 1:
            tensor = tensor.reshape(1, -1)
        elif self.flat:
            tensor = tensor.reshape(len(tensor), -1) if tensor.numel() else tensor.flatten(1)
        return tensor[self.index]

    def shaped(self, make: Callable[[tuple[int, int]], Tensor]) -> Tensor:
        """Return what ``make`` makes of ``columns``, (rows, columns), in the shape of the piece."""
        table = make(self.columns)
        if self.inner is None:
            return table
        sizes, part = self.inner
        return table.reshape(len(table), *sizes)[(slice(None), *part)]


def real(tensor: Tensor) -> Tensor:
    """Return a complex tensor as a real one with a last axis of length 2, over the same memory; others as they are."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def real_shape(tensor: Tensor) -> tuple[int, ...]:
    """Shape of the whole of ``real(tensor)``, of which this process may hold a part."""
    return (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)


def local_part(tensor: Tensor) -> tuple[Tensor, Box | None]:
    """Return the part of a tensor that this process holds, over the same memory, and where it lies; None for all of it."""
    if not is_spread(tensor):
        return tensor, None
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    spread: Any = tensor
    _, offset = compute_local_shape_and_global_offset(spread.shape, spread.device_mesh, spread.placements)
    local: Tensor = spread.to_local()
    shape = real_shape(tensor)
    return local, (shape, (*offset, *[0] * (len(shape) - len(offset))))


def reshard(model: nn.Module) -> None:
    """Let go of what ``fully_shard`` gathered for the last forward pass, so that the next one sees the shards' numbers."""
    for module in model.modules():
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):
            spread: Any = module
            spread.reshard()


def summed(sums: Tensor, tensor: Tensor) -> Tensor:
    """Return the sum of ``sums`` over the processes that hold different parts of ``tensor``."""
    if is_spread(tensor):
        from torch.distributed import all_reduce
        from torch.distributed.tensor import Shard

        spread: Any = tensor
        for axis, placement in enumerate(spread.placements):
            if isinstance(placement, Shard):
                all_reduce(sums, group=spread.device_mesh.get_group(axis))
    return sums


def pieces(local: Tensor, box: Box | None = None) -> Iterator[Piece]:
    """Cut a tensor into pieces.

    Args:
        local: real numbers: a tensor, or the part of one that this process holds.
        box: where the part lies in the whole tensor; None where it is all of it.

    Yields:
        Pieces that cover ``local``, each once; none where it is empty.
    """
    if not local.numel():
        return
    most = _MOST.get(local.device.type, _MOST["cpu"])
    whole, offset = box or (tuple(local.shape), (0,) * local.ndim)
    if local.ndim <= 1:
        start = offset[0] if local.ndim else 0
        for first, last in _ranges(local.numel(), most):
            yield Piece((0, 1), (start + first, start + last), (slice(None), slice(first, last)))
        return
    inner, per_row = whole[2:], prod(local.shape[1:])
    side_by_side = tuple(local.shape[2:]) == tuple(inner)
    flat = side_by_side and _is_flat(local)
    begin = offset[1] * prod(inner) if side_by_side else 0
    length = per_row if side_by_side else prod(whole[1:])
    nested = None if flat else _nested(local, whole, offset, side_by_side)
    for top, bottom in _ranges(len(local), max(1, most // max(1, length))):
        rows = (offset[0] + top, offset[0] + bottom)
        if not flat:
            yield Piece(rows, (begin, begin + length), (slice(top, bottom),), nested, flat=False)
            continue
        for first, last in _ranges(length, most):
            yield Piece(rows, (begin + first, begin + last), (slice(top, bottom), slice(first, last)))


def _nested(
    local: Tensor, whole: tuple[int, ...], offset: tuple[int, ...], side_by_side: bool
) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """How the columns of a piece unfold to the axes of the tensor behind the first, and which part of them is local."""
    sizes = tuple(local.shape[1:]) if side_by_side else whole[1:]
    starts = [0] * len(sizes) if side_by_side else offset[1:]
    return sizes, tuple(slice(start, start + size) for start, size in zip(starts, local.shape[1:], strict=True))


def _is_flat(tensor: Tensor) -> bool:
    """Whether the slices of a tensor along its first axis are rows of a table over the same memory."""
    try:
        tensor.view(len(tensor), -1)
    except RuntimeError:
        return False
    return True


def _ranges(length: int, most: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + most, length)) for start in range(0, length, most))
