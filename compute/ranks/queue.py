"""The work queue: ranks draw points from a shared counter and send results to rank 0. No collective call a point.

The counter lies in rank 0's memory and is read and raised in one step by ``MPI_Fetch_and_op``, so that a slow rank
takes fewer points and nobody waits for anybody. Rank 0 evaluates too; a thread of it receives results meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paraloss.errors import InputError, ParalossError

Evaluate = Callable[[int], list[float]]
Record = Callable[[int, list[float]], None]

_RESULT, _FINISHED, _FAILED = 1, 2, 3
_CHUNK_S = 0.2  # a rank draws about this much work at once, so that tiny points do not hammer the counter
_POLL_S = 0.002
_IDLE_S = 1.0


def run_serial(todo: Sequence[int], evaluate: Evaluate, record: Record) -> None:
    """Evaluate every point of ``todo`` in this process."""
    for index in todo:
        record(index, evaluate(index))


def run_parallel(
    comm: Any, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None] = lambda: None
) -> None:
    """Evaluate ``todo`` on all ranks of ``comm``.

    Args:
        comm: the communicator; every rank calls this with the same ``todo``.
        todo: flat indices, in the order in which to visit them.
        evaluate: index -> metrics; called on every rank.
        record: called on rank 0 with each result, from one thread at a time.
        idle: called on rank 0 about once a second, never together with ``record``: brings results to the disk when none come.

    Raises:
        ParalossError: a point failed on some rank; raised on all, after all results so far were recorded.
    """
    from mpi4py import MPI

    counter = _Counter(comm)
    # A context of its own: messages to the collector never meet the counter's.
    channel = comm.Dup()
    collector = _Collector(channel, record, idle) if comm.rank == 0 else None
    threaded = collector is not None and MPI.Query_thread() == MPI.THREAD_MULTIPLE
    if threaded and collector is not None:
        collector.start()
    failure: ParalossError | None = None
    sent: list[Any] = []
    try:
        seconds_a_point = None
        while True:
            ahead = 1 if seconds_a_point is None else max(1, int(_CHUNK_S / max(seconds_a_point, 1e-6)))
            start = counter.take(min(ahead, 1 + counter.last_left(len(todo)) // (2 * comm.size)))
            chunk = todo[start : start + counter.taken]
            if len(chunk) == 0:
                break
            began = time.perf_counter()
            for index in chunk:
                values = evaluate(index)
                if collector is None:
                    sent = [request for request in sent if not request.Test()]
                    sent.append(channel.isend((index, values), dest=0, tag=_RESULT))
                else:
                    collector.note(index, values)
                    if not threaded:
                        collector.poll()
            seconds_a_point = (time.perf_counter() - began) / len(chunk)
    except ParalossError as error:
        failure = error
        counter.close(len(todo))
    if collector is None:
        tag, text = (_FAILED, f"rank {comm.rank}: {failure}") if failure else (_FINISHED, "")
        sent.append(channel.isend(text, dest=0, tag=tag))
        while not all(request.Test() for request in sent):
            time.sleep(_POLL_S)
        told = None
    else:
        told = collector.finish(threaded) or (f"rank 0: {failure}" if failure else None)
    told = _patient_bcast(channel, told)
    counter.free()
    channel.Free()
    if told:
        raise InputError(told)


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


class _Collector(threading.Thread):
    """Rank 0's ear: receives results of other ranks and records them with its own."""

    def __init__(self, channel: Any, record: Record, idle: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._channel, self._record, self._idle = channel, record, idle
        self._rested = time.monotonic()
        self._running = channel.size - 1
        self._failure: str | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def note(self, index: int, values: list[float]) -> None:
        """Record a result of rank 0's own."""
        if self._error is None:
            with self._lock:
                self._record(index, values)

    def poll(self) -> bool:
        """Take in what has arrived; whether anything had."""
        from mpi4py import MPI

        status, any_arrived = MPI.Status(), False
        while self._running and self._channel.Iprobe(status=status):
            any_arrived = True
            message = self._channel.recv(source=status.Get_source(), tag=status.Get_tag())
            if status.Get_tag() == _RESULT:
                self.note(*message)
            else:
                self._running -= 1
                self._failure = self._failure or message or None
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
            except Exception as error:  # a full disk, say: keep receiving, so that the other ranks can end
                self._error = self._error or error

    def finish(self, threaded: bool) -> str | None:
        """Wait until every other rank has ended; the first failure's text."""
        if threaded:
            self.join()
        else:
            self.run()
        if self._error is not None:
            return f"rank 0 could not record results: {self._error}"
        return self._failure


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
