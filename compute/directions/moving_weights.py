"""The model's tensors that move: one flat buffer for each type of number, one fused update for each point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from paraloss.compute.directions.random import Direction
from paraloss.compute.inputs.tensors import tied_names
from paraloss.errors import InputError

_ALIGNED = 256  # bytes that each tensor begins at a multiple of: fast kernels read 16 at once, and refuse other places
_WORK = {torch.float64: torch.float64, torch.complex64: torch.complex64, torch.complex128: torch.complex128}


class MovingWeights:
    """The tensors that the directions name, laid out in flat buffers that one fused update moves.

    Args:
        model: its tensors become views of the buffers, of the same type and strides as before.
        directions: which tensors move, and how.

    Raises:
        InputError: a direction names a tensor that the model lacks, that is no real or complex number, or of another shape.

    The sum is in float32 (as in the reference), or in float64 and rounded once where a direction or a tensor is float64.
    """

    def __init__(self, model: nn.Module, directions: Sequence[Direction]) -> None:
        tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        directions = [checked_direction(direction, tensors, tied_names(model)) for direction in directions]
        names = [name for name in tensors if any(name in direction for direction in directions)]
        types = (torch.float64, torch.complex128)
        exact = any(tensor.dtype in types for direction in directions for tensor in direction.values())
        by_type: dict[torch.dtype, list[str]] = {}
        for name in names:
            by_type.setdefault(tensors[name].dtype, []).append(name)
        self._parts = [_Part({name: tensors[name] for name in group}, directions, exact) for group in by_type.values()]
        self._variances = [tensors[name] for name in names if name.endswith("running_var")]

    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``; a running variance that would fall below zero stays at zero."""
        for part in self._parts:
            part.move_to(coordinates)
        if self._variances:
            torch._foreach_clamp_min_(self._variances, 0)


class _Part:
    """The moving tensors of one type."""

    def __init__(self, tensors: Mapping[str, Tensor], directions: Sequence[Direction], exact: bool) -> None:
        first = next(iter(tensors.values()))
        work = _WORK.get(first.dtype, torch.float32)
        if exact:
            work = torch.complex128 if work.is_complex else torch.float64
        orders = {name: _memory_order(tensor) for name, tensor in tensors.items()}
        starts, unit, length = {}, _ALIGNED // first.dtype.itemsize, 0
        for name, tensor in tensors.items():
            starts[name], length = length, length + -(-tensor.numel() // unit) * unit

        def flat(parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
            result = torch.zeros(length, dtype=dtype, device=first.device)
            for name in tensors.keys() & parts.keys():
                place = result[starts[name] : starts[name] + parts[name].numel()]
                place.copy_(parts[name].detach().to(first.device, dtype).permute(orders[name]).reshape(-1))
            return result

        self._buffer = flat(tensors, first.dtype)
        self._center = self._buffer.to(work, copy=True)
        self._directions = [flat(direction, work) for direction in directions]
        for name, tensor in tensors.items():
            order = orders[name]
            view = self._buffer[starts[name] : starts[name] + tensor.numel()].view([tensor.shape[axis] for axis in order])
            tensor.data = view.permute([order.index(axis) for axis in range(tensor.ndim)])

    def move_to(self, coordinates: Sequence[float]) -> None:
        moved, last = self._center, len(self._directions) - 1
        for axis, (step, direction) in enumerate(zip(coordinates, self._directions, strict=True)):
            straight = self._buffer if axis == last and self._buffer.dtype == moved.dtype else None  # not by way of a copy
            moved = torch.add(moved, direction, alpha=float(step), out=straight)
        if moved is not self._buffer:
            self._buffer.copy_(moved)


def checked_direction(direction: Direction, tensors: Mapping[str, Tensor], tied: Mapping[str, str]) -> Direction:
    """``direction`` by the first name of each tensor."""
    found: Direction = {}
    for name, values in direction.items():
        kept = tied.get(name, name)
        tensor = tensors.get(kept)
        if tensor is None:
            raise InputError(f"a direction moves '{name}', but the model has no such tensor; its names are those of the model")
        if tensor.layout != torch.strided or not (tensor.is_floating_point() or tensor.is_complex()):
            raise InputError(f"a direction moves '{name}', which is {tensor.dtype} ({tensor.layout}) and cannot move")
        if tensor.shape != values.shape or (values.is_complex() and not tensor.is_complex()):
            raise InputError(
                f"a direction moves '{name}' by {tuple(values.shape)} {values.dtype}, "
                f"but it is {tuple(tensor.shape)} {tensor.dtype}"
            )
        if kept in found and not torch.equal(found[kept].cpu(), values.cpu()):
            raise InputError(f"'{name}' and '{kept}' are one tensor in the model, but a direction moves them differently")
        found[kept] = values
    return found


def _memory_order(tensor: Tensor) -> list[int]:
    """The axes from the largest stride to the smallest where the tensor is dense, else as they are."""
    order = sorted(range(tensor.ndim), key=lambda axis: -tensor.stride()[axis])
    return order if tensor.permute(order).is_contiguous() else list(range(tensor.ndim))
