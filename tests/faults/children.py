"""Commands in forked children of a process that has imported everything: a few milliseconds a case, and no crash spreads."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_ADDRESSES = 4 << 30  # bytes that a child may reserve beyond what its parent has


@dataclass(frozen=True)
class Outcome:
    """How a child ended: exit code, signal (0 for none), its last words and how many MB it took beyond its parent's."""

    code: int
    signal: int
    said: str
    memory_mb: float
    seconds: float

    def harm(self, memory_mb: float = 600) -> str:
        """Return what is wrong with this end, or "": a crash, a hang, a traceback, an internal error, or too much memory."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        last = lines[-1][:300] if lines else "no message"
        if self.signal == signal.SIGALRM:
            return "hang"
        if self.signal:
            return f"crash by signal {self.signal}: {last}"
        if "Traceback (most recent call last)" in self.said:
            return f"traceback: {last}"
        if "internal error" in self.said or self.code not in (0, 2):
            return f"exit code {self.code}: {last}"
        if self.code == 2 and not any(line.startswith("paraloss: ") for line in lines):
            return f"exit code 2 without its line: {last}"
        if self.memory_mb > memory_mb:
            return f"memory: {self.memory_mb:.0f} MB"
        return ""


def in_child(work: Callable[[], object], folder: Path, seconds: int = 30) -> Outcome:
    """Run ``work`` in a child of this process, with ``folder`` as its working directory.

    Args:
        work: ends as a command does: returns, or raises SystemExit with a code.
        folder: the child's working directory.
        seconds: longest time; a child that takes longer ends by SIGALRM.
    """
    words = folder.with_name(folder.name + ".said")
    began, before = time.monotonic(), _resident_mb()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            _prepare(folder, words, seconds)
            code = _code_of(work)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    said = words.read_bytes()[-20_000:].decode(errors="replace") if words.exists() else ""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -number
    return Outcome(code, number, said, usage.ru_maxrss / 1024 - before, time.monotonic() - began)


def command(words: Sequence[str], folder: Path, seconds: int = 30) -> Outcome:
    """Run ``paraloss …`` in a child."""
    from paraloss.cli import main

    return in_child(lambda: main(list(words)), folder, seconds)


def _prepare(folder: Path, words: Path, seconds: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    with contextlib.suppress(ValueError, OSError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _MOST_ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)
    said = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 2)
    os.dup2(said, 1)
    sys.stderr, sys.stdout = os.fdopen(2, "w", errors="backslashreplace"), os.fdopen(1, "w", errors="backslashreplace")
    warnings.simplefilter("ignore")


def _code_of(work: Callable[[], object]) -> int:
    try:
        work()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 98
    return 0


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
