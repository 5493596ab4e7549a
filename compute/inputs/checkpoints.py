"""Checkpoints in and out of files, without ever running code from them."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.models import MODELS
from paraloss.compute.inputs.tensors import state_tensors, tensor_bytes
from paraloss.compute.inputs.user_code import call_reference, is_reference, one_line
from paraloss.errors import InputError, MissingPackage

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def load_checkpoint(path: str | Path, mapped: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: a state_dict, or a dict that holds one as ``state_dict``, ``model_state_dict`` or ``model``.

    Args:
        path: the file.
        mapped: leave the tensors on the disk until they are used, where the file's kind allows it.

    Returns:
        The tensors by parameter name, on the CPU, without the ``module.`` of ``DataParallel``; and what
        ``paraloss train`` noted with them (model, data, epoch …), empty for other files.

    Raises:
        InputError: missing, not a torch file, refused because it would run code, or without a state_dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickles; what cannot be read is told below
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = one_line(error).split("WeightsUnpickler error: ")[-1][:160]
        raise InputError(
            f"{path}: refused, because it is no plain dict of tensors and loading it could run code ({reason}); "
            "save model.state_dict() instead"
        ) from error
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a torch checkpoint: {one_line(error)[:160]}") from error
    record: dict[str, Any] = {}
    if isinstance(content, Mapping):
        record = dict(content.get("paraloss", {})) if isinstance(content.get("paraloss", {}), Mapping) else {}
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
                break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no state_dict; save model.state_dict() or a dict with the key 'state_dict'")
    return {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}, record


def save_checkpoint(path: Path, model: nn.Module, record: Mapping[str, Any]) -> None:
    """Write ``model``'s state and a record of where it came from; the file appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save({"state_dict": model.state_dict(), "paraloss": dict(record)}, temporary)
    os.replace(temporary, path)


def load_model(name: str, sample_shape: tuple[int, ...], classes: int, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """A model by name.

    Args:
        name: a built-in name (``resnet56_noshort``, ``mlp`` …), ``timm:NAME``, ``torchvision:NAME``, or ``file.py:callable``,
            ``package.module:callable``.
        sample_shape: shape of one input; a built-in model is made to fit.
        classes: outputs of a built-in model.
        arguments: keyword options of the model's factory.

    Raises:
        InputError: unknown name, options that do not fit, or a callable that gives no ``nn.Module``.
    """
    arguments = dict(arguments or {})
    if name in MODELS:
        try:
            return MODELS[name](sample_shape, classes, **arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"model '{name}' cannot be built with {arguments}: {one_line(error)}") from error
    source, _, rest = name.partition(":")
    if source in SOURCES and rest:
        return SOURCES[source](rest, sample_shape, classes, arguments)
    if is_reference(name):
        model = call_reference(name, arguments)
        if not isinstance(model, nn.Module):
            raise InputError(f"{name}: gave {type(model).__name__}, not an nn.Module")
        return model
    raise InputError(
        f"unknown model '{name}'; there are {', '.join(MODELS)}, timm:NAME, torchvision:NAME, and your own as file.py:callable"
    )


def _from_timm(name: str, sample_shape: tuple[int, ...], classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A model of the timm package, without its published weights: nothing is downloaded."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises a RuntimeError
        raise MissingPackage(f"models timm:NAME need timm: pip install 'paraloss[zoo]' ({one_line(error)[:100]})") from error
    if name not in timm.list_models():
        close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
        raise InputError(f"timm has no model '{name}'{'; it has ' + close if close else ''}")
    try:
        return timm.create_model(name, **{"num_classes": classes, "in_chans": sample_shape[0], **arguments})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(f"model 'timm:{name}' cannot be built with {dict(arguments)}: {one_line(error)}") from error


def _from_torchvision(name: str, sample_shape: tuple[int, ...], classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A classification model of torchvision, without its published weights."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        raise MissingPackage(
            f"models torchvision:NAME need torchvision: pip install 'paraloss[zoo]' ({one_line(error)[:100]})"
        ) from error
    if name not in models.list_models(module=models):
        close = ", ".join(models.list_models(module=models, include=f"*{name.split('_')[0]}*")[:5])
        raise InputError(f"torchvision has no classifier '{name}'{'; it has ' + close if close else ''}")
    if sample_shape[0] != 3:
        raise InputError(f"torchvision's models take images of 3 channels, the data have {sample_shape[0]}; use timm:{name}")
    try:
        result: nn.Module = models.get_model(name, **{"weights": None, "num_classes": classes, **arguments})
        return result
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model 'torchvision:{name}' cannot be built with {dict(arguments)}: {one_line(error)}") from error


SOURCES = {"timm": _from_timm, "torchvision": _from_torchvision}


def apply_checkpoint(model: nn.Module, state: Mapping[str, Tensor], told: str) -> None:
    """Load ``state`` into ``model``, every name and shape fitting.

    Raises:
        InputError: the checkpoint is another model's; the message names the first difference.
    """
    own = model.state_dict()
    needed = {name for name in own if not name.endswith("num_batches_tracked")}
    missing, extra = sorted(needed - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        parts = [f"lacks {_some(missing)}" if missing else "", f"has {_some(extra)} too many" if extra else ""]
        raise InputError(f"{told}: is a checkpoint of another model: it {' and '.join(part for part in parts if part)}")
    for name in needed:
        if state[name].shape != own[name].shape:
            raise InputError(
                f"{told}: is a checkpoint of another model: '{name}' is {tuple(state[name].shape)} there, "
                f"{tuple(own[name].shape)} in the model"
            )
    model.load_state_dict(dict(state), strict=False)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as sha256sum prints it."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def state_sha256(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers by name: what the surface depends on, whatever file it came from."""
    digest = hashlib.sha256()
    for name, tensor in state_tensors(model).items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
