"""The work queue of several ranks: they draw points from a shared counter and send results to rank 0. No point needs a
collective call.

The counter is read and raised in one step, so that a slow rank takes fewer points and nobody waits for anybody. Rank 0
evaluates too; a thread of it receives results meanwhile. A rank that dies costs the points that it had drawn; the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from paraloss.compute.ranks.ending import RankLost, Report, raise_together, report
from paraloss.compute.ranks.world import Evaluate, Record
from paraloss.errors import InputError
from paraloss.log import logger
from paraloss.stopping import check, shielded
from paraloss.text import one_line

_CHUNK_S = 0.2  # a rank draws about this much work at once, so that tiny points do not hammer the counter
_IDLE_S = 1.0
_LOOK_S = 1.0  # how often rank 0 asks whether all ranks live


class Transport(Protocol):
    """How the ranks of one engine share a counter and send results to rank 0; one for each queue.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        threaded: whether rank 0 can receive in a thread of its own.
        rest_s: how long rank 0 rests after it has received nothing.
    """

    rank: int
    size: int
    threaded: bool
    rest_s: float

    def take(self, count: int) -> int:
        """Claim ``count`` positions; the first of them."""

    def send(self, message: Any) -> None:
        """Send to rank 0: (index, metrics), at the end a report or None. May hold it back until ``flush``."""

    def flush(self) -> None:
        """Send what was held back."""

    def settle(self) -> None:
        """Wait until all that was sent has arrived."""

    def receive(self) -> list[tuple[int, Any]]:
        """On rank 0: (rank, message) of all that has arrived."""

    def lost(self) -> dict[int, str]:
        """On rank 0: rank -> how it was lost, of those that have died."""

    def publish(self, value: Any) -> Any:
        """Rank 0's value on every rank. Ranks that wait for it leave the cores to others."""

    def close(self) -> None:
        """Free what the queue used; the last call, on every rank."""


def run_parallel(
    transport: Transport, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None] = lambda: None
) -> list[int]:
    """Evaluate ``todo`` on all ranks.

    Args:
        transport: how the ranks talk; every rank calls this with the same ``todo``.
        todo: flat indices, in the order in which to visit them.
        evaluate: index -> metrics; called on every rank.
        record: called on rank 0 with each result, from one thread at a time.
        idle: called on rank 0 about once a second, never together with ``record``; writes recorded results to the disk.

    Returns:
        The ranks that were lost after they had sent all their results; the same on every rank.

    Raises:
        InputError: a point failed on some rank; raised on all, after all results so far were recorded.
        RankLost: a rank has died, and points are missing; raised likewise, after the others have finished theirs.
        Stopped: a rank received a signal; raised likewise.
        RankFailed: a rank failed for another reason; raised likewise.
    """
    with shielded():  # what the ranks do together is not left by one of them alone
        outlet = _Collector(transport, len(todo), record, idle) if transport.rank == 0 else _Sender(transport)
        outlet.begin()
        failure: BaseException | None = None
        try:
            for index in _drawn(transport, todo):
                check()
                outlet.put(index, evaluate(index))
        except RankLost as error:  # of ranks that share points with this one; the others go on
            failure = error
        except BaseException as error:
            failure = error
            transport.take(len(todo))  # nothing is left to claim for anybody
        reports = transport.publish(outlet.finish(report(transport.rank, failure, f"rank {transport.rank}: ")))
        transport.close()
        harmless = [each.rank for each in reports if each is not None and each.lost and each.missing == 0]
        raise_together([each for each in reports if each is None or each.rank not in harmless], failure)
        return harmless


def _drawn(transport: Transport, todo: Sequence[int]) -> Iterator[int]:
    """The points that this rank draws: one at first, then as many at once as take about ``_CHUNK_S``."""
    ahead, left = 1, len(todo)
    while True:
        count = min(ahead, 1 + left // (2 * transport.size))
        start = transport.take(count)
        left = max(0, len(todo) - start - count)
        chunk = todo[start : start + count]
        if len(chunk) == 0:
            return
        began = time.perf_counter()
        yield from chunk
        transport.flush()
        seconds_per_point = (time.perf_counter() - began) / len(chunk)
        ahead = max(1, int(_CHUNK_S / max(seconds_per_point, 1e-6)))


class _Sender:
    """The way of another rank's results to rank 0."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def begin(self) -> None:
        pass

    def put(self, index: int, values: list[float]) -> None:
        """Send a result."""
        self._transport.send((index, values))

    def finish(self, mine: Report | None) -> None:
        """Report the end, and wait until all has arrived."""
        self._transport.send(mine)
        self._transport.flush()
        self._transport.settle()


class _Collector(threading.Thread):
    """Receives the results of the other ranks on rank 0 and records them with its own."""

    def __init__(self, transport: Transport, total: int, record: Record, idle: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._transport, self._record, self._idle = transport, record, idle
        self._missing = total
        self._rested = self._looked = time.monotonic()
        self._running = set(range(1, transport.size))
        self._reports: list[Report | None] = []
        self._lost: dict[int, str] = {}
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Receive in a thread where this is possible; otherwise between rank 0's own points."""
        if self._transport.threaded:
            self.start()

    def put(self, index: int, values: list[float]) -> None:
        """Record a result of rank 0's own."""
        self._note(index, values)
        if not self._transport.threaded:
            self.poll()
        self._check()

    def poll(self) -> bool:
        """Receive what has arrived; whether anything had."""
        arrived = self._transport.receive()
        for rank, message in arrived:
            if isinstance(message, tuple):
                self._note(*message)
            else:
                self._running.discard(rank)
                self._reports.append(message)
        if not arrived and time.monotonic() - self._looked > _LOOK_S:
            self._look()
        return bool(arrived)

    def run(self) -> None:
        while self._running:
            try:
                if not self.poll():
                    time.sleep(self._transport.rest_s)
                if time.monotonic() - self._rested > _IDLE_S and self._error is None:
                    with self._lock:
                        self._idle()
                    self._rested = time.monotonic()
            except RankLost as error:  # rank 0 has lost the others
                self._error, self._running = error, set()
            except Exception as error:
                self._error = self._error or error

    def finish(self, mine: Report | None) -> list[Report | None]:
        """Wait until every other rank has ended; what all of them report, rank 0 last."""
        if self._transport.threaded:
            self.join()
        else:
            self.run()
        try:
            self._check()
        except InputError as error:
            return [report(0, error)]
        lost = [Report(rank, lost=how, missing=self._missing) for rank, how in self._lost.items()]
        living = (*self._reports, mine)  # may have lost ranks that share points with them
        return [*lost, *(replace(each, missing=self._missing or None) if each and each.lost else each for each in living)]

    def _look(self) -> None:
        """Wait no longer for ranks that have died."""
        self._looked = time.monotonic()
        for rank, how in self._transport.lost().items():
            if rank in self._running:
                self._running.discard(rank)
                self._lost[rank] = how
                logger.warning(f"{how}; the other ranks go on")

    def _note(self, index: int, values: list[float]) -> None:
        try:
            if self._error is None:
                with self._lock:
                    self._record(index, values)
                    self._missing -= 1
        except Exception as error:  # a full disk, say: keep receiving, so that the other ranks can end
            self._error = error

    def _check(self) -> None:
        if isinstance(self._error, RankLost):
            raise self._error
        if self._error is not None:
            raise InputError(f"rank 0 could not record results: {one_line(self._error)}")
