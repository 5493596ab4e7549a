"""Files and folders that hold weights: of ``torch.save``, safetensors, ``save_pretrained``, torch's distributed checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paraloss.compute.inputs.formats import distributed, safetensors_file, torch_file
from paraloss.errors import InputError
from paraloss.files import check_input

SUFFIXES = (".pt", ".pth", ".t7", ".tar", ".ckpt", ".bin", ".safetensors")
_INDEX = ".index.json"
# What save_pretrained writes; where several are there they hold the same weights, and transformers takes the first, too.
_PRETRAINED = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")


def read_content(path: Path, mapped: bool = False) -> Any:
    """What a file or folder of weights holds, as it was saved.

    Args:
        path: the file; or a folder of ``save_pretrained``, of torch's distributed checkpoints, or with one file of weights.
        mapped: leave the tensors on the disk until they are used, where the format allows it.

    Raises:
        InputError: missing, unreadable, refused because it would run code, or a folder with several files to choose from.
    """
    if path.is_dir():
        path = _file_of(path)
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint")
    check_input(path)
    if path.name == distributed.METADATA:
        return distributed.read(path.parent)
    if path.name.endswith(".bin" + _INDEX):
        return _read_torch_shards(path, mapped)
    if path.name.endswith(_INDEX):
        return safetensors_file.read_index(path, mapped)
    if path.suffix == ".safetensors":
        return safetensors_file.read(path, mapped)
    return torch_file.read(path, mapped)


def files_of(path: Path) -> list[Path]:
    """The files that hold the weights of a file or folder, in a fixed order, with their index."""
    if path.is_dir():
        path = _file_of(path)
    if path.name == distributed.METADATA:
        return sorted(file for file in path.parent.iterdir() if file.is_file())
    if path.name.endswith(_INDEX):
        beside = {file.name: file for file in path.parent.iterdir()}
        return [path, *(beside[name] for name in sorted(set(safetensors_file.index_map(path).values())) if name in beside)]
    return [path]


def is_weights_folder(path: Path) -> bool:
    """Whether a folder is one checkpoint: of ``save_pretrained`` or of torch's distributed checkpoints."""
    return path.is_dir() and any((path / name).is_file() for name in (distributed.METADATA, *_PRETRAINED))


def _file_of(folder: Path) -> Path:
    """The file that stands for a folder."""
    beside = {file.name: file for file in folder.iterdir() if file.is_file()}
    for name in (distributed.METADATA, *_PRETRAINED):
        if name in beside:
            return beside[name]
    found = sorted(name for name in beside if name.endswith(_INDEX)) or sorted(
        name for name, file in beside.items() if file.suffix.lower() in SUFFIXES
    )
    if not found:
        raise InputError(f"{folder}: this folder holds no weights; name a file, or a folder of save_pretrained")
    if len(found) > 1:
        raise InputError(f"{folder}: holds {', '.join(found[:4])}{' …' if len(found) > 4 else ''}; name one of them")
    return beside[found[0]]


def _read_torch_shards(path: Path, mapped: bool) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for file in files_of(path)[1:]:
        content = torch_file.read(file, mapped)
        if not isinstance(content, dict):
            raise InputError(f"{file}: holds no state_dict")
        tensors |= content
    missing = sorted(safetensors_file.index_map(path).keys() - tensors.keys())
    if missing:
        raise InputError(f"{path}: '{missing[0]}' is in none of its files; copy the whole folder again")
    return tensors
