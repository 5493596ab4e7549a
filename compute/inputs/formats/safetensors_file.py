"""``.safetensors`` files and their indices: a JSON header, then the tensors' bytes. No package is needed to read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError

_MOST_HEADER = 100_000_000  # bytes; the limit of the format's own library
_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "C64": "complex64", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read(path: Path, mapped: bool = False) -> dict[str, Tensor]:
    """The tensors of one file by name.

    Args:
        path: the file.
        mapped: leave the tensors on the disk until they are used.

    Raises:
        InputError: damaged, or of a number type that this torch lacks; names the tensor.
    """
    try:
        header, start, size = _header(path)
        raw = np.memmap(path, np.uint8, "c", start) if mapped and size else np.fromfile(path, np.uint8, offset=start)
        return {name: _tensor(raw, name, entry) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {one_line(error)[:160]}") from error


def read_index(path: Path, mapped: bool = False) -> dict[str, Tensor]:
    """The tensors of all files that ``*.safetensors.index.json`` names, which lie beside it.

    Raises:
        InputError: the index or one of the files is missing or damaged, or a tensor is missing.
    """
    weight_map = index_map(path)
    beside = {file.name: file for file in path.parent.glob("*.safetensors")}
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(weight_map.values())):
        if shard not in beside:
            raise InputError(f"{path}: names '{str(shard)[:80]}', which is not beside it; copy the whole folder")
        tensors |= read(beside[shard], mapped)
    missing = sorted(weight_map.keys() - tensors.keys())
    if missing:
        raise InputError(f"{path}: '{missing[0]}' is in none of its files; copy the whole folder again")
    return tensors


def index_map(path: Path) -> Mapping[str, str]:
    """``weight_map`` of an index: tensor name -> file name.

    Raises:
        InputError: damaged.
    """
    try:
        weight_map = json.loads(path.read_text("utf-8"))["weight_map"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as an index of weights: {one_line(error)[:160]}") from error
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(name, str) for name in weight_map.values()):
        raise InputError(f"{path}: its 'weight_map' does not name files")
    return weight_map


def _header(path: Path) -> tuple[Mapping[str, Any], int, int]:
    """The header, where the tensors' bytes begin, and how many bytes there are."""
    whole = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(whole - 8, _MOST_HEADER):
            raise ValueError(f"its header would be {length:,} bytes of {whole:,}")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return header, 8 + length, whole - 8 - length


def _tensor(raw: np.ndarray, name: str, entry: Mapping[str, Any]) -> Tensor:
    dtype = getattr(torch, _TYPES.get(entry["dtype"], ""), None)
    if dtype is None:
        raise ValueError(f"'{name}' is of the type {entry['dtype']}, which this torch lacks")
    shape = _whole_numbers(name, entry["shape"])
    first, last = _whole_numbers(name, entry["data_offsets"])
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= first <= last <= len(raw) or last - first != wanted:
        raise ValueError(f"'{name}' should lie at bytes {first} to {last} of {len(raw)}, with {wanted} of them")
    part = np.asarray(raw[first:last])
    part = part if part.ctypes.data % dtype.itemsize == 0 else part.copy()
    return torch.from_numpy(part).view(dtype).reshape(shape) if wanted else torch.empty(shape, dtype=dtype)


def _whole_numbers(name: str, values: object) -> list[int]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError(f"the shape and the offsets of '{name}' are not whole numbers: {str(values)[:60]}")
    return values


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name: the header's length in 8 bytes, the header padded to 8, the numbers in its order."""
    types = {name: code for code, name in _TYPES.items()}
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        code = types[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
