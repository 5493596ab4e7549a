"""Jobs killed at every moment of their work, and the results of those that go on compared bit for bit: ``make attack``.

Each job runs in a child of this process, which counts the calls that our own code makes (functions, and C functions such as a
write of HDF5's). At a call of a chosen number the child writes to a pipe, and is killed while it goes on. Numbers are drawn
from the whole run, so that kills fall into every phase: opening, tuning, learning, refining, recording, closing. No moment
depends on the machine's speed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import torch
from helpers import surface_of
from jobs import OWN, prepare

from paraloss.cli import main

HOUSE = str(Path(__file__).resolve().parents[2])
PLANE = ["compute", "--weights", "path/epoch_003.pt", *OWN, "--precision", "fp32"]
SMALL = ["--x=-1:1:7", "--y=-1:1:5"]
JOBS = {
    "compute": [*PLANE, *SMALL, "-o", "out.h5"],
    "curve": [*PLANE, "--curve", "--x=-1:1:31", "--seed", "5", "-o", "out.h5"],
    "towards checkpoints": [*PLANE, *SMALL, "--x-to", "path/epoch_000.pt", "--y-to", "path/epoch_001.pt", "-o", "out.h5"],
    "rtol": [*PLANE, "--x=-1:1:17", "--y=-1:1:9", "--rtol", "0.05", "-o", "out.h5"],
    "loss-cap": [*PLANE, *SMALL, "--loss-cap", "2", "-o", "out.h5"],
    "refine": [*PLANE, "--x=-1:1:17", "--y=-1:1:17", "--refine", "0.05", "-o", "out.h5"],
    "repeats": [*PLANE, "--curve", "--x=-1:1:9", "--repeats", "3", "-o", "out.h5"],
    "hessian metrics": [*PLANE, "--x=-1:1:3", "--y=-1:1:3", "--metrics", "loss,grad_norm,hessian", "-o", "out.h5"],
    "volume": [*PLANE, "--x=-1:1:4", "--y=-1:1:3", "--z=-1:1:3", "-o", "out.h5"],
    "project": ["project", "path", *OWN, "--precision", "fp32", "--points", "5", "-o", "out.h5"],
    "hessian": ["hessian", "--weights", "path/epoch_003.pt", *OWN, "--top", "2", "-o", "out.h5"],
    "train": ["train", *OWN, "--epochs", "4", "--batch-size", "32", "-o", "out"],
    "convert": ["convert", "s.h5", "out.vts"],
    "convert to HDF5": ["convert", "s.h5", "out.vtkhdf"],
    "render": ["render", "s.h5", "out.png", "--style", "filled"],
}


@dataclass
class Tally:
    """What became of a job that was killed again and again."""

    kills: int = 0
    finished: int = 0
    unequal: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)


class _Counter:
    """Counts the calls that our own code makes; tells the parent when number ``last`` is reached."""

    def __init__(self, last: int, pipe: int) -> None:
        self.count, self._last, self._pipe = 0, last, pipe
        self._ours: dict[Any, bool] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "c_call"):
            return
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_filename.startswith(HOUSE) and "/tests/" not in code.co_filename
        if ours:
            self.count += 1
            if self.count == self._last:
                os.write(self._pipe, b"now ")


def attempt(folder: Path, command: Sequence[str], kill_at: int = 0) -> tuple[bool, int, str]:
    """Run a command in a child, killed at call ``kill_at``; (whether it was killed, number of its calls, its last words)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 99
        try:
            os.chdir(folder)
            errors = os.open("errors", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(errors, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr, sys.stdout = os.fdopen(2, "w"), os.fdopen(1, "w")  # pytest's own are not wanted here
            for name in [name for name, module in sys.modules.items() if getattr(module, "__file__", "") and "mine" in name]:
                del sys.modules[name]
            counter = _Counter(kill_at, writing)
            sys.setprofile(counter)
            try:
                main(list(command))
                code = 0
            except SystemExit as end:
                code = int(str(end.code or 0))
            finally:
                sys.setprofile(None)
                os.write(writing, f"{code} {counter.count}".encode())
        finally:
            os._exit(code)
    os.close(writing)
    said = os.read(reading, 100)
    killed = said == b"now "
    if killed:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    killed = killed and os.WIFSIGNALED(status)
    words = (folder / "errors").read_text(errors="replace") if (folder / "errors").exists() else ""
    if killed:
        return True, kill_at, ""
    code, _, calls = said.replace(b"now ", b"").decode().partition(" ")
    problem = "" if code in ("0", "") and status == 0 else f"exit code {code or status}: {words[-300:]}"
    return False, int(calls or 0), problem


def contents(folder: Path) -> dict[str, Any]:
    """What a job has written, as bytes; of HDF5 files the data sets, because their attributes hold times and commands."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("out*") if path.is_file()) + sorted(folder.glob("out/*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(
                    lambda key, item, name=name: (
                        found.__setitem__(f"{name}:{key}", item[()].tobytes())
                        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu"
                        else None
                    )
                )
        elif path.suffix == ".pt":
            state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
            found[name] = b"".join(tensor.numpy().tobytes() for tensor in state.values())
        else:
            found[name] = path.read_bytes()
    return found


def clear(folder: Path) -> None:
    """Remove what a job has written, whole or not."""
    for path in folder.iterdir():
        if path.name not in INPUTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


INPUTS = {"mine.py", "path", "s.h5", "__pycache__"}


def attack(name: str, folder: Path, kills: int, seed: int = 1) -> Tally:
    """Kill a job ``kills`` times, anew from the beginning whenever it has finished, and compare each finished result.

    Args:
        name: a key of ``JOBS``.
        folder: empty, for its files.
        kills: how many.
        seed: for the moments.
    """
    torch.set_num_threads(1)
    prepare(folder)
    surface_of(lambda x, y: x**2 + 2 * y**2 + 0.1, 31, 21).save(folder / "s.h5")
    command, dice, tally = JOBS[name], random.Random(f"{name} {seed}"), Tally()
    _, calls, problem = attempt(folder, command)
    if problem:
        raise AssertionError(f"{name}: the undisturbed job failed: {problem}")
    expected = contents(folder)
    assert expected, f"{name}: nothing was written"
    clear(folder)
    while tally.kills < kills or not tally.finished:
        part = (tally.kills % 10 + dice.random()) / 10  # each tenth of the run in turn
        killed, _, problem = attempt(folder, command, kill_at=1 + int(part * calls) if tally.kills < kills else 0)
        tally.kills += killed
        if killed:
            continue
        tally.finished += 1
        if problem:
            tally.failed.append(problem)
        else:
            found = contents(folder)
            tally.unequal += [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
        tally.left |= {path.name for path in folder.rglob(".*")}
        clear(folder)
    return tally


def everything(kills: int, names: Sequence[str]) -> int:
    """Attack each of these kinds of job and print what became of it; the number of kinds that came to harm."""
    total, harmed = 0, 0
    print(f"{'job':22}{'kills':>7}{'finished':>10}{'unequal':>9}{'failed':>8}   left behind")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            tally = attack(name, Path(folder), kills)
        total, harmed = total + tally.kills, harmed + bool(tally.unequal or tally.failed)
        left = ", ".join(sorted(tally.left)) or "-"
        print(f"{name:22}{tally.kills:7}{tally.finished:10}{len(tally.unequal):9}{len(tally.failed):8}   {left}", flush=True)
        for line in [*tally.unequal[:3], *tally.failed[:3]]:
            print(f"    {line}")
    print(f"{total} kills in {len(names)} kinds of job; {harmed} kinds came to harm")
    return harmed


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(bool(everything(int(sys.argv[1]), sys.argv[2:] or list(JOBS))))
