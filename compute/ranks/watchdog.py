"""Abort the job when one point exceeds a time limit (``--point-timeout``), instead of all ranks waiting forever."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paraloss.compute.ranks.world import World


class Watchdog:
    """Watches the point that this rank evaluates, from a thread of its own.

    Args:
        seconds: the longest that a point may take; None for no limit.
        world: all ranks.
        save: brings recorded results into the file, on the rank that writes it.

    A rank whose model hangs neither receives messages nor takes part in anything: the whole job ends (exit code 2), with all
    finished points in the file, and the same command resumes from there.
    """

    def __init__(self, seconds: float | None, world: World, save: Callable[[], None]) -> None:
        self._seconds, self._world, self._save = seconds, world, save
        self._since: float | None = None
        self._place = ""
        if seconds is not None:
            threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def over(self, place: str) -> Iterator[None]:
        """Run the clock while the block runs; ``place`` names the point in the message."""
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
        text = f"the point at {self._place} took longer than {self._seconds:g} s (--point-timeout)"
        resume = "the same command resumes with the points that are missing"
        print(f"paraloss: {self._world.label}{text}; {resume}", file=sys.stderr, flush=True)
        saving = threading.Thread(target=self._save, daemon=True)
        saving.start()
        saving.join(timeout=5)
        if self._world.size > 1:
            time.sleep(2)  # rank 0 writes what it has received
        self._world.abort(2)
        os._exit(2)
