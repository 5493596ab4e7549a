"""Folders of ``torch.distributed.checkpoint``: ``.metadata``, a pickle, says where the pieces of each tensor lie.

torch's own reader unpickles ``.metadata`` without restriction; this one reads it with stand-ins.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraloss.compute.inputs.formats import restricted
from paraloss.compute.inputs.formats.restricted import StandIn
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError

METADATA = ".metadata"


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors by name, put together from their pieces.

    Raises:
        InputError: damaged, incomplete, or written with a compression that is not supported.
    """
    path = folder / METADATA
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    try:
        metadata = restricted.loads(path.read_bytes())
        described, stored = metadata.attributes["state_dict_metadata"], metadata.attributes["storage_data"]
        sizes = {str(name): part for name, part in described.items() if part.asked.endswith("TensorStorageMetadata")}
        most = sum(file.stat().st_size for file in files.values())
        tensors = {name: _empty(part, most) for name, part in sizes.items()}
        missing = {name: tensor.numel() for name, tensor in tensors.items()}
        for index, place in stored.items():
            name, offset = _index(index)
            if name in tensors:
                piece = _piece(files, place.attributes)
                starts = offset or (0,) * piece.ndim
                tensors[name][tuple(slice(at, at + side) for at, side in zip(starts, piece.shape, strict=True))] = piece
                missing[name] -= piece.numel()
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: refused, because loading it could run code ({one_line(error)[:120]})") from error
    except Exception as error:  # whatever a damaged pickle leads to
        raise InputError(f"{path}: cannot be read as a distributed checkpoint: {one_line(error)[:160]}") from error
    for name, numbers in missing.items():
        if numbers > 0:
            raise InputError(f"{folder}: {numbers:,} numbers of '{name}' are missing; copy the whole folder again")
    return tensors


def _index(index: StandIn) -> tuple[str, tuple[int, ...] | None]:
    """The tensor that a piece belongs to, and where the piece begins in it."""
    offset = index.attributes.get("offset")
    return str(index.attributes["fqn"]), None if offset is None else tuple(int(at) for at in offset)


def _empty(part: StandIn, most: int) -> Tensor:
    size, dtype = torch.Size(int(side) for side in part.attributes["size"]), _type(part)
    if size.numel() * dtype.itemsize > most:
        raise ValueError(f"a tensor of {size.numel():,} numbers in files of {most:,} bytes")
    return torch.empty(size, dtype=dtype)


def _type(part: StandIn) -> torch.dtype:
    properties: StandIn = part.attributes["properties"]
    # Its state is (dtype, layout, requires_grad, memory format, pinned).
    found = properties.state[0] if isinstance(properties.state, tuple) else properties.attributes["dtype"]
    if not isinstance(found, torch.dtype):
        raise TypeError("a tensor without a type")
    return found


def _piece(files: Mapping[str, Path], place: Mapping[str, Any]) -> Tensor:
    name = str(place["relative_path"])
    if name not in files:
        raise InputError(f"the file '{name[:80]}' that {METADATA} names is not beside it; copy the whole folder")
    if place.get("transform_descriptors"):
        raise InputError(f"{files[name]}: is written with {place['transform_descriptors']}, which is not supported")
    with files[name].open("rb") as file:
        file.seek(int(place["offset"]))
        data = io.BytesIO(file.read(int(place["length"])))
    piece: Tensor = torch.load(data, map_location="cpu", weights_only=True)
    return piece
