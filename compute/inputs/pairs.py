"""From what users have to two tensors: (inputs, targets) of every sample, in one fixed order.

Nothing is dropped: whatever has another form than two fields is refused, and the message names the other way, a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from paraloss.compute.inputs.randomness import seeded
from paraloss.compute.inputs.split import DataSet, Split
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError
from paraloss.log import logger

USE_A_STEP = "give {step}, a function of (model, batch) that gets each batch as it is"
_SEED = 0  # of loaders that shuffle or augment, so that all ranks read the same


def as_data_set(data: Any, name: str = "data") -> DataSet:
    """Turn what users have into a data set of two tensors per split.

    Args:
        data: two tensors or arrays (inputs, targets); a torch data set or any iterable of (input, target) pairs; a
            ``DataLoader`` (its batches are joined, in the order of one pass); or a dict from split name to any of these.
        name: what to call it in messages.

    Raises:
        InputError: it is none of these, empty, inputs and targets differ in number, or a sample has other than two fields.
    """
    if isinstance(data, Mapping):
        if not data:
            raise InputError(f"{name}: is an empty dict; name at least one split, as in {{'train': (inputs, targets)}}")
        return {str(split): _as_split(part, f"{name}[{split!r}]") for split, part in data.items()}
    return {"train": _as_split(data, name)}


def one_pass(data: Any, name: str) -> Iterable[Any]:
    """The items of a data set or loader, each once, in an order that is the same on every rank."""
    samplers = (data, data.batch_sampler) if isinstance(data, DataLoader) else ()
    if any(getattr(sampler, "drop_last", False) for sampler in samplers):
        logger.warning(f"{name}: the loader drops its last, smaller batch (drop_last=True), so these samples count nowhere")
    try:
        if not isinstance(data, DataLoader) and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
            data = map(data.__getitem__, range(len(data)))
        with seeded(_SEED):
            yield from data
    except InputError:
        raise
    except Exception as error:  # the user's data set: anything can come up
        raise InputError(f"{name}: cannot be read: {type(error).__name__}: {one_line(error)[:160]}") from error


def _as_split(data: Any, name: str) -> Split:
    if isinstance(data, Split):
        return data
    if isinstance(data, Tensor):
        raise InputError(f"{name}: is one tensor, without targets; {USE_A_STEP}", arguments=("step",))
    if isinstance(data, Sequence) and len(data) > 1 and all(isinstance(part, (Tensor, np.ndarray)) for part in data):
        if len(data) != 2:
            raise InputError(f"{name}: holds {len(data)} tensors, not (inputs, targets); {USE_A_STEP}", arguments=("step",))
        try:
            inputs, targets = (torch.as_tensor(part) for part in data)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{name}: holds no numbers: {one_line(error)[:120]}") from error
    else:
        inputs, targets = _stack_pairs(data, name)
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise InputError(f"{name}: inputs are {tuple(inputs.shape)} and targets {tuple(targets.shape)}; rows must match")
    if len(inputs) == 0:
        raise InputError(f"{name}: holds no samples")
    if not (targets.dtype.is_floating_point or targets.is_complex()):
        targets = targets.long()
    return Split(inputs, targets)


def _stack_pairs(data: Any, name: str) -> tuple[Tensor, Tensor]:
    batched = isinstance(data, DataLoader) and data.batch_sampler is not None
    join = torch.cat if batched else torch.stack
    inputs, targets = [], []
    for pair in one_pass(data, name):
        _check_pair(pair, name)
        try:
            inputs.append(torch.as_tensor(pair[0]))
            targets.append(torch.as_tensor(pair[1]))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{name}: a field of a sample is no tensor ({one_line(error)[:120]}); {USE_A_STEP}", arguments=("step",)
            ) from error
    try:
        return join(inputs), join(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: not (input, target) pairs of one shape nor two tensors: {one_line(error)}") from error


def _check_pair(pair: Any, name: str) -> None:
    if not isinstance(pair, Sequence) or isinstance(pair, str):
        raise InputError(
            f"{name}: a sample is {type(pair).__name__}, not a pair (input, target); {USE_A_STEP}", arguments=("step",)
        )
    if len(pair) != 2:
        raise InputError(f"{name}: a sample has {len(pair)} fields, not (input, target); {USE_A_STEP}", arguments=("step",))
