"""Directions out of files: task vectors, differences of checkpoints, an optimizer's momentum, a run's principal components."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.directions.between import direction_between
from paraloss.compute.directions.principal import principal_plane
from paraloss.compute.directions.random import Direction
from paraloss.compute.inputs.checkpoints import weights_sha256
from paraloss.compute.inputs.formats import read_content
from paraloss.compute.inputs.tensors import distinct_parameters, tensors_sha256
from paraloss.compute.options.surface import DirectionType
from paraloss.errors import InputError

_MOMENTS = ("exp_avg", "momentum_buffer")  # of Adam and its like, of SGD
_DEPTH = 4  # of dicts in a checkpoint that an optimizer's state is looked for in


@dataclass(frozen=True)
class Made:
    """A direction that is neither random nor leads to a checkpoint.

    Attributes:
        facts: what decides it; stored in the file and compared where a file is resumed.
        make: makes it, for the model at the center.
    """

    facts: dict[str, Any]
    make: Callable[[nn.Module], Direction]


def task_vector(base: Mapping[str, Tensor], dir_type: DirectionType) -> Made:
    """From ``base`` (step -1), which the model was fine-tuned from, to the model (step 0) and beyond.

    Source: Ilharco et al. 2023 (arXiv 2212.04089).
    """

    def make(center: nn.Module) -> Direction:
        return {name: -part for name, part in direction_between(center, base, dir_type, "along task").items()}

    return Made({"along": "task", "of": tensors_sha256(base), "type": dir_type}, make)


def delta(start: Mapping[str, Tensor], end: Mapping[str, Tensor], dir_type: DirectionType) -> Made:
    """What leads from one checkpoint to another, from the center on."""

    def make(center: nn.Module) -> Direction:
        first, last = (direction_between(center, each, dir_type, "along delta") for each in (start, end))
        return {name: part - first[name] for name, part in last.items()}

    return Made({"along": "delta", "from": tensors_sha256(start), "to": tensors_sha256(end), "type": dir_type}, make)


def momentum(model: nn.Module, file: str, scaled: Callable[[Direction, str], Direction]) -> Made:
    """The momentum that an optimizer kept: the first moment of Adam and its like, SGD's momentum.

    Args:
        model: model of the optimizer's parameters.
        file: checkpoint of torch with the optimizer's ``state_dict`` in it.
        scaled: scales a direction; takes its name for messages.

    Raises:
        InputError: no state of an optimizer, one without momentum, or one of another model.
    """
    found = _moments(read_content(Path(file)), model, file)
    return Made({"along": "momentum", "of": tensors_sha256(found)}, lambda center: scaled(found, f"the momentum in {file}"))


def principal(
    checkpoints: Sequence[Path],
    number: int,
    dir_type: DirectionType,
    key: str | None,
    moving: Collection[str] | None,
    scaled: Callable[[Direction, str], Direction],
) -> Made:
    """A principal component of a run's checkpoints; see ``principal_plane``.

    Args:
        checkpoints: in the order of training.
        number: 1 or 2.
        dir_type: tensors that count.
        key: place of the weights in the files.
        moving: names of the tensors that count; None for all.
        scaled: scales a direction; takes its name for messages.

    Raises:
        InputError: a third component is asked for.
    """
    if number > 2:
        raise InputError("{along} pca is for two axes, the first two components", arguments=("along",))

    def make(center: nn.Module) -> Direction:
        found = principal_plane(center, checkpoints, dir_type, key=key, moving=moving).directions[number - 1]
        return scaled({name: part.float() if part.dtype == torch.float64 else part for name, part in found.items()}, "pca")

    files = [weights_sha256(path) for path in checkpoints]
    return Made({"along": "pca", "component": number, "of": files, "type": dir_type}, make)


def _moments(content: Any, model: nn.Module, file: str) -> Direction:
    """The momentum of each parameter by its name."""
    states = list(_optimizer_states(content, _DEPTH))
    if not states:
        raise InputError(f"{file}: holds no optimizer's state_dict (a dict with 'state' and 'param_groups')")
    if len(states) > 1:
        raise InputError(f"{file}: holds the states of {len(states)} optimizers; save the one to use in a file of its own")
    names = _names(states[0]["param_groups"], model, file)
    moments = {}
    parameters = dict(model.named_parameters())
    for place, kept in states[0]["state"].items():
        moment = next((kept[key] for key in _MOMENTS if isinstance(kept, Mapping) and isinstance(kept.get(key), Tensor)), None)
        if moment is None:
            continue
        name = names.get(place)
        if name is None or moment.shape != parameters[name].shape:
            raise InputError(f"{file}: is the state of another model's optimizer: parameter {place} is {tuple(moment.shape)}")
        moments[name] = moment.detach().cpu()
    if not moments:
        raise InputError(f"{file}: the optimizer's state holds no momentum ({' or '.join(_MOMENTS)})")
    distinct = distinct_parameters(model)
    return {name: part.to(torch.promote_types(part.dtype, torch.float32)) for name, part in moments.items() if name in distinct}


def _optimizer_states(content: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if not isinstance(content, (Mapping, list)) or depth == 0:
        return
    if isinstance(content, list):
        for each in content:  # Lightning keeps a list
            yield from _optimizer_states(each, depth - 1)
        return
    if isinstance(content.get("state"), Mapping) and isinstance(content.get("param_groups"), list):
        yield content
        return
    for each in content.values():
        yield from _optimizer_states(each, depth - 1)


def _names(groups: Sequence[Any], model: nn.Module, file: str) -> dict[Any, str]:
    """Number of a parameter in the optimizer's state -> its name."""
    numbers = [number for group in groups for number in group["params"]]
    named = [name for group in groups for name in group.get("param_names", ())]
    own = dict(model.named_parameters())
    if len(named) == len(numbers) and set(named) <= own.keys():
        return dict(zip(numbers, named, strict=True))
    trained = [name for name, parameter in own.items() if parameter.requires_grad]
    for names in (list(own), trained):
        if len(groups) == 1 and len(names) == len(numbers):
            return dict(zip(numbers, names, strict=True))
    raise InputError(
        f"{file}: it is not known which of the model's {len(own)} parameters the optimizer's {len(numbers)} are, in "
        f"{len(groups)} groups; pass model.named_parameters() to the optimizer, which then keeps their names"
    )
