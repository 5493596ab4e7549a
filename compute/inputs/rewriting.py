"""A checkpoint with other weights in the form of an existing one: the same keys and nesting, so that the same code loads it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.checkpoints import load_checkpoint, save_content
from paraloss.compute.inputs.contents import contents_of
from paraloss.compute.inputs.fitting import fit
from paraloss.compute.inputs.formats import read_content, safetensors_file
from paraloss.compute.inputs.tensors import tied_names
from paraloss.errors import InputError, ParalossError
from paraloss.files import check_output, replacing
from paraloss.log import logger

_RECORD = "paraloss"
_PLAIN = (bool, int, float, str, type(None))
_OMITTED = object()


def check_new_checkpoint(path: Path, inputs: list[Path], overwrite: bool) -> None:
    """Refuse a checkpoint that cannot be written, is an input, or would replace a file.

    Raises:
        InputError: names the file.
    """
    check_output(path, inputs=inputs)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists; choose another name, or replace it with {{overwrite}}", arguments=("overwrite",))


def check_best(path: str | Path | None, computed: Path, inputs: list[Path], overwrite: bool) -> None:
    """Refuse a checkpoint of the lowest point that cannot be written, before anything is computed.

    Args:
        path: the checkpoint; None is right.
        computed: file or folder of what it is the lowest point of. Where that exists the command finishes it, and the
            checkpoint may be there already; whether it is the same is found out at the end.
        inputs: files that the command reads.
        overwrite: replace whatever is there.

    Raises:
        InputError: names the file.
    """
    if path is not None:
        check_new_checkpoint(Path(path), inputs, overwrite or computed.exists())


def save_like(
    path: Path,
    state: Mapping[str, Tensor],
    model: nn.Module,
    like: Path | None,
    weights_key: str | None = None,
    note: Mapping[str, Any] | None = None,
) -> None:
    """Write weights in the form of an existing checkpoint.

    Args:
        path: file to write; ``.safetensors`` takes the weights alone.
        state: tensors by the model's names.
        model: names the tensors.
        like: checkpoint whose keys and nesting are kept; what holds tensors beside the weights (an optimizer's state) is left
            out. None, or a form that cannot be written: ``{"state_dict": …}``.
        weights_key: place of the weights in ``like``.
        note: facts for the record of ``paraloss train``, where ``like`` has one.

    Raises:
        InputError: ``path`` cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    content = None if like is None else _rewritten(like, tensors, model, weights_key, path.suffix == ".safetensors")
    if content is None:
        content = {"state_dict": OrderedDict(tensors)}
    if isinstance(content.get(_RECORD), dict):
        content[_RECORD] = {**content[_RECORD], **(note or {})}
    elif like is None and note:
        content[_RECORD] = dict(note)
    if path.suffix == ".safetensors":
        with replacing(path) as temporary:
            safetensors_file.write(temporary, _flat(content, tensors, tied_names(model)))
    else:
        save_content(path, content)


def holds(path: Path, state: Mapping[str, Tensor], model: nn.Module, weights_key: str | None = None) -> bool:
    """Whether a file holds these weights already, number for number."""
    try:
        there = load_checkpoint(path, model=model, weights_key=weights_key)[0]
    except ParalossError:
        return False
    return all(name in there and torch.equal(there[name].cpu(), tensor.cpu()) for name, tensor in state.items())


def _rewritten(
    like: Path, tensors: Mapping[str, Tensor], model: nn.Module, key: str | None, flat: bool
) -> dict[str, Any] | None:
    """The content of ``like`` with other tensors; None where not all of them have a place there."""
    content = read_content(like)
    try:
        found = fit(contents_of(content), model, str(like), key)
    except InputError:  # converted on the way in
        return None
    places = {id(tensor): name for name, tensor in found.state.items() if isinstance(tensor, Tensor)}
    new = {place: tensors[name] for place, name in places.items() if name in tensors}
    rewriting = _Rewriting(new)
    result = rewriting.of(content)
    if not isinstance(result, dict) or not rewriting.is_whole:
        return None
    if rewriting.left_out and not flat:
        logger.info(
            f"of {like.name} only the weights are new; left out, as of the old ones: {', '.join(rewriting.left_out[:4])}"
        )
    return result


class _Rewriting:
    """Replaces tensors within dicts and lists.

    Attributes:
        left_out: keys of what held other tensors, or objects that are not plain data.
    """

    def __init__(self, new: Mapping[int, Tensor]) -> None:
        self._new, self._seen = new, set[int]()
        self._written = {id(tensor) for tensor in new.values()}
        self.left_out: list[str] = []

    @property
    def is_whole(self) -> bool:
        """Whether every new tensor found its place."""
        return self._seen == set(self._new)

    def of(self, value: Any, key: str = "") -> Any:
        """``value`` with other tensors; ``_OMITTED`` where none of its tensors is known."""
        if id(value) in self._new:
            self._seen.add(id(value))
            return self._new[id(value)]
        if isinstance(value, Mapping):
            return self._of_mapping(value, key)
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            parts = [self.of(part, key) for part in value]
            return _OMITTED if any(part is _OMITTED for part in parts) else type(value)(parts)
        return value if type(value) in _PLAIN else _OMITTED

    def _of_mapping(self, value: Mapping[Any, Any], key: str) -> Any:
        beside = any(id(part) in self._new for part in value.values())
        kept: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
        omitted = []
        for name, part in value.items():
            found = part if beside and isinstance(part, Tensor) and id(part) not in self._new else self.of(part, str(name))
            if found is _OMITTED:
                omitted.append(str(name))
            else:
                kept[name] = found
        if omitted and not self._holds_any(kept):
            return _OMITTED
        self.left_out += omitted
        return kept

    def _holds_any(self, value: Any) -> bool:
        """Whether a new tensor lies anywhere within ``value``."""
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
        return id(value) in self._written or any(self._holds_any(part) for part in parts)


def _flat(content: Mapping[str, Any], tensors: Mapping[str, Tensor], tied: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors by the names of a flat file, else by the model's; of tied ones the first name."""
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return dict(content)
    return {name: tensor for name, tensor in tensors.items() if name not in tied}
