"""The tensors of a model: which of them are distinct, what they hold byte by byte, and which a surface cannot move."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paraloss.errors import InputError


def distinct_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Floating-point and complex parameters by name; of tied ones, or of several over the same memory, the first name."""
    found: dict[str, Tensor] = {}
    places = set()
    for name, parameter in model.named_parameters():
        place = _place(parameter)
        if (parameter.is_floating_point() or parameter.is_complex()) and place not in places:
            found[name] = parameter
            places.add(place)
    return found


def tied_names(model: nn.Module) -> dict[str, str]:
    """Second and further names of a parameter -> its first name."""
    first: dict[Any, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        kept = first.setdefault(_place(parameter), name)
        if kept != name:
            tied[name] = kept
    return tied


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``model.state_dict()``; a module's extra state is left out."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and numbers, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensor_bytes(tensors[name]))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of ``tensor``, of any type and layout, in logical order."""
    tensor = whole(tensor.detach()).cpu()
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return tensor_bytes(tensor.indices()) + tensor_bytes(tensor.values())
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return b"".join(map(tensor_bytes, (tensor.crow_indices(), tensor.col_indices(), tensor.values())))
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return b"".join(map(tensor_bytes, (tensor.ccol_indices(), tensor.row_indices(), tensor.values())))
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    return tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def check_movable(model: nn.Module) -> None:
    """Check that every parameter holds numbers of its own that can move.

    Raises:
        InputError: a parameter is not initialized yet, sparse, without storage, or spread over processes in a way that is
            not known, or shares a part of its memory with another tensor of the model; names it.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise InputError(f"the parameter '{name}' of a lazy module has no shape yet; run the model on one batch first")
        if tensor.is_meta:
            raise InputError(f"'{name}' is on the meta device and holds no numbers; load the weights first")
        if is_spread(tensor):
            _check_spread(name, tensor)
    for name, parameter in model.named_parameters():
        if parameter.layout != torch.strided:
            raise InputError(f"the parameter '{name}' is sparse ({parameter.layout}); make it dense to move it")
    _check_memory(model)


def is_spread(tensor: Tensor) -> bool:
    """Whether a tensor is spread over processes, as ``fully_shard`` and tensor parallelism leave it."""
    return type(tensor.data).__name__ == "DTensor"


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; one that is spread over processes is gathered, which all of them must do together."""
    spread: Any = tensor
    return spread.full_tensor() if is_spread(tensor) else tensor  # type: ignore[no-any-return]


def _check_spread(name: str, tensor: Any) -> None:
    for placement in tensor.placements:
        if not (placement.is_replicate() or type(placement).__name__ == "Shard"):
            raise InputError(
                f"'{name}' is spread over processes as {placement}, which cannot be moved; use fully_shard or tensor "
                "parallelism alone, or gather the whole model on every rank first"
            )


def _check_memory(model: nn.Module) -> None:
    known: dict[int, list[tuple[str, Tensor]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.numel() and not is_spread(parameter):
            known.setdefault(parameter.untyped_storage().data_ptr(), []).append((name, parameter))
    registered = {id(parameter) for parameter in model.parameters()}
    others = [
        (name, tensor) for name, tensor in (*model.named_buffers(), *_loose_tensors(model)) if id(tensor) not in registered
    ]
    for name, tensor in others:
        if tensor.layout != torch.strided or not tensor.numel() or is_spread(tensor):
            continue
        for parameter_name, owner in known.get(tensor.untyped_storage().data_ptr(), []):
            if _overlap(owner, tensor):
                raise InputError(
                    f"'{name}' shares its memory with the parameter '{parameter_name}', so it is unclear whether it moves too; "
                    "make it a copy (.clone()), or compute it in forward"
                )
    for neighbors in known.values():
        for k, (name, later) in enumerate(neighbors):
            for other_name, earlier in neighbors[:k]:
                if _place(later) != _place(earlier) and _overlap(later, earlier):
                    raise InputError(
                        f"the parameters '{other_name}' and '{name}' share a part of their memory; tie them or clone"
                    )


def _loose_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors in plain attributes, and in lists and dicts there."""
    for place, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") and name in ("_parameters", "_buffers", "_modules"):
                continue
            members = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
            for member in members:
                if isinstance(member, Tensor):
                    yield f"{place}.{name}".lstrip("."), member


def _place(tensor: Tensor) -> Any:
    if not tensor.numel() or tensor.layout != torch.strided or is_lazy(tensor) or is_spread(tensor):
        return id(tensor)
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors over the same storage have an element in common."""
    ranges = []
    for tensor in (one, other):
        start = tensor.storage_offset() * tensor.element_size()
        extent = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        ranges.append((start, start + extent * tensor.element_size()))
    if ranges[0][1] <= ranges[1][0] or ranges[1][1] <= ranges[0][0]:
        return False
    if one.dtype != other.dtype:
        return True
    places = torch.arange(one.untyped_storage().nbytes() // one.element_size())
    views = [torch.as_strided(places, t.shape, t.stride(), t.storage_offset()).reshape(-1) for t in (one, other)]
    return bool(torch.isin(views[0], views[1]).any())
