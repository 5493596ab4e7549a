"""Jobs that stop at a chosen point and wait there for whatever is done to them: no test of theirs depends on speed.

``mine.py`` holds a model whose forward passes are counted. Where a file ``hold`` holds a number, the pass of that number writes
``held`` and waits for the file ``hold`` to go, or for the end of the process. Where ``hold`` also names a file, only passes
after that file has appeared count: every rank then waits while it evaluates points.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from helpers import BIN, launcher

MINE = """
import os, pathlib, time
import torch
from torch import nn

RANK, hold = os.environ.get("PMI_RANK") or os.environ.get("RANK", "0"), pathlib.Path("hold")

def written(path):
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""

class Net(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        counted = False
        while True:
            number, _, since = written(hold).partition(" ")
            if not number or since and not pathlib.Path(since).exists():
                break
            Net.calls += not counted
            counted = True
            if Net.calls < int(number):
                break
            pathlib.Path("held" + RANK).touch()
            time.sleep(0.01)
        return self.last(torch.tanh(self.first(x)))

def data():
    torch.manual_seed(0)
    return {"train": (torch.randn(96, 4), torch.randint(0, 3, (96,)))}
"""
OWN = ["--model", "mine.py:Net", "--data", "mine.py:data"]


def prepare(folder: Path) -> None:
    """Write ``mine.py`` and four checkpoints of a path into ``folder``."""
    import torch

    (folder / "mine.py").write_text(MINE)
    (folder / "path").mkdir()
    for number in range(4):
        torch.manual_seed(number)
        weights = {"first.weight": torch.randn(5, 4), "first.bias": torch.zeros(5), "last.weight": torch.randn(3, 5)}
        torch.save({**weights, "last.bias": torch.zeros(3)}, folder / "path" / f"epoch_{number:03d}.pt")


def start(folder: Path, command: Sequence[str], hold: str = "", ranks: int = 0, engine: str = "mpi") -> subprocess.Popen[str]:
    """Start ``paraloss`` in a process group of its own, to wait where ``hold`` says: "20", or "20 s.h5"."""
    for held in folder.glob("held*"):
        held.unlink()
    (folder / "hold").unlink(missing_ok=True)
    if hold:
        (folder / "hold").write_text(hold)
    before = launcher(ranks, engine) if ranks else []
    return subprocess.Popen(
        [*before, str(BIN / "paraloss"), *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_until_held(process: subprocess.Popen[str], folder: Path, ranks: int = 1, timeout: float = 240) -> bool:
    """Whether every rank waits; False where the process ended before."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if all((folder / f"held{rank}").exists() for rank in range(ranks)):
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    end(process)
    raise AssertionError(f"nothing happened in {timeout:g} s: {process.communicate()[1][-500:]}")


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The process numbers of the ranks below a launcher, in no order; of torchrun with their guards."""
    found, waiting = [], [process.pid]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                waiting.append(child)
                with contextlib.suppress(OSError):
                    if re.search(rb"\0(PMI|LOCAL)_RANK=", Path(f"/proc/{child}/environ").read_bytes()):
                        found.append(child)
    return found


def end(process: subprocess.Popen[str]) -> None:
    """Kill a job with all its processes."""
    for rank in ranks_of(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
