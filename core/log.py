"""What a run reports: the standard logger ``paraloss``, and the handler that the command line installs for it.

A Python program configures it as any other: ``logging.basicConfig(level=logging.INFO)`` shows what is going on. Without that,
only warnings are shown, by Python's own last resort.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paraloss.text import printable

logger = logging.getLogger("paraloss")

_WARNING = "warning: "


@contextmanager
def shown_on_stderr(level: int, rank: int | None = None) -> Iterator[None]:
    """Show the logger's lines on standard error while this holds.

    Args:
        level: lowest level to show, such as ``logging.INFO``; ``logging.DEBUG`` puts the time before each line.
        rank: this process's rank in an MPI job. Ranks other than 0 show warnings only, with their number.
    """
    handler = _StandardError()
    if rank:
        level = max(level, logging.WARNING)
    handler.setFormatter(_Lines(f"rank {rank}: " if rank else "", level <= logging.DEBUG))
    handler.setLevel(level)
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _StandardError(logging.StreamHandler[Any]):
    """Writes to whatever ``sys.stderr`` is at the moment: a progress bar replaces it while it is drawn."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stderr


class _Lines(logging.Formatter):
    """Messages as they are; warnings say that they are warnings."""

    def __init__(self, before: str, timed: bool) -> None:
        super().__init__("%(asctime)s %(message)s" if timed else "%(message)s", "%H:%M:%S")
        self._before = before

    def format(self, record: logging.LogRecord) -> str:
        kind = _WARNING if record.levelno >= logging.WARNING else ""
        lines = "\n".join(map(printable, record.getMessage().split("\n")))  # a name out of a file must not steer the terminal
        shown = logging.makeLogRecord({**record.__dict__, "msg": f"{self._before}{kind}{lines}", "args": None})
        return super().format(shown)
