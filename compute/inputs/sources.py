"""Where models come from: built in, from timm, torchvision or a folder of Hugging Face, or the user's own callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from paraloss.compute.inputs.huggingface import build_model
from paraloss.compute.inputs.models import MODELS
from paraloss.compute.inputs.user_code import call_reference, is_reference, one_line
from paraloss.errors import InputError, MissingPackage


def load_model(name: str, sample_shape: tuple[int, ...], classes: int, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a model by name, without weights of its own.

    Args:
        name: a built-in name (``resnet56_noshort``, ``mlp`` …), ``timm:NAME``, ``torchvision:NAME``, ``huggingface:DIR`` for
            a folder of ``save_pretrained``, or ``file.py:callable``, ``package.module:callable``.
        sample_shape: shape of one input; a built-in model is made to fit.
        classes: outputs of a built-in model.
        arguments: keyword options of the model's factory.

    Raises:
        InputError: unknown name, options that do not fit, or a callable that gives no ``nn.Module``.
        MissingPackage: the model comes from a package that is not installed.
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
        f"unknown model '{name}'; there are {', '.join(MODELS)}, timm:NAME, torchvision:NAME, huggingface:DIR, and your own as "
        "file.py:callable"
    )


def is_recordable(name: str) -> bool:
    """Whether a checkpoint's record may name this model: it is built in, or a plain name of timm or torchvision."""
    source, _, rest = name.partition(":")
    plain = rest.replace("_", "").replace(".", "").replace("-", "").isalnum()
    return name in MODELS or (source in _PACKAGES and plain)


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


def _from_huggingface(place: str, _: tuple[int, ...], __: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A model of a folder of ``save_pretrained``; its data and classes are its own."""
    return build_model(place, arguments)


Source = Callable[[str, tuple[int, ...], int, Mapping[str, Any]], nn.Module]
_PACKAGES: dict[str, Source] = {"timm": _from_timm, "torchvision": _from_torchvision}
SOURCES: dict[str, Source] = {**_PACKAGES, "huggingface": _from_huggingface}
