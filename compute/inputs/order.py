"""The order of a run's checkpoints: by the epoch or step that they record, else by the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paraloss.compute.inputs.formats import SUFFIXES, is_weights_folder, read_content
from paraloss.compute.inputs.formats.restricted import as_number
from paraloss.errors import InputError

_NUMBER = re.compile(r"\d+")
_COUNTS = {2: "two", 3: "three"}
_RECORDED = ("epoch", "global_step", "step", "iteration", "iter")


def by_number(paths: Sequence[Path]) -> list[Path]:
    """Sort files so that numbers in their names count as numbers: ``epoch_9`` before ``epoch_10``."""
    return sorted(paths, key=lambda path: (_NUMBER.sub("#", path.name), _numbers(path.name), path.name))


def checkpoints_in_order(named: Sequence[Path], least: int = 3) -> tuple[list[Path], str]:
    """A run's checkpoints in the order of training.

    Args:
        named: one folder, whose numbered checkpoints are taken; or the files, which keep their order unless it is a shell's
            alphabetical one that puts ``epoch_10`` before ``epoch_9``.
        least: number of checkpoints that a run must have.

    Returns:
        The files, and one line that says how they were ordered and what was left out.

    Raises:
        InputError: fewer than ``least`` checkpoints, or a folder with several series or without an order.
    """
    if len(named) == 1 and named[0].is_dir() and not is_weights_folder(named[0]):
        found, how = _in_folder(named[0], least)
    else:
        found, how = list(named), "as they were named"
        numeric = by_number(found)
        if len({series_of(path) for path in found}) == 1 and found == sorted(found) and found != numeric:
            found, how = numeric, "by the numbers in their names"
    if len(found) < least:
        where = f"{found[0]}: is one checkpoint; " if len(found) == 1 else ""
        raise InputError(
            f"{where}name a folder of checkpoints, or {_COUNTS[least]} checkpoints at least in the order of training"
        )
    names = [path.name for path in found]
    listed = ", ".join(names if len(names) <= 6 else [*names[:3], "…", *names[-2:]])
    return found, f"{len(found)} checkpoints, {how}: {listed}"


def _in_folder(folder: Path, least: int) -> tuple[list[Path], str]:
    """The checkpoints of a folder: of its one numbered series, else of all that record different epochs or steps."""
    there = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES or is_weights_folder(path)]
    there = [path for path in there if not path.name.startswith(".")]
    series: dict[str, list[Path]] = {}
    for path in there:
        if _numbers(path.name):
            series.setdefault(series_of(path), []).append(path)
    long = {pattern: paths for pattern, paths in series.items() if len(paths) > 1}
    if len(long) > 1:
        raise InputError(
            f"{folder}: holds several series of checkpoints, {', '.join(sorted(long)[:4])}; name the files of one, as in "
            f"{folder / sorted(long)[0].replace('#', '*')}"
        )
    chosen = next(iter(long.values())) if long else there
    if len(chosen) < least:
        raise InputError(f"{folder}: holds {len(chosen)} checkpoints in a series; name {_COUNTS[least]} checkpoints at least")
    found, how = _ordered(folder, chosen)
    rest = sorted(path.name for path in there if path not in chosen)
    return found, how + (f" (left out: {', '.join(rest[:4])}{' …' if len(rest) > 4 else ''})" if rest else "")


def _ordered(folder: Path, paths: Sequence[Path]) -> tuple[list[Path], str]:
    recorded = {path: _recorded(path) for path in paths}
    for key in _RECORDED:
        steps = [record.get(key) for record in recorded.values()]
        if None not in steps and len(set(steps)) == len(steps):
            return sorted(paths, key=lambda path: recorded[path][key]), f"by the {key} that they record"
    if len({series_of(path) for path in paths}) == 1:
        return by_number(paths), "by the numbers in their names"
    raise InputError(f"{folder}: its checkpoints neither record different epochs nor differ by a number; name them in order")


def _recorded(path: Path) -> dict[str, float]:
    """The epoch and step that a checkpoint records, at its top or in what ``paraloss train`` noted."""
    content = read_content(path, mapped=True)
    top: Mapping[Any, Any] = content if isinstance(content, Mapping) else {}
    places = [place for place in (top, top.get("paraloss")) if isinstance(place, Mapping)]
    numbers = {key: as_number(place[key]) for place in places for key in _RECORDED if key in place}
    return {key: number for key, number in numbers.items() if number is not None}


def series_of(path: Path) -> str:
    """A name with its numbers left open, as in ``epoch_#.pt``; with its folder, for checkpoints that are named alike."""
    return _NUMBER.sub("#", path.name)


def _numbers(name: str) -> tuple[int, ...]:
    """All numbers in a name but those of a suffix such as ``.t7``."""
    return tuple(int(number) for number in _NUMBER.findall(Path(name).stem))
