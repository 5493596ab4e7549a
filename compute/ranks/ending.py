"""How the ranks of a job end together: what stops one of them is raised on all, and nobody waits for a rank that has gone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from paraloss.errors import InputError, ParalossError
from paraloss.stopping import Stopped, request, requested
from paraloss.text import one_line


class RankFailed(Exception):
    """Another rank failed for a reason that is no ``ParalossError``; the message names the rank and its error."""


class RankLost(InputError):
    """A rank has died or cannot be reached; the message names it."""


@dataclass(frozen=True)
class Report:
    """What a rank reports to the others.

    Attributes:
        rank: its number.
        stop: number of the signal that it received.
        wrong: message of a ``ParalossError``; ``arguments`` as there.
        fault: name and message of any other exception.
        lost: how a rank was lost, as in "rank 1 was killed by SIGKILL"; reported by another one.
        missing: number of points that are missing for that reason.
    """

    rank: int
    stop: int | None = None
    wrong: str = ""
    arguments: tuple[str, ...] = ()
    fault: str = ""
    lost: str = ""
    missing: int | None = None


def report(rank: int, error: BaseException | None, label: str = "") -> Report | None:
    """Return what ``error``, or a signal that waits, means for the other ranks; None where all is well.

    Args:
        rank: this rank's number.
        error: what its work raised.
        label: goes before the message of a ``ParalossError``.
    """
    if isinstance(error, KeyboardInterrupt):
        return Report(rank, stop=error.number if isinstance(error, Stopped) else requested() or Stopped().number)
    if isinstance(error, RankLost) and not is_shared(error):  # else its message says already what is missing
        return Report(rank, lost=error.message)
    if isinstance(error, ParalossError):
        return Report(rank, wrong=label + error.message, arguments=error.arguments)
    if error is not None:
        return Report(rank, fault=f"{type(error).__name__}: {one_line(error)[:200]}")
    number = requested()
    return None if number is None else Report(rank, stop=number)


def raise_together(reports: Sequence[Report | None], mine: BaseException | None = None) -> None:
    """Raise what the first rank reported; every rank calls this with the same ``reports``.

    Args:
        reports: reports of all ranks.
        mine: this rank's own exception, which keeps its traceback where it is the one that is raised.

    Raises:
        Stopped: a rank received a signal.
        InputError: a rank raised a ``ParalossError``.
        RankLost: a rank was lost.
        RankFailed: a rank raised anything else; on that rank its own exception is raised.
    """
    found = [each for each in reports if each is not None]
    if not found:
        return
    for each in found:
        if each.stop is not None:
            request(each.stop)
            raise _shared(Stopped(each.stop))
    for each in found:
        if each.wrong:
            raise _shared(InputError(each.wrong, each.arguments))
    lost = [each for each in found if each.lost]
    if lost:
        raise _shared(RankLost(_what_is_missing(max(lost, key=lambda each: each.missing or 0))))
    if mine is not None and not isinstance(mine, ParalossError):
        raise _shared(mine)
    raise _shared(RankFailed(f"rank {found[0].rank}: {found[0].fault}"))


def _what_is_missing(report: Report) -> str:
    missing = report.missing
    if missing is None:
        return f"{report.lost}; finished points are kept, and the same command goes on from there"
    points, them = ("1 point is", "it") if missing == 1 else (f"{missing:,} points are", "them")
    return f"{report.lost}: {points} missing; the same command computes {them}"


def is_shared(error: BaseException) -> bool:
    """Whether every rank raises ``error`` or its like, so that they can end in good order."""
    return bool(getattr(error, "raised_on_all_ranks", False))


def _shared(error: BaseException) -> BaseException:
    error.raised_on_all_ranks = True  # type: ignore[attr-defined]
    return error


def abort_on_exception(rank: int, abort: Callable[[int], None]) -> None:
    """End all ranks when a program on this one ends by an exception that the others do not have.

    Args:
        rank: this rank's number. What all ranks raise is printed by rank 0 only.
        abort: ends all ranks with an exit code.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if is_shared(error):
            if rank == 0:
                before(kind, error, where)
            return
        before(kind, error, where)
        print(f"paraloss: rank {rank} ends all ranks: {kind.__name__}: {one_line(error)[:200]}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        abort(1)

    sys.excepthook = hook
