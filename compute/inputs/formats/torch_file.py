"""What ``torch.save`` wrote, read without running code."""

from __future__ import annotations

import pickle
import tarfile
import warnings
from pathlib import Path
from typing import Any

import torch

from paraloss.compute.inputs.formats import restricted
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError
from paraloss.unpacking import check_archive


def read(path: Path, mapped: bool = False) -> Any:
    """The content of a file of ``torch.save``; objects of unknown classes are ``restricted.StandIn``.

    Args:
        path: the file, of the zip format or the older one.
        mapped: leave the tensors on the disk until they are used, where the file's kind allows it.

    Raises:
        InputError: not such a file, a scripted model, or a pickle that asks for something which runs code.
    """
    zipped = _is_zip(path)
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickles; an unreadable one is refused below
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipped)
            except pickle.UnpicklingError:
                _refuse_what_is_no_pickle(path, zipped)
                return torch.load(
                    path, map_location="cpu", weights_only=False, mmap=mapped and zipped, pickle_module=restricted
                )
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, because loading it could run code or it is damaged ({one_line(error)[:160]}); "
            "save model.state_dict() instead"
        ) from error
    except InputError:
        raise
    except Exception as error:
        if zipped and _is_scripted(path):
            raise InputError(f"{path}: is a scripted model, not a checkpoint; save model.state_dict() instead") from error
        raise InputError(f"{path}: cannot be read as a torch checkpoint: {one_line(error)[:160]}") from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _is_scripted(path: Path) -> bool:
    try:
        return "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records()
    except (RuntimeError, UnicodeError, IndexError, ValueError):  # damaged
        return False


def _refuse_what_is_no_pickle(path: Path, zipped: bool) -> None:
    """torch.load unpacks tar files and runs TorchScript's loader unless it is asked for weights only."""
    if zipped and _is_scripted(path):
        raise InputError(f"{path}: is a scripted model, not a checkpoint; save model.state_dict() instead")
    if not zipped and tarfile.is_tarfile(path):
        raise InputError(f"{path}: refused, because it is a tar file of an old version of torch; save model.state_dict() again")
