"""Everything in a checkpoint that may be weights, by dotted names.

Dict keys, list positions and parameter names all become parts of one name: ``{"ema": {"module.fc.weight": …}}`` holds
``ema.module.fc.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from paraloss.compute.inputs.formats.restricted import StandIn, as_tensor
from paraloss.errors import InputError
from paraloss.text import printable
from paraloss.unpacking import check_size

EXTRA_STATE = "_extra_state"  # torch's name for what a module's get_extra_state gives
_DEEPEST = 24  # levels of dicts and modules
_USUAL = ("state_dict", "model_state_dict", "model")
_OPTIMIZERS = re.compile(r"optim|scheduler|scaler|callbacks|loops|rng|(^|\.)state\.\d", re.IGNORECASE)


@dataclass
class Contents:
    """What was found in a checkpoint.

    Attributes:
        tensors: dotted name -> tensor.
        holder: dotted name -> the dotted name of the dict or module that holds it, which shows what belongs together.
        arrays: names of those that were saved as numpy arrays or scalars.
        extra_states: dotted name -> what a module's ``get_extra_state`` gave.
        twice: names that two different tensors have.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    holder: dict[str, str] = field(default_factory=dict)
    arrays: set[str] = field(default_factory=set)
    extra_states: dict[str, Any] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)

    def add(self, name: str, holder: str, value: Any) -> bool:
        """Keep ``value`` if it is a tensor or an array; whether it is."""
        tensor = as_tensor(value)
        if tensor is None:
            return False
        if name in self.tensors and self.tensors[name] is not tensor:
            self.twice.add(name)
        if not isinstance(value, Tensor):
            self.arrays.add(name)
        self.tensors[name], self.holder[name] = tensor, holder
        return True

    def below(self, key: str, title: str) -> Contents:
        """What lies below ``key``, as in ``ema``.

        Raises:
            InputError: nothing does.
        """
        start = key.strip(".") + "."
        kept = {name: tensor for name, tensor in self.tensors.items() if name.startswith(start)}
        if not kept:
            tops = dict.fromkeys(name.partition(".")[0] for name in self.tensors)
            raise InputError(f"{title}: has no weights under '{key}'; it has {', '.join(map(repr, list(tops)[:6])) or 'none'}")
        return Contents(kept, {name: self.holder[name] for name in kept}, self.arrays, self.extra_states, self.twice)


def contents_of(content: Any) -> Contents:
    """Find all tensors in what a file holds: in dicts, lists, pickled modules and other objects, at any depth."""
    found = Contents()
    _collect(content, "", "", found, ())
    return found


def check_stored(contents: Contents, title: str) -> None:
    """Refuse nested tensors, and those that repeat a few stored numbers (a stride of 0) until they fill the memory.

    Raises:
        InputError: see ``paraloss.unpacking.check_size``.
    """
    for name, tensor in contents.tensors.items():
        if tensor.is_nested:
            raise InputError(
                f"{title}: '{printable(name)[:80]}' is a nested tensor, which is no weight; save it as a plain one"
            )
    dense = [tensor for tensor in contents.tensors.values() if tensor.layout == torch.strided and tensor.device.type != "meta"]
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in dense}
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in dense)
    check_size(title, claimed, sum(stored.values()), "its tensors")


def plain(state: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The same weights as dense tensors: sparse and quantized ones are unpacked; a module's extra state stays as it is.

    Raises:
        InputError: a tensor holds no numbers, because it is on the meta device; names it.
    """
    found: dict[str, Any] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):  # a module's extra state
            found[name] = tensor
            continue
        if tensor.is_meta:
            raise InputError(
                f"{title}: '{printable(name)[:80]}' is on the meta device and holds no numbers; save the weights first"
            )
        dense = tensor if tensor.layout == torch.strided else tensor.to_dense()
        found[name] = dense.dequantize() if dense.is_quantized else dense
    return found


def only_state(contents: Contents, title: str, key: str | None = None) -> dict[str, Tensor]:
    """The weights of a checkpoint whose model is not known: those of the one dict that is no optimizer's.

    Args:
        contents: what the checkpoint holds.
        title: the checkpoint's name, for messages.
        key: the dict to take, as in ``ema``.

    Returns:
        The tensors by name, without the ``module.`` of ``DataParallel``.

    Raises:
        InputError: no such dict, or several, and they are named.
    """
    kept = contents if key is None else contents.below(key, title)
    holders = sets_of(kept)
    if not holders:
        raise InputError(f"{title}: holds no state_dict; save model.state_dict() or a dict with the key 'state_dict'")
    chosen = "" if "" in holders else _usual(holders) if len(holders) > 1 else next(iter(holders))
    if chosen is None:
        raise InputError(
            f"{title}: holds several sets of weights, {', '.join(map(repr, list(holders)[:6]))}; choose one with "
            "{weights_key}, as in {weights_key}=ema",
            arguments=("weights_key",),
        )
    state = {name: kept.tensors[_join(chosen, name)] for name in holders[chosen]}
    wrapped = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in state.items()}


def sets_of(contents: Contents) -> dict[str, list[str]]:
    """Place -> names there, for every dict or module that holds tensors and is no optimizer's."""
    holders: dict[str, list[str]] = {}
    for name, holder in contents.holder.items():
        if not _OPTIMIZERS.search(holder):
            holders.setdefault(holder, []).append(name[len(holder) + 1 if holder else 0 :])
    return {holder: names for holder, names in holders.items() if any(contents.tensors[_join(holder, n)].ndim for n in names)}


def _usual(holders: Mapping[str, list[str]]) -> str | None:
    """The one dict with a usual name, where no other dict holds weights of the same names."""
    usual = [holder for holder in holders if holder.rpartition(".")[2] in _USUAL]
    if len(usual) != 1:
        return None
    own = set(holders[usual[0]])
    return None if any(own & set(names) for holder, names in holders.items() if holder != usual[0]) else usual[0]


def _collect(value: Any, name: str, holder: str, found: Contents, above: tuple[int, ...]) -> None:
    """Put all tensors at and below ``value`` into ``found``; ``above`` holds what it lies in, against cycles."""
    if len(above) > _DEEPEST or id(value) in above or found.add(name, holder, value):
        return
    if name.rpartition(".")[2] == EXTRA_STATE:
        found.extra_states[name] = value
    elif _is_module(value):
        _collect_module(value, name, name, found, above)
    else:
        for key, part in _parts(value):
            _collect(part, _join(name, key), name, found, (*above, id(value)))


def _is_module(value: Any) -> bool:
    return isinstance(value, StandIn) and isinstance(value.attributes.get("_parameters"), Mapping)


def _collect_module(module: StandIn, name: str, root: str, found: Contents, above: tuple[int, ...]) -> None:
    """A pickled module's tensors, named as its state_dict names them."""
    if len(above) > _DEEPEST or id(module) in above:
        return
    attributes = module.attributes
    passing = attributes.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers"):
        for key, tensor in (attributes.get(kind) or {}).items():
            if not (isinstance(passing, set) and key in passing):
                found.add(_join(name, str(key)), root, tensor)
    for key, part in (attributes.get("_modules") or {}).items():
        if _is_module(part):
            _collect_module(part, _join(name, str(key)), root, found, (*above, id(module)))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, StandIn):
        yield from ((str(key), part) for key, part in {**value.attributes, **value.items}.items())
        yield from ((str(number), part) for number, part in enumerate((*value.args, *value.members)))
    elif isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(number), part) for number, part in enumerate(value) if not isinstance(part, int | float | str))


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
