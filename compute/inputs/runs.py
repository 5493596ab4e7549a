"""Several runs that are seen in one plane: which checkpoints each has, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paraloss.compute.inputs.formats import is_weights_folder
from paraloss.compute.inputs.order import by_number, checkpoints_in_order, series_of
from paraloss.errors import InputError
from paraloss.text import printable

Named = str | Path
Runs = Named | Sequence[Named | Sequence[Named]] | Mapping[str, Named | Sequence[Named]]
"""A folder or the checkpoints of one run; or several runs, each a folder, a pattern or a list, as a dict with their labels."""

_MOST = 1000


@dataclass(frozen=True)
class Run:
    """A run's checkpoints.

    Attributes:
        label: name of the run in pictures and tables; empty for one run alone.
        checkpoints: in the order of training.
        how: one line that says how they were ordered.
    """

    label: str
    checkpoints: list[Path]
    how: str


def runs_of(named: Runs, labels: Sequence[str] | None = None) -> list[Run]:
    """Find the runs that were named, and the order of the checkpoints in each.

    Args:
        named: see ``Runs``. A pattern holds ``*``, ``?`` or ``[`` and is no file, as in ``sgd/epoch_*.pt``.
        labels: one per run. Default: the names of the folders, as much of their paths as distinguishes them.

    Raises:
        InputError: runs mixed with checkpoints, a run of fewer than two checkpoints (three for one run alone), labels that
            are not one per run or not different, or a folder without an order, see ``checkpoints_in_order``.
    """
    parts, keys = _parts(named)
    if len(parts) == 1:
        if labels:
            raise InputError(
                "{label} names several runs; there is one, which needs no label in its picture", arguments=("label",)
            )
        found, how = checkpoints_in_order(parts[0])
        return [Run("", found, how)]
    if len(parts) > _MOST:
        raise InputError(f"{len(parts)} runs are too many for one plane; {_MOST} at most")
    chosen = [checkpoints_in_order(part, least=2) for part in parts]
    names = list(labels) if labels else keys or _unique([_place(part) for part in parts])
    names = [printable(" ".join(name.split())) for name in names]
    if len(names) != len(parts):
        raise InputError(f"{{label}} is given {len(names)} times for {len(parts)} runs; give one each", arguments=("label",))
    if "" in names or len(set(names)) < len(names):
        raise InputError(f"the labels {', '.join(names)} do not tell the runs apart; choose others", arguments=("label",))
    return [Run(name, found, f"{name}: {how}") for name, (found, how) in zip(names, chosen, strict=True)]


def _parts(named: Runs) -> tuple[list[list[Path]], list[str]]:
    """What was named as a list per run, and the labels where a dict gives them."""
    if isinstance(named, str | Path):
        return [_expanded(Path(named))], []
    if isinstance(named, Mapping):
        lists = [_expanded(Path(one)) if isinstance(one, str | Path) else [Path(p) for p in one] for one in named.values()]
        return lists, [str(key) for key in named] if len(named) > 1 else []
    if not named:
        raise InputError("name a folder of checkpoints, or three checkpoints at least in the order of training")
    runs = [_is_run(one) for one in named]
    if not any(runs):
        return [[Path(one) for one in named if isinstance(one, str | Path)]], []
    if not all(runs):
        other = next(one for one, run in zip(named, runs, strict=True) if not run)
        raise InputError(f"{other}: is one checkpoint among runs; name the folder of each run, or the checkpoints of one")
    return [_expanded(Path(one)) if isinstance(one, str | Path) else [Path(p) for p in one] for one in named], []


def _is_run(one: Named | Sequence[Named]) -> bool:
    if not isinstance(one, str | Path):
        return True
    return _is_pattern(Path(one)) or (Path(one).is_dir() and not is_weights_folder(Path(one)))


def _is_pattern(path: Path) -> bool:
    return any(sign in str(path) for sign in "*?[") and not path.exists()


def _expanded(path: Path) -> list[Path]:
    """The files of a pattern by the numbers in their names; anything else as it is.

    Raises:
        InputError: nothing fits the pattern.
    """
    if not _is_pattern(path):
        return [path]
    found = by_number(list(Path(path.anchor).glob(str(path.relative_to(path.anchor)))))
    if not found:
        raise InputError(f"{path}: no file fits this pattern")
    return found


def _place(part: Sequence[Path]) -> tuple[Path, str]:
    """Where a run lies: its folder, and what its files are called besides numbers."""
    if len(part) == 1 and part[0].is_dir() and not is_weights_folder(part[0]):
        return part[0].resolve(), ""
    series = Path(series_of(part[0])).stem.replace("#", "").strip("_-. =") if part else ""
    return part[0].resolve().parent if part else Path(), series


def _unique(places: Sequence[tuple[Path, str]]) -> list[str]:
    """Short different names: the last parts of the folders, as many as differ; the files' names where folders are equal."""
    folders = [folder for folder, _ in places]
    deepest = max((len(folder.parts) for folder in folders), default=1)
    for length in range(1, deepest + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(set(folders)):
            break
    for folder in {folder for folder in folders if folders.count(folder) > 1}:
        same = [k for k, one in enumerate(folders) if one == folder]
        stems = [places[k][1] for k in same]
        apart = len(set(stems)) == len(stems) and "" not in stems
        for count, k in enumerate(same, start=1):
            names[k] = places[k][1] if apart else f"{names[k]} {count}"
    return names if len(set(names)) == len(names) else [f"{name} {number}" for number, name in enumerate(names, start=1)]
