"""Which tensors of a checkpoint are the model's: names after any prefix, in any wrapper, with what may be missing or too many.

A *place* is what comes before the model's own names in the dotted names of ``contents``, as in ``ema.module``. The weights are
taken from the one place after which every name and shape of the model is found; where two places hold different weights, the
user chooses.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paraloss.compute.inputs.contents import EXTRA_STATE, Contents, only_state
from paraloss.errors import InputError

# Put between the names of modules by torch.compile, FSDP and activation checkpointing.
_INSERTED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Counters of torch and other tools, and constants that a constructor makes: no loss depends on their coming from the file.
_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
_CONSTANTS = ("position_ids", "masked_bias", "inv_freq", "relative_position_index", "attn_mask")
_MASKS = ("attn.bias", "attention.bias", "attn.mask", "attention.mask", "causal_mask")


@dataclass(frozen=True)
class Fit:
    """A model's weights out of a checkpoint.

    Attributes:
        state: by the model's own names, as ``load_state_dict`` takes them.
        place: what comes before these names in the file; "" where nothing does.
        left_out: names of harmless tensors that lie beside the weights and have no counterpart in the model.
    """

    state: dict[str, Any]
    place: str
    left_out: tuple[str, ...]


class Wanted:
    """What a model wants from a checkpoint.

    Attributes:
        shapes: name -> shape of every tensor of its state_dict; None where a lazy module does not know it yet.
        groups: names of one tensor that has several (tied weights); every name is in one group.
        optional: names that may be missing: counters, and constants that the constructor made.
        extra_states: names of what ``get_extra_state`` of its modules gives, where it is no tensor.
    """

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict(keep_vars=True)
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        self.shapes = {name: None if is_lazy(value) else value.shape for name, value in tensors.items()}
        self.extra_states = [name for name in state if name not in tensors]
        groups: dict[Any, list[str]] = {}
        for name, value in tensors.items():
            groups.setdefault(_identity(value), []).append(name)
        self.groups = [tuple(names) for names in groups.values()]
        self.optional = {
            name
            for name, value in tensors.items()
            if not isinstance(value, nn.Parameter) and name.endswith((*_COUNTERS, *_CONSTANTS, *_MASKS))
        }

    def needed(self) -> list[tuple[str, ...]]:
        """The groups of names of which one each must be in the file."""
        return [group for group in self.groups if not any(name in self.optional for name in group)]


def fit(contents: Contents, model: nn.Module, title: str, key: str | None = None) -> Fit:
    """The weights of ``model``, every one of its names and shapes found.

    Args:
        contents: what the checkpoint holds.
        model: its names and shapes decide.
        title: the checkpoint's name, for messages.
        key: the place to take, or one above it, as in ``ema``; None takes the only one that fits.

    Raises:
        InputError: no place fits, and the first difference is named; or several do, and they are named.
    """
    kept = contents if key is None else contents.below(key, title)
    if not kept.tensors:
        raise InputError(f"{title}: holds no state_dict; save model.state_dict() or a dict with the key 'state_dict'")
    wanted = Wanted(model)
    found = _fits(kept, wanted)
    if not found:
        hooked = _through_hooks(kept, wanted, model)
        if hooked is None:
            raise InputError(f"{title}: is a checkpoint of another model: {_difference(kept, wanted)}")
        return hooked
    first = found[0]
    if any(not _same(first, other) for other in found[1:]):
        places = ", ".join(f"'{one.place}'" if one.place else "the top level" for one in found[:6])
        example = next(one.place for one in found if one.place)
        raise InputError(
            f"{title}: holds different weights that fit the model, in {places}; choose with {{weights_key}}, as in "
            f"{{weights_key}}={example}",
            arguments=("weights_key",),
        )
    lacking = [name for name in wanted.extra_states if name not in first.state]
    if lacking:
        raise InputError(f"{title}: lacks '{lacking[0]}', which the model's get_extra_state gives")
    _fill_tied(first, wanted, title)
    return first


def _fill_tied(found: Fit, wanted: Wanted, title: str) -> None:
    """Give every name of a tied tensor its weights."""
    for names in wanted.groups:
        given = [found.state[name] for name in names if name in found.state]
        for name in names[1:]:
            if name in found.state and not _equal(given[0], found.state[name]):
                raise InputError(f"{title}: '{names[0]}' and '{name}' are one tensor in the model, but differ in the file")
        found.state.update({name: given[0] for name in names if given})


def _fits(contents: Contents, wanted: Wanted) -> list[Fit]:
    """All places that fit: by the names as they are, without what is inserted into names, or for a model that is wrapped."""
    for number, own in enumerate(_readings(list(wanted.shapes))):
        theirs = {_INSERTED.sub("", name) if number else name: name for name in contents.tensors}
        if len(set(own.values())) < len(own) or len(theirs) < len(contents.tensors):
            continue
        places = _places(own, theirs, wanted)
        found = [_fit_at(place, own, theirs, contents, wanted, whole=number > 1) for place in places]
        good = [one for one in found if one is not None]
        if good:
            return good
    return []


def _readings(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """The model's names -> names to look for: as they are, without what is inserted, without a wrapper's own attribute."""
    yield {name: name for name in names}
    short = {name: _INSERTED.sub("", name) for name in names}
    yield short
    while len({name.partition(".")[0] for name in short.values()}) == 1 and all("." in name for name in short.values()):
        short = {name: rest.partition(".")[2] for name, rest in short.items()}
        yield short


def _places(own: Mapping[str, str], theirs: Mapping[str, str], wanted: Wanted) -> list[str]:
    """What comes before the model's names in the file, wherever all of them follow; in the order of the file.

    ``own`` leads from the model's names to those that are compared, ``theirs`` from those to the names in the file.
    """
    needed = [tuple(own[name] for name in group) for group in wanted.needed()]
    if not needed:
        return []
    anchor = max(needed, key=lambda group: min(len(name) for name in group))
    ends = [(name, name[: len(name) - len(end)]) for name in theirs for end in anchor if _ends(name, end)]
    places = dict.fromkeys(place for _, place in ends)
    return [place for place in places if all(any(place + name in theirs for name in group) for group in needed)]


def _fit_at(
    place: str, own: Mapping[str, str], theirs: Mapping[str, str], contents: Contents, wanted: Wanted, whole: bool
) -> Fit | None:
    """The weights that follow ``place``; None where a shape differs, a name is not unique, or weights are left over.

    ``whole``: nothing may be left over beside ``place`` either, as short names would fit by chance.
    """
    taken = {name: theirs[place + short] for name, short in own.items() if place + short in theirs}
    for name, found in taken.items():
        shape = wanted.shapes[name]
        if found in contents.twice or (shape is not None and contents.tensors[found].shape != shape):
            return None
    surplus = _surplus("" if whole else place, set(taken.values()), theirs, contents)
    if not all(_harmless(name, contents.tensors[name]) for name in surplus):
        return None
    state: dict[str, Any] = {name: contents.tensors[found] for name, found in taken.items()}
    for name in wanted.extra_states:
        if place + name in contents.extra_states:
            state[name] = contents.extra_states[place + name]
    left_out = tuple(name for name in surplus if not name.endswith(_COUNTERS) and contents.tensors[name].ndim)
    return Fit(state, place.strip("."), left_out)


def _surplus(place: str, used: set[str], theirs: Mapping[str, str], contents: Contents) -> list[str]:
    """Names in the same dict as ``used``, after the same place, that the model lacks; no arrays beside tensors."""
    holders = {contents.holder[name] for name in used}
    arrays = contents.arrays if used - contents.arrays else set()
    return [
        name
        for short, name in theirs.items()
        if name not in used and name not in arrays and short.startswith(place) and contents.holder[name] in holders
    ]


def _harmless(name: str, tensor: Tensor) -> bool:
    """Whether a tensor that the model lacks is a counter, a constant, a scalar or a mask of zeros and ones."""
    if tensor.ndim == 0 or name.endswith((*_COUNTERS, *_CONSTANTS, EXTRA_STATE)):
        return True
    return name.endswith(_MASKS) and tensor.ndim > 1 and bool(((tensor == 0) | (tensor == 1)).all())


def _difference(contents: Contents, wanted: Wanted) -> str:
    """The first difference between the model and the place in the file that is nearest to it."""
    counts: dict[str, int] = {}
    for own in list(wanted.shapes)[:100]:
        for name in contents.tensors:
            if _ends(name, own):
                place = name[: len(name) - len(own)]
                counts[place] = counts.get(place, 0) + 1
    if counts:
        place = max(counts, key=lambda one: counts[one])
        holders = {contents.holder[place + name] for name in wanted.shapes if place + name in contents.tensors}
    else:
        usual = [contents.holder[name] for name, tensor in contents.tensors.items() if tensor.ndim]
        holders = {max(set(usual), key=usual.count)} if usual else set()
        place = "".join(f"{holder}." for holder in holders if holder)
    there = {
        name[len(place) :]: tensor
        for name, tensor in contents.tensors.items()
        if name.startswith(place) and contents.holder[name] in holders
    }
    missing = sorted(group[0] for group in wanted.needed() if not any(name in there for name in group))
    surplus = sorted(name for name, tensor in there.items() if name not in wanted.shapes and not _harmless(name, tensor))
    if missing or surplus:
        parts = [f"lacks {_some(missing)}" if missing else "", f"has {_some(surplus)} too many" if surplus else ""]
        return "it " + " and ".join(part for part in parts if part)
    for name, shape in wanted.shapes.items():
        if name in there and shape is not None and there[name].shape != shape:
            return f"'{name}' is {tuple(there[name].shape)} there, {tuple(shape)} in the model"
    return f"two tensors in it have one name, '{next(iter(contents.twice), '')}'"


def _through_hooks(contents: Contents, wanted: Wanted, model: nn.Module) -> Fit | None:
    """What the model's own loading hooks make of the file's one dict, such as the weight norm of older versions."""
    try:
        state = only_state(contents, "")
        if state.keys() == wanted.shapes.keys():
            return None
        trial = copy.deepcopy(model)
        trial.load_state_dict(state, strict=True)
    except Exception:  # not its checkpoint, or a model that cannot be copied
        return None
    return Fit(dict(trial.state_dict()), "", ())


def _same(one: Fit, other: Fit) -> bool:
    """Whether two places hold the same weights."""
    common = one.state.keys() & other.state.keys()
    return all(_equal(one.state[name], other.state[name]) for name in common if isinstance(one.state[name], Tensor))


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers of one type; NaN equals NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one is other or not one.is_floating_point():
        return one is other or torch.equal(one, other)
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _identity(tensor: Tensor) -> Any:
    """The same for two names of one tensor."""
    if is_lazy(tensor) or tensor.layout != torch.strided or tensor.device.type == "meta" or not tensor.numel():
        return id(tensor)
    return (tensor.device, tensor.dtype, tensor.data_ptr(), tensor.shape, tensor.stride())


def _ends(name: str, end: str) -> bool:
    """Whether ``name`` is ``end`` after any number of parts."""
    return name == end or name.endswith("." + end)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
