"""Batches of any structure: tensors in tuples, lists, dicts, named tuples, dataclasses, and objects that hold tensors.

A tree is a tensor, or a container of trees, or anything else, which is passed on as it is. An object that is none of
Python's containers but has a method ``to``, such as PyTorch Geometric's ``Data`` or Hugging Face's ``BatchEncoding``, is
copied shallowly, and its own attributes are looked into.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ATOMS = (str, bytes, bool, int, float, complex, type(None), np.ndarray, np.generic)


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same structure in new containers, ``function`` applied to every tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, _ATOMS):
        return tree
    if isinstance(tree, (tuple, list)):
        parts = [map_tensors(function, part) for part in tree]
        if hasattr(tree, "_fields"):  # a named tuple
            return type(tree)(*parts)
        return parts if type(tree) is list else type(tree)(parts)
    if isinstance(tree, MutableMapping):
        result = copy.copy(tree)
        for key in list(tree):
            result[key] = map_tensors(function, tree[key])
        return result
    if not _has_tensors(tree):
        return tree
    return copy_with(tree, {name: map_tensors(function, part) for name, part in _attributes(tree).items()})


def tensors_in(tree: Any) -> list[Tensor]:
    """Every tensor of ``tree``, in a fixed order."""
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, Tensor)]


def leaves_of(tree: Any) -> Iterator[Any]:
    """Every tensor and everything else that is no container, in a fixed order; names of entries come before them."""
    if isinstance(tree, (Tensor, _ATOMS)):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for part in tree:
            yield from leaves_of(part)
    elif isinstance(tree, Mapping):
        for key in tree:
            yield str(key)
            yield from leaves_of(tree[key])
    elif _has_tensors(tree):
        yield from leaves_of(_attributes(tree))
    else:
        yield type(tree).__qualname__


def rows_of(tree: Any) -> int | None:
    """The length that all tensors of ``tree`` share along their first axis; None where they share none."""
    lengths = {len(tensor) for tensor in tensors_in(tree) if tensor.ndim}
    return lengths.pop() if len(lengths) == 1 else None


def take_rows(tree: Any, chosen: slice | Tensor, rows: int) -> Any:
    """``tree`` with ``chosen`` of its ``rows`` samples: of every tensor, and of lists of texts or numbers of that length."""
    if isinstance(tree, list) and len(tree) == rows and all(isinstance(part, _ATOMS) for part in tree):
        return tree[chosen] if isinstance(chosen, slice) else [tree[k] for k in chosen.tolist()]
    if isinstance(tree, (tuple, list)) and not hasattr(tree, "_fields"):
        return type(tree)([take_rows(part, chosen, rows) for part in tree])
    if type(tree) is dict:
        return {key: take_rows(part, chosen, rows) for key, part in tree.items()}
    return map_tensors(lambda tensor: tensor[chosen] if tensor.ndim else tensor, tree)


def join_rows(trees: Sequence[Any]) -> Any:
    """One batch of all samples of ``trees``.

    Raises:
        ValueError: they differ in structure, in the shape of a sample, or in what is no tensor.
    """
    first = trees[0]
    if isinstance(first, Tensor):
        if first.ndim == 0:
            if any(not torch.equal(first, other) for other in trees[1:]):
                raise ValueError("a single number differs between batches")
            return first
        if len({(tensor.shape[1:], tensor.dtype) for tensor in trees}) > 1:
            raise ValueError("samples differ in shape")
        return torch.cat(list(trees))
    if isinstance(first, _ATOMS):
        if any(
            type(other) is not type(first) or not np.array_equal(np.asarray(other), np.asarray(first)) for other in trees[1:]
        ):
            raise ValueError("what is no tensor differs between batches")
        return first
    if isinstance(first, (tuple, list)):
        if isinstance(first, list) and all(isinstance(part, _ATOMS) for tree in trees for part in tree):
            return [part for tree in trees for part in tree]
        if len({len(tree) for tree in trees}) > 1:
            raise ValueError("batches differ in structure")
        parts = [join_rows(column) for column in zip(*trees, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if type(first) is dict:
        if any(set(tree) != set(first) for tree in trees):
            raise ValueError("batches differ in structure")
        return {key: join_rows([tree[key] for tree in trees]) for key in first}
    if dataclasses.is_dataclass(first):
        return copy_with(first, {name: join_rows([getattr(tree, name) for tree in trees]) for name in _attributes(first)})
    raise ValueError(f"batches are {type(first).__name__}")


def copy_with(tree: Any, parts: Mapping[str, Any]) -> Any:
    """A shallow copy of an object with other attributes."""
    result = copy.copy(tree)
    for name, part in parts.items():
        object.__setattr__(result, name, part)
    return result


def bytes_of(tree: Any) -> int:
    """Memory that the tensors of ``tree`` take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(tree))


def update_digest(digest: Any, tree: Any) -> None:
    """Feed everything that identifies ``tree`` to a hashlib digest."""
    for leaf in leaves_of(tree):
        for part in _plain_parts(leaf) if isinstance(leaf, Tensor) else [leaf]:
            if isinstance(part, Tensor):
                array = part.detach().cpu().contiguous()
                digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
                digest.update(array.reshape(-1).view(torch.uint8).numpy().data if array.numel() else b"")
            else:
                digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())


def sha256_of(trees: Sequence[Any]) -> str:
    """SHA-256 of all tensors, numbers and texts of ``trees``."""
    digest = hashlib.sha256()
    for tree in trees:
        update_digest(digest, tree)
    return digest.hexdigest()


def _plain_parts(tensor: Tensor) -> list[Tensor]:
    """Dense tensors of one value a number, that identify ``tensor``."""
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), *_plain_parts(tensor.values())]
    if tensor.layout != torch.strided:
        return _plain_parts(tensor.to_dense())
    return [torch.view_as_real(tensor.resolve_conj())] if tensor.is_complex() else [tensor]


def _has_tensors(tree: Any) -> bool:
    """Whether to look into an object: a dataclass's instance, or something that can be moved to a device."""
    if isinstance(tree, (type, torch.nn.Module)):
        return False
    return dataclasses.is_dataclass(tree) or (callable(getattr(tree, "to", None)) and hasattr(tree, "__dict__"))


def _attributes(tree: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(tree)] if dataclasses.is_dataclass(tree) else list(vars(tree))
    return {name: getattr(tree, name) for name in names}
