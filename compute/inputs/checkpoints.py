"""Checkpoints in and out of files, without ever running code from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.contents import check_stored, contents_of, only_state, plain
from paraloss.compute.inputs.fitting import fit
from paraloss.compute.inputs.formats import files_of, read_content
from paraloss.compute.inputs.huggingface import converted_state
from paraloss.compute.inputs.tensors import state_tensors, tensor_bytes
from paraloss.errors import InputError
from paraloss.files import replacing
from paraloss.text import one_line


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights out of a file or folder.

    Attributes:
        state: tensors by the model's own names, on the CPU.
        record: what ``paraloss train`` noted with them (model, data, epoch …); empty for other files.
        place: the keys and prefix under which the weights lie in the file; "" where they lie at the top.
        left_out: harmless tensors beside the weights that the model does not have.
    """

    state: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    place: str = ""
    left_out: tuple[str, ...] = ()


def load_checkpoint(
    path: str | Path, mapped: bool = False, *, model: nn.Module | None = None, weights_key: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint: a state_dict, bare or within dicts and other objects, of any format in ``formats``.

    Args:
        path: the file, or a folder of ``save_pretrained`` or of torch's distributed checkpoints.
        mapped: leave the tensors on the disk until they are used, where the format allows it.
        model: take its weights, found by their names and shapes, under its own names. Default: the one dict of weights in the
            file, by its names there.
        weights_key: place of the weights in the file, as in ``ema``. Default: the only place.

    Returns:
        The tensors by parameter name, on the CPU; and what ``paraloss train`` noted with them (model, data, epoch …), empty
        for other files.

    Raises:
        InputError: missing, unreadable, refused because it would run code, without weights of the model, or with several sets
            of weights to choose from.
    """
    if model is None:
        content = read_content(Path(path), mapped)
        contents = contents_of(content)
        check_stored(contents, str(path))
        return plain(only_state(contents, str(path), weights_key), str(path)), record_of(content)
    found = open_checkpoint(path, mapped).fitted(model, weights_key)
    return found.state, found.record


class OpenCheckpoint:
    """A checkpoint that was read, before it is known which model's it is."""

    def __init__(self, path: Path, content: Any) -> None:
        self.path, self.record = path, record_of(content)
        self._contents = contents_of(content)
        check_stored(self._contents, str(path))

    def fitted(self, model: nn.Module, key: str | None = None) -> Checkpoint:
        """The weights of ``model``; see ``load_checkpoint``."""
        try:
            found = fit(self._contents, model, str(self.path), key)
        except InputError:
            state = converted_state(self.path, model) if key is None else None
            if state is None:
                raise
            return Checkpoint(state, self.record)
        return Checkpoint(plain(found.state, str(self.path)), self.record, found.place, found.left_out)


def open_checkpoint(path: str | Path, mapped: bool = False) -> OpenCheckpoint:
    """Read a file or folder; see ``load_checkpoint``."""
    return OpenCheckpoint(Path(path), read_content(Path(path), mapped))


def record_of(content: Any) -> dict[str, Any]:
    """What ``paraloss train`` noted in a checkpoint; empty for other files."""
    record = content.get("paraloss") if isinstance(content, Mapping) else None
    return dict(record) if isinstance(record, Mapping) else {}


def save_checkpoint(path: Path, model: nn.Module, record: Mapping[str, Any]) -> None:
    """Write ``model``'s state and a record of where it came from; the file appears complete or not at all.

    Tensors are written as those of a CPU, so that a plain ``torch.load`` reads them on any machine.
    """
    found = model.state_dict()
    state = {name: part.cpu().contiguous() if isinstance(part, Tensor) else part for name, part in found.items()}
    save_content(path, {"state_dict": state, "paraloss": dict(record)})


def save_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of ``torch.save``, which appears complete or not at all.

    Raises:
        InputError: ``path`` cannot be written, or the disk is full.
    """
    with replacing(path) as temporary:
        try:
            torch.save(dict(content), temporary)
        except RuntimeError as error:  # of torch's own writer, on a full disk
            reason = one_line(error)[:100]
            raise InputError(f"{path}: cannot be written ({reason}); free some space or choose another folder") from error


def apply_checkpoint(model: nn.Module, state: Mapping[str, Any], title: str) -> None:
    """Load ``state`` into ``model``, every name and shape fitting, after any prefix.

    Raises:
        InputError: the checkpoint is another model's; the message names the first difference.
    """
    put(model, fit(contents_of(state), model, title).state, title)


def put(model: nn.Module, state: Mapping[str, Any], title: str) -> None:
    """Load tensors that have the model's own names.

    Raises:
        InputError: the model refuses them.
    """
    try:
        # Not strict: counters and constants may be missing. What is needed was checked when ``state`` was fitted.
        model.load_state_dict(dict(state), strict=False)
    except Exception as error:  # a user's own hook may raise anything
        raise InputError(f"{title}: the model does not take these weights: {' '.join(str(error).split())[:200]}") from error


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as sha256sum prints it."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def weights_sha256(path: Path) -> str:
    """SHA-256 of a checkpoint: of the file, or of the list of a folder's weight files as sha256sum prints it."""
    files = files_of(path)
    if len(files) == 1:
        return file_sha256(files[0])
    return hashlib.sha256("".join(f"{file_sha256(file)}  {file.name}\n" for file in files).encode()).hexdigest()


def state_sha256(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers by name: what the surface depends on, whatever file it came from."""
    digest = hashlib.sha256()
    for name, tensor in state_tensors(model).items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()
