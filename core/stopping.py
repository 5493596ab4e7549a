"""Ctrl-C, SIGTERM and SIGUSR1 end a command in good order: finished work is kept, one line says so, exit code 128 + signal.

The first signal raises ``Stopped`` in the main thread: at once, or inside ``shielded`` where the code next asks, because work
that several ranks do together must not be left by one of them alone. A second signal, or ``GRACE_S`` seconds without an end,
ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 20.0  # batch systems kill some 30 seconds after their warning
_REPEAT_S = 1.0  # a terminal and a launcher may both pass on one key press
_SAVE_S = 5.0

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end.

    Args:
        number: number of the signal.
        kept: what is kept and how to go on, as in "279 of 1,681 points are kept in t.h5; the same command goes on from there".
    """

    def __init__(self, number: int = signal.SIGINT, kept: str = "") -> None:
        super().__init__(number, kept)
        self.number, self.kept = int(number), kept

    def __str__(self) -> str:
        what = "interrupted" if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}"
        return f"{what}; {self.kept}" if self.kept else what


class _State:
    number: int | None = None
    since = 0.0
    shields = 0
    save: Callable[[], None] | None = None
    timer: threading.Timer | None = None
    end: Callable[[int], None] = staticmethod(os._exit)


_state = _State()


def requested() -> int | None:
    """The number of the signal that asked this process to end, if any."""
    return _state.number


def check() -> None:
    """Raise ``Stopped`` if a signal waits."""
    if _state.number is not None:
        raise Stopped(_state.number)


def request(number: int) -> None:
    """Note a signal that another rank received."""
    _state.number = number


@contextmanager
def listening(rank: int | None = None) -> Iterator[None]:
    """Turn the signals into ``Stopped`` while this holds; for the main thread.

    Args:
        rank: this process's rank in an MPI job; only rank 0 prints when time has run out.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.number, _state.shields, _state.save, _state.timer, _state.end = None, 0, None, None, os._exit

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if _state.number is not None:
            if now - _state.since > _REPEAT_S:
                _end_now(rank)
            return
        _state.number, _state.since = number, now
        _state.timer = threading.Timer(GRACE_S, _end_now, (rank,))
        _state.timer.daemon = True
        _state.timer.start()
        if not _state.shields:
            raise Stopped(number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _state.timer is not None and rank is None:  # else the ranks still have to end together
            _state.timer.cancel()


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Add to an interruption what is kept and how to go on, unless it is known already."""
    try:
        yield
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        raise Stopped(number, getattr(stop, "kept", "") or kept()) from stop


@contextmanager
def shielded() -> Iterator[None]:
    """Let signals wait while this holds; the code inside asks ``requested`` where it can stop."""
    _state.shields += 1
    try:
        yield
    finally:
        _state.shields -= 1


def shield() -> None:
    """Let signals wait from here on: this process is one of several ranks."""
    _state.shields += 1


@contextmanager
def exposed() -> Iterator[None]:
    """Within ``shielded``: let signals raise while this holds, and one that has waited at its start."""
    shields, _state.shields = _state.shields, 0
    try:
        if shields:
            check()
        yield
    finally:
        _state.shields = shields


@contextmanager
def last_resort(save: Callable[[], None], end: Callable[[int], None] = os._exit) -> Iterator[None]:
    """What a process does that has to end before its main thread can.

    Args:
        save: brings finished work to the disk; called from another thread.
        end: ends this process, and the others of the job, with an exit code.
    """
    before = _state.save, _state.end
    _state.save, _state.end = save, end
    try:
        yield
    finally:
        _state.save, _state.end = before


def _end_now(rank: int | None) -> None:
    number = _state.number or signal.SIGINT
    if _state.save is not None:
        saving = threading.Thread(target=_state.save, daemon=True)
        saving.start()
        saving.join(_SAVE_S)
    if not rank:
        stopped = Stopped(number, "finished work is kept, and the same command goes on from there" if _state.save else "")
        print(f"paraloss: {stopped}", file=sys.stderr, flush=True)
    _state.end(128 + number)
    os._exit(128 + number)
