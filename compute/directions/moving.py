"""Which tensors move: those that patterns name; and what does not move in the end."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from paraloss.compute.directions.between import movable
from paraloss.compute.directions.sources import Source, moves
from paraloss.compute.inputs.tensors import distinct_parameters, tied_names
from paraloss.errors import InputError

TRAINABLE = "trainable"
_LISTED = 40  # names that are kept in a file


def names_to_move(model: nn.Module, patterns: str | Sequence[str] | None) -> frozenset[str] | None:
    """Find the parameters and buffers that patterns name.

    Args:
        model: model at the origin, as the user made it.
        patterns: shell patterns of names, in which * stands for any characters, dots too; a module's name stands for all that
            is in it. ``trainable`` stands for the parameters that require gradients, and the statistics of modules that have
            such a parameter.

    Returns:
        Names of parameters and floating-point buffers, of tied parameters the first; None for ``patterns`` None: all move.

    Raises:
        InputError: a pattern that no name matches.
    """
    if patterns is None:
        return None
    tensors = movable(model) | distinct_parameters(model)
    names = {**{name: name for name in tensors}, **{tied: name for tied, name in tied_names(model).items() if name in tensors}}
    chosen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern == TRAINABLE and TRAINABLE not in names:
            found = _trainable(model, tensors)
        else:
            found = {first for name, first in names.items() if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")}
        if not found:
            raise InputError(f"{{move}}: nothing in the model is called '{pattern}'{_closest(pattern, names)}", ("move",))
        chosen |= found
    return frozenset(chosen)


def still(model: nn.Module, directions: Sequence[Source]) -> dict[str, Any]:
    """Describe the parameters that no direction moves, for a file's provenance.

    Returns:
        "tensors" and "numbers" that stand still, "of_tensors" and "of_numbers" in all, and the first "names".
    """
    parameters = distinct_parameters(model)
    names = [name for name in parameters if not any(moves(source, name) for source in directions)]
    return {
        "tensors": len(names),
        "of_tensors": len(parameters),
        "numbers": sum(parameters[name].numel() for name in names),
        "of_numbers": sum(parameter.numel() for parameter in parameters.values()),
        "names": names[:_LISTED],
    }


def left_behind(model: nn.Module, end: Mapping[str, Tensor], moving: frozenset[str] | None) -> list[str]:
    """Names of tensors that differ between a model and another checkpoint, but do not move."""
    if moving is None:
        return []
    return [
        name
        for name, tensor in movable(model).items()
        if name not in moving and name in end and not bool((end[name].detach().cpu() == tensor.detach().cpu()).all())
    ]


def _trainable(model: nn.Module, tensors: Mapping[str, Tensor]) -> set[str]:
    parameters = dict(model.named_parameters())
    chosen = {name for name, parameter in parameters.items() if parameter.requires_grad and name in tensors}
    modules = {name.rpartition(".")[0] for name in chosen}
    return chosen | {name for name in tensors if name not in parameters and name.rpartition(".")[0] in modules}


def _closest(pattern: str, names: Mapping[str, str]) -> str:
    """Names and modules that are spelled like ``pattern``, else the first names of the model."""
    modules = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    close = difflib.get_close_matches(pattern.strip("*."), [*names, *sorted(modules)], n=3, cutoff=0.4)
    return f"; closest are {', '.join(close)}" if close else f"; there are {', '.join(list(names)[:4])} …"
