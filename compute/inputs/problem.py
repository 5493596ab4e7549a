"""What is evaluated: a criterion on two tensors, or a step on batches; and the data in the form that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from paraloss.compute.inputs.batch_split import BatchSplit, as_batches
from paraloss.compute.inputs.criteria import load_criterion
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.data import classes_of
from paraloss.compute.inputs.pairs import as_data_set
from paraloss.compute.inputs.split import Split
from paraloss.compute.inputs.steps import Step, load_step
from paraloss.compute.inputs.trees import tensors_in

AnySplit = Split | BatchSplit
Loss = Criterion | Step


def load_loss(loss: str | Callable[..., Any] | Loss, step: str | Callable[..., Any] | None = None) -> tuple[str, Loss]:
    """Load the loss: the step where one is given, else the criterion.

    Returns:
        The name for provenance, and the loss.
    """
    if step is not None or isinstance(loss, Step):
        found = load_step(loss if step is None else step)  # type: ignore[arg-type]
        return f"step {found.name}", found
    return load_criterion(loss)


def splits_for(loss: object, data: Any, name: str = "data") -> Mapping[str, AnySplit]:
    """The splits of ``data`` as ``loss`` takes them: batches for a step, else two tensors."""
    return as_batches(data, name) if isinstance(loss, Step) else as_data_set(data, name)


def sample_shape(data: Mapping[str, AnySplit]) -> tuple[int, ...]:
    """Shape of one input; of a step's batches the first tensor counts as the inputs."""
    split = next(iter(data.values()))
    inputs = split.inputs if isinstance(split, Split) else tensors_in(split.batches)[0]
    return tuple(inputs.shape[1:])


def number_of_classes(data: Mapping[str, AnySplit]) -> int:
    """Number of classes, or of outputs for real targets; a step's batches are asked where they are pairs (inputs, targets)."""
    pairs = {name: split if isinstance(split, Split) else _pair(split) for name, split in data.items()}
    return classes_of({name: pair for name, pair in pairs.items() if pair is not None}) if None not in pairs.values() else 1


def _pair(split: BatchSplit) -> Split | None:
    parts = split.batches[0]
    pair = isinstance(parts, (tuple, list)) and len(parts) == 2 and all(isinstance(p, Tensor) and p.ndim for p in parts)
    return Split(parts[0], parts[1]) if pair and len(parts[1]) else None
