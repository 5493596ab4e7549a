"""The checkpoint at the origin of a plane that several runs are projected onto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from paraloss.compute.inputs.checkpoints import load_checkpoint, put, state_sha256, weights_sha256
from paraloss.compute.inputs.runs import Run
from paraloss.compute.options.runs import ProjectionOptions
from paraloss.errors import InputError
from paraloss.log import logger
from paraloss.surface.hdf5 import open_hdf5, read_provenance_of, read_text
from paraloss.surface.reader import FORMAT
from paraloss.text import printable


@dataclass(frozen=True)
class Center:
    """The checkpoint at (0, 0).

    Attributes:
        path: the checkpoint.
        rule: why it is this one, for a message and the file.
        is_chosen: whether it is another one than the usual end of the first run.
        facts: what the file records of it.
    """

    path: Path
    rule: str
    is_chosen: bool
    facts: dict[str, Any]


def find_center(model: nn.Module, runs: Sequence[Run], asked: ProjectionOptions) -> Center:
    """Find the origin of the plane and put its weights into ``model``.

    Args:
        model: a copy that may be changed.
        runs: the runs in one plane.
        asked: ``center`` names the checkpoint; ``onto`` a file that may record its own center.

    Raises:
        InputError: the center of the surface ``onto`` is not among the checkpoints, or a checkpoint does not fit the model.
    """
    key, end = asked.weights_key, runs[0].checkpoints[-1]
    digest, name = (None, "") if asked.onto is None else _own_center(Path(asked.onto))
    if asked.center is not None:
        center = Path(asked.center)
        record = _put(model, center, key)
        if digest is not None and state_sha256(model) != digest:
            logger.warning(f"{center} is not the center of {asked.onto}: the plane is parallel to that surface's, not the same")
        return _center(center, "which was named", True, record)
    if digest is None:
        record = _put(model, end, key)
        return _center(end, "the last checkpoint" + (" of the first run" if len(runs) > 1 else ""), False, record)
    ends = [run.checkpoints[-1] for run in runs]
    for path in dict.fromkeys([*ends, *(path for run in runs for path in run.checkpoints)]):
        record = _put(model, path, key)
        if state_sha256(model) == digest:
            return _center(path, f"the center of {Path(str(asked.onto)).name}", True, record)
    known = f", {name}," if name else ""
    raise InputError(
        f"{asked.onto}: its center{known} is none of the checkpoints named; name that checkpoint with {{center}}",
        arguments=("center",),
    )


def _center(path: Path, rule: str, is_chosen: bool, record: dict[str, Any]) -> Center:
    facts = {
        "checkpoint": path.resolve().name,
        "checkpoint_sha256": weights_sha256(path),
        "trained": record,
        "center": rule,
    }
    return Center(path, rule, is_chosen, facts)


def _put(model: nn.Module, path: Path, key: str | None) -> dict[str, Any]:
    """Load a checkpoint into ``model``; returns what it records."""
    state, record = load_checkpoint(path, model=model, weights_key=key)
    put(model, state, str(path))
    return record


def _own_center(path: Path) -> tuple[str | None, str]:
    """SHA-256 of the weights at a surface's center, and the name of their checkpoint; None where a file does not record it."""
    with open_hdf5(path) as file:
        if read_text(file, "format") != FORMAT:
            return None, ""
        facts = read_provenance_of(file, path)
    digest = facts.get("weights_sha256")
    return (digest if isinstance(digest, str) else None), printable(facts.get("checkpoint") or "")
