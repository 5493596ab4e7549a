"""Models that ``save_pretrained`` and data that ``save_to_disk`` left in a folder; nothing is downloaded.

The class of a model is looked up in transformers' own table of the model's type; a folder's own code is never loaded.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError, MissingPackage

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_MARKS = ("dataset_dict.json", "dataset_info.json")  # one of these is in every folder of save_to_disk


def build_model(place: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The model that a folder's ``config.json`` describes, without its weights.

    Args:
        place: the folder of ``save_pretrained``.
        arguments: ``architecture`` chooses another class than the one recorded, such as GPT2LMHeadModel; the others are options
            of the class, such as ``attn_implementation``.

    Raises:
        MissingPackage: transformers is not installed.
        InputError: no such folder, or a model whose code is not in transformers.
    """
    folder = Path(place)
    if not (folder / "config.json").is_file():
        raise InputError(f"huggingface:{place}: this folder has no config.json; name a folder of save_pretrained")
    transformers = _offline("transformers")
    try:
        described = json.loads((folder / "config.json").read_text("utf-8"))
        kind, recorded = str(described["model_type"]), described.get("architectures") or ["none"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / 'config.json'}: cannot be read: {one_line(error)[:120]}") from error
    if "quantization_config" in described:
        raise InputError(f"huggingface:{place}: its weights are quantized, and cannot be moved; save them unquantized")
    options = dict(arguments)
    wanted = str(options.pop("architecture", recorded[0]))
    classes = _classes_of(kind)
    if wanted not in classes:
        known = (
            f"choose with --model-arg architecture=NAME: {', '.join(sorted(classes)[:6])}" if classes else "none is built in"
        )
        raise InputError(f"huggingface:{place}: transformers has no {wanted[:80]} for the model type '{kind[:40]}'; {known}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = transformers.CONFIG_MAPPING[kind].from_dict(described)
            model: nn.Module = getattr(transformers, wanted)._from_config(config, **options)
    except Exception as error:
        raise InputError(f"huggingface:{place}: cannot be built with {options}: {one_line(error)[:200]}") from error
    return model.eval()


def converted_state(path: Path, model: nn.Module) -> dict[str, Tensor] | None:
    """What transformers makes of a ``save_pretrained`` folder with names of an older version.

    Returns:
        The state by ``model``'s names; None where ``model`` is not one of transformers' or ``path`` no such folder, or where
        not every weight is in it.
    """
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(model, transformers.PreTrainedModel) or not (path / "config.json").is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded, report = type(model).from_pretrained(
                path, config=model.config, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception:
        return None
    complete = not any(report.get(part) for part in ("missing_keys", "mismatched_keys", "error_msgs", "unexpected_keys"))
    return dict(loaded.state_dict()) if complete else None


def is_data_folder(place: str) -> bool:
    """Whether ``place`` is a folder of ``datasets``' ``save_to_disk``."""
    return any((Path(place) / mark).is_file() for mark in _MARKS)


def load_data_folder(place: str) -> Any:
    """A folder of ``save_to_disk``: a data set of dicts of tensors, or a dict of splits of such.

    Raises:
        MissingPackage: datasets is not installed.
        InputError: the folder is damaged.
    """
    datasets = _offline("datasets")
    try:
        found = datasets.load_from_disk(place)
    except Exception as error:
        raise InputError(f"{place}: cannot be read as a data set of save_to_disk: {one_line(error)[:160]}") from error
    found = found.with_format("torch")
    return dict(found) if isinstance(found, datasets.DatasetDict) else found


def _offline(package: str) -> Any:
    """Import a package of Hugging Face with its network switched off."""
    for name in _OFFLINE:
        os.environ[name] = "1"
    try:
        import huggingface_hub.constants

        huggingface_hub.constants.HF_HUB_OFFLINE = True
        _hide_broken_torchvision()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = __import__(package)
    except (ImportError, RuntimeError) as error:
        raise MissingPackage(f"this needs {package}: pip install 'paraloss[huggingface]' ({one_line(error)[:100]})") from error
    if package == "transformers":
        module.utils.logging.set_verbosity_error()
        module.utils.logging.disable_progress_bar()
    else:
        module.disable_progress_bars()
    return module


def _hide_broken_torchvision() -> None:
    """Have a torchvision of another torch, which cannot be imported, count as not installed: transformers would try it."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def _classes_of(kind: str) -> set[str]:
    """Names of transformers' classes for a model type, from the tables behind its ``AutoModel`` classes."""
    from transformers.models.auto import modeling_auto

    tables = [table for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")]
    found = [table[kind] for table in tables if isinstance(table, Mapping) and kind in table]
    return {name for entry in found for name in ((entry,) if isinstance(entry, str) else entry) if isinstance(name, str)}
