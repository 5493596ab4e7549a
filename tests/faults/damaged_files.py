"""Damaged files of every format through the verbs that read them: ``python damaged_files.py [CASES] [SEED]``.

Each case is one file and one command in a child of its own. Sound ends are exit code 0, or 2 with one line.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from children import Outcome, command, in_child
from damage import Dice, damaged, originals

SMALL = ["--x=-1:1:2", "--y=-1:1:2", "--precision", "fp32"]
MINE = """
import torch
def model(): return torch.nn.Sequential(torch.nn.Linear(4, 3))
def data(): return {"train": (torch.ones(5, 4), torch.arange(5) % 3)}
"""
OWN = ["--model", "mine.py:model", "--data", "mine.py:data"]
SURFACE = [
    ["info", "FILE"], ["info", "FILE", "--repair"], ["convert", "FILE", "out.vts"], ["convert", "FILE", "out.csv"],
    ["convert", "FILE", "out.h5"], ["convert", "FILE", "out.vtkhdf"], ["analyze", "FILE", "--json"],
    ["render", "FILE", "out.html"], ["convert", "small.h5", "FILE"],
    ["compute", "--weights", "w.pt", *OWN, *SMALL, "-o", "FILE"],
    ["compute", "--weights", "w.pt", *OWN, *SMALL, "--directions", "FILE", "-o", "out.h5"],
]  # fmt: skip
CHECKPOINT = [
    ["info", "FILE"], ["compute", "--weights", "FILE", *OWN, *SMALL, "-o", "out.h5"],
    ["compute", "--weights", "w.pt", "--x-to", "FILE", *OWN, *SMALL, "-o", "out.h5"], ["histogram", "FILE", "out.png"],
]  # fmt: skip
GRID = [["info", "FILE"], ["convert", "FILE", "out.vts"], ["convert", "small.h5", "FILE"], ["render", "FILE", "out.html"]]
RARE = {"histogram", "compute", "--repair"}  # a tenth of a second and more


@dataclass
class Tally:
    """What became of the cases of one format."""

    cases: int = 0
    done: int = 0
    refused: int = 0
    most_mb: float = 0
    slowest_s: float = 0
    harmed: list[str] = field(default_factory=list)

    def count(self, outcome: Outcome, harm: str) -> None:
        """Count one case, and what is wrong with its end where that is not ""."""
        self.cases += 1
        self.done += outcome.code == 0
        self.refused += outcome.code == 2
        self.most_mb, self.slowest_s = max(self.most_mb, outcome.memory_mb), max(self.slowest_s, outcome.seconds)
        if harm:
            self.harmed.append(harm)


def warm_up(folder: Path) -> None:
    """Import everything that the commands need, once, and write the files that they share."""
    import torch

    from paraloss.cli import main

    torch.set_num_threads(1)
    (folder / "mine.py").write_text(MINE)
    torch.save({"0.weight": torch.ones(3, 4), "0.bias": torch.zeros(3)}, folder / "w.pt")
    for name in ("paraloss.rendering", "paraloss.rendering.histogram", "paraloss.rendering.web", "vtkmodules.vtkIOXML",
                 "vtkmodules.vtkIOHDF", "paraloss.compute", "paraloss.compute.inputs.formats.safetensors_file"):  # fmt: skip
        importlib.import_module(name)
    here = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for words in (
                [*SURFACE[0]],
                ["convert", "FILE", "warm.vts"],
                ["analyze", "FILE", "--json"],
                ["render", "FILE", "warm.html"],
            ):
                with contextlib.suppress(SystemExit):
                    main([word.replace("FILE", "small.h5") for word in words])
            with contextlib.suppress(SystemExit):
                main(["compute", "--weights", "w.pt", *OWN, *SMALL, "-o", "warm.h5"])
    finally:
        os.chdir(here)
        for warm in folder.glob("warm*"):
            warm.unlink()
    gc.collect()
    gc.freeze()  # the children copy no page for the sake of a collection


def work_for(name: str, path: Path, dice: Dice) -> tuple[str, Sequence[str] | Callable[[], object]]:
    """A command, or a function, that reads a file of this kind."""
    if name == "state.pvsm":
        from paraloss.state_files.trusted import read_state

        return "read_state", lambda: _as_command(lambda: read_state(path, trust=bool(dice.integers(2))))
    if name.startswith("grid.") and dice.random() < 0.4:
        return "open in VTK", lambda: _as_command(lambda: open_grid(path))
    if name.startswith("checkpoint"):
        ways = CHECKPOINT
    elif name == "data.npz":
        ways = [["compute", "--weights", "w.pt", *OWN[:2], "--data", "npz:FILE", *SMALL, "-o", "out.h5"]]
    elif name == "directions.h5":
        ways = [SURFACE[-1], SURFACE[0]]
    else:
        ways = GRID if name.startswith("grid.") else SURFACE
    while True:
        words = ways[int(dice.integers(len(ways)))]
        if RARE.isdisjoint(words) or len(ways) == 1 or dice.random() < 0.15:
            return " ".join(words[:2]), [word.replace("FILE", path.name) for word in words]


def open_grid(path: Path) -> None:
    """What the ParaView scripts do with a grid's file."""
    from vtkmodules.vtkIOXML import vtkXMLStructuredGridReader

    from paraloss.converters.from_grid import from_structured_grid
    from paraloss.converters.grid_file import check_grid_file

    if path.suffix != ".vts":
        return
    check_grid_file(path)
    reader = vtkXMLStructuredGridReader()
    reader.SetFileName(str(path))
    reader.Update()
    from_structured_grid(reader.GetOutput())


def _as_command(work: Callable[[], object]) -> None:
    from paraloss.errors import ParalossError

    try:
        work()
    except ParalossError as error:
        print(f"paraloss: {error}", file=sys.stderr)
        sys.exit(2)


def everything(cases: int, seed: int = 1, kept: Path | None = None, report: int = 500) -> dict[str, Tally]:
    """Damage files and read them; what became of them by format.

    Args:
        cases: how many.
        seed: of what is done to them.
        kept: folder for the files that did harm.
        report: a line of progress after so many cases; 0 for none.
    """
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as place:
        start, folder = Path(place) / "sound", Path(place) / "case"
        start.mkdir()
        sound = originals(start)
        folder.mkdir()
        shutil.copy(start / "small.h5", folder)
        warm_up(folder)
        inputs = {path.name for path in folder.iterdir()}
        names = sorted(sound)
        for case in range(cases):
            name = names[case % len(names)]
            dice = np.random.default_rng([seed, case])
            way, content = damaged(name, sound[name], dice)
            path = folder / f"case{Path(name).suffix}"
            path.write_bytes(content)
            verb, work = work_for(name, path, dice)
            outcome = in_child(work, folder) if callable(work) else command(work, folder)
            ending = Path(name).suffix
            tally = tallies.setdefault(ending, Tally())
            harm = outcome.harm()
            tally.count(outcome, f"case {case} ({name}, {way}, {verb}): {harm}" if harm else "")
            if harm:
                print("   ", tally.harmed[-1], flush=True)
                if kept:
                    (kept / f"{case}_{name}").write_bytes(content)
            for left in [left for left in folder.iterdir() if left.name not in inputs]:
                if ".tmp" in left.name:
                    tally.harmed.append(f"case {case} ({name}, {way}, {verb}): left {left.name}")
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            if report and (case + 1) % report == 0:
                print(f"    {case + 1} of {cases} damaged files, {_harmed(tallies)} came to harm", flush=True)
    return tallies


def _harmed(tallies: dict[str, Tally]) -> int:
    return sum(len(tally.harmed) for tally in tallies.values())


def show(tallies: dict[str, Tally]) -> int:
    """Print a line a format; how many cases came to harm."""
    print(f"{'format':14}{'files':>7}{'read':>7}{'refused':>9}{'harmed':>8}{'most MB':>9}{'longest s':>11}")
    for ending, tally in sorted(tallies.items()):
        print(
            f"{ending:14}{tally.cases:7}{tally.done:7}{tally.refused:9}{len(tally.harmed):8}{tally.most_mb:9.0f}{tally.slowest_s:11.1f}"
        )
    total = sum(tally.cases for tally in tallies.values())
    print(f"{total} damaged files in {len(tallies)} formats; {_harmed(tallies)} came to harm")
    return _harmed(tallies)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]]
    keep = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    sys.exit(bool(show(everything(*(numbers or [10_000]), kept=keep))))
