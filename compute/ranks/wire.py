"""Values as bytes, for what ranks send each other over a network: JSON and raw arrays, never pickle.

Reading makes numbers, texts, containers, arrays and the classes listed in ``sendable``; nothing that the bytes say is imported
or called. The first 8 bytes are the length of the JSON text, the arrays' numbers follow it.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any, TypeVar

import numpy as np
import torch

from paraloss.errors import InputError
from paraloss.surface import Surface
from paraloss.surface.recipes import Part, Recipe

C = TypeVar("C", bound=type)
_HEAD = struct.Struct("<Q")
_KINDS = "biufc"  # numbers of numpy; objects, texts and records are not arrays of numbers
_classes: dict[str, type] = {}


def sendable(kind: C) -> C:
    """Let values of a dataclass travel between ranks."""
    _classes[kind.__name__] = kind
    return kind


sendable(Surface)
sendable(Recipe)
sendable(Part)


def encode(value: Any) -> bytes:
    """Return ``value`` as bytes.

    Raises:
        TypeError: something in it cannot travel.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(value, arrays)).encode()
    return b"".join([_HEAD.pack(len(text)), text, *(array.tobytes() for array in arrays)])


def decode(data: bytes) -> Any:
    """Return the value of ``encode``.

    Raises:
        InputError: these are no such bytes.
    """
    try:
        (length,) = _HEAD.unpack_from(data)
        view, place = memoryview(data), _HEAD.size + length
        return _Reader(view, place).value(json.loads(bytes(view[_HEAD.size : place])))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise InputError(
            f"another rank sent what no rank of Paraloss sends ({type(error).__name__}); start the job again"
        ) from error


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """``value`` as JSON can hold it: lists that begin with a letter for all that is not a number, a text or None."""
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, torch.Tensor):
        return ["tensor", _plain(value.detach().cpu().numpy(), arrays)]
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"an array of {array.dtype} cannot be sent to other ranks")
        arrays.append(array)
        return ["array" if isinstance(value, np.ndarray) else "scalar", array.dtype.str, list(array.shape)]
    if isinstance(value, (list, tuple, set, frozenset)):
        name = next(kind.__name__ for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        return [name, *(_plain(each, arrays) for each in value)]
    if isinstance(value, dict):
        return ["dict", *([_plain(key, arrays), _plain(each, arrays)] for key, each in value.items())]
    kind: type = type(value)
    if _classes.get(kind.__name__) is kind:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
        return ["class", kind.__name__, _plain(fields, arrays)]
    raise TypeError(f"{kind.__name__} cannot be sent to other ranks")


class _Reader:
    """Makes values of what ``_plain`` wrote; takes the arrays in their order."""

    def __init__(self, view: memoryview, place: int) -> None:
        self._view, self._place = view, place

    def value(self, plain: Any) -> Any:
        if not isinstance(plain, list):
            return plain
        kind, *parts = plain
        if kind in ("array", "scalar"):
            array = self._array(*parts)
            return array if kind == "array" else array[()]
        if kind == "tensor":
            return torch.from_numpy(self.value(parts[0]))
        if kind == "dict":
            return {self.value(key): self.value(each) for key, each in parts}
        if kind == "class":
            return _classes[parts[0]](**self.value(parts[1]))
        return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](self.value(each) for each in parts)

    def _array(self, name: str, shape: list[int]) -> np.ndarray:
        kind = np.dtype(name)
        if kind.kind not in _KINDS or any(size < 0 for size in shape):
            raise ValueError(name)
        count = int(np.prod(shape, dtype=object))
        found = np.frombuffer(self._view, kind, count, self._place) if count else np.empty(0, kind)
        self._place += count * kind.itemsize
        return found.reshape(shape).copy()
