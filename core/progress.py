"""A progress bar on a terminal, and occasional lines everywhere else (mpiexec, batch logs, CI)."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from itertools import chain, repeat
from types import TracebackType

from paraloss.log import logger


def duration(seconds: float) -> str:
    """``75`` -> ``1:15``; hours appear from one hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def pauses() -> Iterator[float]:
    """Seconds between the lines in a log: 5 for the first minute, then a minute, and 5 minutes after the first half hour."""
    return chain(repeat(5.0, 12), repeat(60.0, 29), repeat(300.0))


class Progress:
    """Count work items and show their share, rate and the time left.

    Args:
        title: name of the work.
        total: number of items.
        done: number of items finished before (a resumed job), which do not count for the rate. Default: 0.
        unit: plural noun for the items. Default: points.
        shown: whether to show anything; False on ranks other than 0. Default: True.
    """

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "points", shown: bool = True) -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self.shown = shown and logger.level <= logging.INFO  # NOTSET, too: a Python program did not choose
        self.start_done = done
        self.start = self.last_line = time.monotonic()
        self._pauses = pauses()
        self._pause = next(self._pauses)
        self._bar = self._terminal_bar() if self.shown and sys.stderr.isatty() else None

    def _terminal_bar(self):  # type: ignore[no-untyped-def]
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress
        except ImportError:  # lines instead, as in a log
            return None

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        bar = RichProgress(*columns, console=Console(stderr=True))
        self._task = bar.add_task(self.title, total=self.total, completed=self.done, rate="")
        return bar

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()
        elif self.shown and kind is None and self.last_line > self.start:
            self._line()

    @property
    def rate(self) -> float:
        """Items per second since the start."""
        return (self.done - self.start_done) / max(time.monotonic() - self.start, 1e-9)

    def advance(self, items: int = 1) -> None:
        """Count ``items`` more as done."""
        self.done += items
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:.4g} {self.unit}/s")
        elif self.shown and time.monotonic() - self.last_line >= self._pause:
            self._line()
            self._pause = next(self._pauses)

    def expect(self, total: int) -> None:
        """Correct the number of items, where it was an estimate."""
        self.total = total
        if self._bar:
            self._bar.update(self._task, total=total)

    def _line(self) -> None:
        self.last_line = time.monotonic()
        left = duration((self.total - self.done) / self.rate) if self.rate > 0 else "unknown"
        share = 100 * self.done / max(self.total, 1)
        logger.info(
            f"{self.title}: {self.done}/{self.total} {self.unit} ({share:.0f} %), {self.rate:.4g} {self.unit}/s, {left} left"
        )
