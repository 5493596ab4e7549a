"""A progress bar on a terminal, and a line every few seconds everywhere else (mpiexec, batch logs, CI)."""

from __future__ import annotations

import sys
import time
from types import TracebackType


def say(text: str) -> None:
    """Tell the user what is going on: one line on standard error."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """``75`` -> ``1:15``; hours appear when there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts work items; shows share, rate and time left.

    Args:
        title: what is being done.
        total: items in all.
        done: items that were there before (a resumed job); they do not count for the rate.
        unit: name of an item in the plural.
        shown: False keeps silent (ranks other than 0, the Python API on request).
    """

    every_s = 5.0

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "points", shown: bool = True) -> None:
        self.title, self.total, self.done, self.unit, self.shown = title, total, done, unit, shown
        self.start_done = done
        self.start = self.last_line = time.monotonic()
        self._bar = self._terminal_bar() if shown and sys.stderr.isatty() else None

    def _terminal_bar(self):  # type: ignore[no-untyped-def]
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

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
        """Items a second since the start."""
        return (self.done - self.start_done) / max(time.monotonic() - self.start, 1e-9)

    def advance(self, items: int = 1) -> None:
        """Note that ``items`` more are done."""
        self.done += items
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:.4g} {self.unit}/s")
        elif self.shown and time.monotonic() - self.last_line >= self.every_s:
            self._line()

    def _line(self) -> None:
        self.last_line = time.monotonic()
        left = duration((self.total - self.done) / self.rate) if self.rate > 0 else "unknown"
        share = 100 * self.done / max(self.total, 1)
        say(f"{self.title}: {self.done}/{self.total} {self.unit} ({share:.0f} %), {self.rate:.4g} {self.unit}/s, {left} left")
