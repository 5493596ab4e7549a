"""What a command evaluates: a checkpoint's model, its data and its loss, from what was named and what the checkpoint records.

A checkpoint is a file from anywhere, so nothing that its record says is imported, called or opened as a path: a recorded
name counts only where it is one of the built-in names. The user's own code and folders are named on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from paraloss.compute.inputs.checkpoints import open_checkpoint, put, weights_sha256
from paraloss.compute.inputs.criterion import CRITERIA
from paraloss.compute.inputs.data import PLACELESS, load_data
from paraloss.compute.inputs.models import MODELS
from paraloss.compute.inputs.problem import AnySplit, number_of_classes, sample_shape, splits_for
from paraloss.compute.inputs.randomness import seeded
from paraloss.compute.inputs.sources import is_recordable, load_model
from paraloss.compute.inputs.steps import Step, load_step
from paraloss.compute.inputs.user_code import parse_arguments
from paraloss.compute.options.surface import InputOptions
from paraloss.errors import InputError

_DEFAULT_LOSS = "cross_entropy"
_MOST_CLASSES = 1_000_000


@seeded(0)  # what the user's code draws is the same on every rank and on every day
def load_all(weights: Path, inputs: InputOptions) -> tuple[nn.Module, Mapping[str, AnySplit], str | Step, dict[str, Any]]:
    """Load the model with its weights and the data, and choose the loss.

    Args:
        weights: checkpoint file or folder.
        inputs: names of the model, the data and the loss. What is not named is taken from the checkpoint's record, as far as
            it is built in.

    Returns:
        The model, the data, the name of the loss or the step, and the facts about them for the surface file.

    Raises:
        InputError: something is neither named nor recorded, the record names what is not built in, or model, data and
            checkpoint do not fit together.
    """
    data = inputs.data
    loss: str | Step | None = inputs.loss if inputs.step is None else load_step(inputs.step)
    checkpoint = open_checkpoint(weights)
    record = checkpoint.record
    model, model_arguments = _model_of(weights, record, inputs)
    if data is None:
        data = _recorded(weights, record, "data", PLACELESS.__contains__)
    if loss is None:
        loss = _recorded(weights, record, "loss", CRITERIA.__contains__) if "loss" in record else _DEFAULT_LOSS
    data_set = load_data(data, parse_arguments(inputs.data_arg or []), partial(splits_for, loss))
    network = load_model(model, sample_shape(data_set), _classes(weights, record, data_set), model_arguments)
    found = checkpoint.fitted(network, inputs.weights_key)
    put(network, found.state, str(weights))
    facts = {
        "model": model,
        "model_args": model_arguments,
        "data": data,
        "checkpoint": weights.resolve().name,
        "checkpoint_sha256": weights_sha256(weights),
        "trained": record,
        **({"weights_key": found.place} if found.place else {}),
        **({"weights_left_out": list(found.left_out)} if found.left_out else {}),
    }
    return network, data_set, loss, facts


@seeded(0)
def load_without_data(weights: Path, inputs: InputOptions, shape: tuple[int, ...]) -> nn.Module:
    """Load the model with its weights where there are no data.

    Args:
        weights: checkpoint file or folder.
        inputs: names of the model; what is not named is taken from the checkpoint's record, as far as it is built in.
        shape: shape of one input.

    Raises:
        InputError: the model is neither named nor recorded, or does not fit the checkpoint.
    """
    checkpoint = open_checkpoint(weights)
    model, arguments = _model_of(weights, checkpoint.record, inputs)
    classes = checkpoint.record.get("classes")
    network = load_model(model, shape, classes if isinstance(classes, int) and 0 < classes <= _MOST_CLASSES else 10, arguments)
    put(network, checkpoint.fitted(network, inputs.weights_key).state, str(weights))
    return network


def _model_of(weights: Path, record: Mapping[str, Any], inputs: InputOptions) -> tuple[str, dict[str, Any]]:
    """The model's name and its options, named or recorded."""
    arguments = parse_arguments(inputs.model_arg or [])
    if inputs.model is not None:
        return inputs.model, arguments
    model = _recorded(weights, record, "model", is_recordable)
    return model, {**_recorded_arguments(weights, record, model), **arguments}


def _recorded(weights: Path, record: Mapping[str, Any], key: str, admitted: Callable[[str], bool]) -> str:
    """The name that the checkpoint records for ``key``, if it is ``admitted``."""
    if key not in record:
        raise InputError(
            f"{weights}: does not record its {key}; name it with {{{key}}}, as in {_EXAMPLES[key]}", arguments=(key,)
        )
    name = record[key]
    if isinstance(name, str) and admitted(name):
        return name
    raise InputError(
        f"{weights}: records the {key} {str(name)[:80]!r}, which is not built in; a checkpoint's record is never followed to "
        f"code or to files: name the {key} yourself with {{{key}}}",
        arguments=(key,),
    )


def _recorded_arguments(weights: Path, record: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Options of a built-in model from the record: plain numbers; other packages' models take none from there."""
    found = record.get("model_args") or {}
    plain = isinstance(found, Mapping) and all(isinstance(value, (bool, int, float)) for value in found.values())
    if not plain or (found and model not in MODELS):
        raise InputError(
            f"{weights}: records options of the model that are not taken from a file: {str(found)[:80]!r}; "
            "name the model and its options yourself with {model} and {model_arg}",
            arguments=("model", "model_arg"),
        )
    return {str(name): value for name, value in found.items()}


def _classes(weights: Path, record: Mapping[str, Any], data_set: Mapping[str, AnySplit]) -> int:
    classes = record.get("classes", None)
    if classes is None:
        return number_of_classes(data_set)
    if not isinstance(classes, int) or not 1 <= classes <= _MOST_CLASSES:
        raise InputError(f"{weights}: records {str(classes)[:40]!r} classes; that is no number from 1 to {_MOST_CLASSES:,}")
    return classes


_EXAMPLES = {
    "model": "{model} resnet56 or {model} mymodel.py:build",
    "data": "{data} digits or {data} mydata.py:load",
    "loss": "{loss} cross_entropy",
}
