"""A point that takes too long ends the job with a word, instead of letting all ranks wait for ever (``--point-timeout``)."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Watchdog:
    """Watches the point that this rank evaluates, from a thread of its own.

    Args:
        seconds: the longest that a point may take; None watches nothing.
        comm: all ranks; None for one process.
        save: brings recorded results into the file, on the rank that writes it.

    A rank whose model hangs can neither be told to stop nor take part in anything: the whole job ends (exit code 2), with all
    finished points in the file, and the same command goes on from there.
    """

    def __init__(self, seconds: float | None, comm: Any | None, save: Callable[[], None]) -> None:
        self._seconds, self._comm, self._save = seconds, comm, save
        self._since: float | None = None
        self._place = ""
        if seconds is not None:
            threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def over(self, place: str) -> Iterator[None]:
        """While this holds the clock runs; ``place`` names the point."""
        self._place, self._since = place, time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def _watch(self) -> None:
        assert self._seconds is not None
        while True:
            time.sleep(min(0.2, self._seconds / 4))
            since = self._since
            if since is not None and time.monotonic() - since > self._seconds:
                self._end()

    def _end(self) -> None:
        rank = "" if self._comm is None else f"rank {self._comm.rank}: "
        told = f"paraloss: {rank}the point at {self._place} took longer than {self._seconds:g} s (--point-timeout); the same"
        print(f"{told} command goes on from what is finished", file=sys.stderr, flush=True)
        saving = threading.Thread(target=self._save, daemon=True)
        saving.start()
        saving.join(timeout=5)
        if self._comm is not None:
            time.sleep(2)  # rank 0 brings to the disk what it has
            self._comm.Abort(2)
        os._exit(2)
