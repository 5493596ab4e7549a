"""The work queue of MPI ranks: they draw points from a shared counter and send results to rank 0. No point needs a collective
call.

The counter lies in rank 0's memory and is read and raised in one step by ``MPI_Fetch_and_op``, so that a slow rank
takes fewer points and nobody waits for anybody. Rank 0 evaluates too; a thread of it receives results meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from paraloss.compute.ranks.ending import Report, raise_together, report
from paraloss.compute.ranks.world import Evaluate, Record
from paraloss.errors import InputError
from paraloss.stopping import check, shielded
from paraloss.text import one_line

_RESULT, _FINISHED = 1, 2
_CHUNK_S = 0.2  # a rank draws about this much work at once, so that tiny points do not hammer the counter
_POLL_S = 0.002
_IDLE_S = 1.0


def run_parallel(
    comm: Any, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None] = lambda: None
) -> None:
    """Evaluate ``todo`` on all ranks of ``comm``.

    Args:
        comm: MPI communicator; every rank calls this with the same ``todo``.
        todo: flat indices, in the order in which to visit them.
        evaluate: index -> metrics; called on every rank.
        record: called on rank 0 with each result, from one thread at a time.
        idle: called on rank 0 about once a second, never together with ``record``; writes recorded results to the disk.

    Raises:
        InputError: a point failed on some rank; raised on all, after all results so far were recorded.
        Stopped: a rank received a signal; raised likewise.
        RankFailed: a rank failed for another reason; raised likewise.
    """
    with shielded():  # what the ranks do together is not left by one of them alone
        _share_out(comm, todo, evaluate, record, idle)


def _share_out(comm: Any, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None]) -> None:
    counter = _Counter(comm)
    # A context of its own: messages to the collector never meet the counter's.
    channel = comm.Dup()
    outlet = _Collector(channel, record, idle) if comm.rank == 0 else _Sender(channel)
    outlet.begin()
    failure: BaseException | None = None
    try:
        for index in _drawn(counter, todo, comm.size):
            check()
            outlet.put(index, evaluate(index))
    except BaseException as error:
        failure = error
        counter.close(len(todo))
    reports = _patient_bcast(channel, outlet.finish(report(comm.rank, failure, f"rank {comm.rank}: ")))
    counter.free()
    channel.Free()
    raise_together(reports, failure)


def _drawn(counter: _Counter, todo: Sequence[int], ranks: int) -> Iterator[int]:
    """The points that this rank draws: one at first, then as many at once as take about ``_CHUNK_S``."""
    ahead = 1
    while True:
        start = counter.take(min(ahead, 1 + counter.last_left(len(todo)) // (2 * ranks)))
        chunk = todo[start : start + counter.taken]
        if len(chunk) == 0:
            return
        began = time.perf_counter()
        yield from chunk
        seconds_per_point = (time.perf_counter() - began) / len(chunk)
        ahead = max(1, int(_CHUNK_S / max(seconds_per_point, 1e-6)))


class _Counter:
    """A number in rank 0's memory that any rank can raise and read in one step."""

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._sum = MPI.SUM
        self._window = MPI.Win.Allocate(8 if comm.rank == 0 else 0, 1, comm=comm)
        if comm.rank == 0:
            self._window.Lock(0)
            memory: Any = self._window.tomemory()
            np.frombuffer(memory, np.int64)[0] = 0
            self._window.Unlock(0)
        comm.Barrier()
        # One epoch for all claims: a lock for each would need rank 0's attention, and rank 0 is evaluating.
        self._window.Lock_all(MPI.MODE_NOCHECK)
        self.taken, self._next = 0, 0

    def take(self, count: int) -> int:
        """Claim ``count`` positions; the first of them."""
        step, before = np.array([count], np.int64), np.zeros(1, np.int64)
        self._window.Fetch_and_op(step, before, 0, 0, self._sum)
        self._window.Flush(0)
        self.taken, self._next = count, int(before[0]) + count
        return int(before[0])

    def last_left(self, total: int) -> int:
        """How many positions were unclaimed when this rank last looked."""
        return max(0, total - self._next)

    def close(self, total: int) -> None:
        """Leave nothing to claim for anybody."""
        self.take(total)

    def free(self) -> None:
        self._window.Unlock_all()
        self._window.Free()


class _Sender:
    """The way of another rank's results to rank 0."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._sent: list[Any] = []

    def begin(self) -> None:
        pass

    def put(self, index: int, values: list[float]) -> None:
        """Send a result; returns before it has arrived."""
        self._sent = [request for request in self._sent if not request.Test()]
        self._sent.append(self._channel.isend((index, values), dest=0, tag=_RESULT))

    def finish(self, mine: Report | None) -> None:
        """Report the end, and wait until all has arrived."""
        self._sent.append(self._channel.isend(mine, dest=0, tag=_FINISHED))
        while not all(request.Test() for request in self._sent):
            time.sleep(_POLL_S)


class _Collector(threading.Thread):
    """Receives the results of the other ranks on rank 0 and records them with its own."""

    def __init__(self, channel: Any, record: Record, idle: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._channel, self._record, self._idle = channel, record, idle
        self._rested = time.monotonic()
        self._running = channel.size - 1
        self._reports: list[Report | None] = []
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._threaded = False

    def begin(self) -> None:
        """Receive in a thread where this MPI allows that; otherwise between rank 0's own points."""
        from mpi4py import MPI

        self._threaded = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        if self._threaded:
            self.start()

    def put(self, index: int, values: list[float]) -> None:
        """Record a result of rank 0's own."""
        self._note(index, values)
        if not self._threaded:
            self.poll()
        self._check()

    def poll(self) -> bool:
        """Receive what has arrived; whether anything had."""
        from mpi4py import MPI

        status, any_arrived = MPI.Status(), False
        while self._running and self._channel.Iprobe(status=status):
            any_arrived = True
            message = self._channel.recv(source=status.Get_source(), tag=status.Get_tag())
            if status.Get_tag() == _RESULT:
                self._note(*message)
            else:
                self._running -= 1
                self._reports.append(message)
        return any_arrived

    def run(self) -> None:
        while self._running:
            try:
                if not self.poll():
                    time.sleep(_POLL_S)
                if time.monotonic() - self._rested > _IDLE_S and self._error is None:
                    with self._lock:
                        self._idle()
                    self._rested = time.monotonic()
            except Exception as error:
                self._error = self._error or error

    def finish(self, mine: Report | None) -> list[Report | None]:
        """Wait until every other rank has ended; what all of them report, rank 0 last."""
        if self._threaded:
            self.join()
        else:
            self.run()
        try:
            self._check()
        except InputError as error:
            return [report(0, error)]
        return [*self._reports, mine]

    def _note(self, index: int, values: list[float]) -> None:
        try:
            if self._error is None:
                with self._lock:
                    self._record(index, values)
        except Exception as error:  # a full disk, say: keep receiving, so that the other ranks can end
            self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise InputError(f"rank 0 could not record results: {one_line(self._error)}")


def _patient_bcast(comm: Any, value: Any) -> Any:
    """A broadcast from rank 0 that sleeps while it waits: an idle rank must not take a core from a busy one."""
    from mpi4py import MPI

    size = np.zeros(1, np.int64)
    data = MPI.pickle.dumps(value) if comm.rank == 0 else b""
    size[0] = len(data)
    _wait(comm.Ibcast(size))
    buffer = bytearray(data) if comm.rank == 0 else bytearray(int(size[0]))
    _wait(comm.Ibcast(buffer))
    return MPI.pickle.loads(bytes(buffer))


def _wait(request: Any) -> None:
    while not request.Test():
        time.sleep(_POLL_S)
