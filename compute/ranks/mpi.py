"""The ranks of an MPI job as a ``World``. Importing this needs mpi4py and an MPI library.

A rank that dies takes the others along: mpiexec and mpirun end a job when one of its processes is killed.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import mpi4py
import numpy as np

mpi4py.rc.initialize = False  # another MPI than the launcher's would abort the process instead of raising
from mpi4py import MPI  # noqa: E402

from paraloss.compute.ranks import leftovers  # noqa: E402
from paraloss.compute.ranks.queue import run_parallel  # noqa: E402
from paraloss.compute.ranks.world import Evaluate, Record, World  # noqa: E402
from paraloss.errors import InputError  # noqa: E402
from paraloss.stopping import shield  # noqa: E402

T = TypeVar("T")

_RESULT, _FINISHED = 1, 2
_POLL_S = 0.002


class MpiWorld(World):
    """The ranks of an MPI communicator.

    Args:
        comm: the communicator.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.rank, self.size = comm, comm.rank, comm.size

    def bcast(self, value: T) -> T:
        result: T = self.comm.bcast(value)
        return result

    def allgather(self, value: T) -> list[T]:
        result: list[T] = self.comm.allgather(value)
        return result

    def allreduce(self, array: np.ndarray) -> np.ndarray:
        total = np.empty_like(array)
        self.comm.Allreduce(array, total)
        return total

    def fill(self, buffer: np.ndarray) -> None:
        self.comm.Bcast(buffer)

    def split(self, color: int) -> MpiWorld:
        return MpiWorld(self.comm.Split(color, self.rank))

    def on_host(self) -> tuple[int, int]:
        host = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        return host.rank, host.size

    def visit(self, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None]) -> None:
        if self.size == 1:  # a group of all ranks has one leader
            super().visit(todo, evaluate, record, idle)
        else:
            run_parallel(MpiTransport(self.comm), todo, evaluate, record, idle)

    def abort(self, code: int) -> None:
        self.comm.Abort(code)


class MpiTransport:
    """The counter of a queue in rank 0's memory, raised with ``MPI_Fetch_and_op``, and messages; see ``queue.Transport``.

    Args:
        comm: the communicator; every rank makes one.
    """

    rest_s = _POLL_S

    def __init__(self, comm: Any) -> None:
        self.rank, self.size = comm.rank, comm.size
        self.threaded = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._window = MPI.Win.Allocate(8 if comm.rank == 0 else 0, 1, comm=comm)
        if comm.rank == 0:
            self._window.Lock(0)
            memory: Any = self._window.tomemory()
            np.frombuffer(memory, np.int64)[0] = 0
            self._window.Unlock(0)
        comm.Barrier()
        # One epoch for all claims: a lock for each would need rank 0's attention, and rank 0 is evaluating.
        self._window.Lock_all(MPI.MODE_NOCHECK)
        self._channel = comm.Dup()  # a context of its own: messages to rank 0 never meet the counter's
        self._sent: list[Any] = []

    def take(self, count: int) -> int:
        step, before = np.array([count], np.int64), np.zeros(1, np.int64)
        self._window.Fetch_and_op(step, before, 0, 0, MPI.SUM)
        self._window.Flush(0)
        return int(before[0])

    def send(self, message: Any) -> None:
        self._sent = [request for request in self._sent if not request.Test()]
        tag = _RESULT if isinstance(message, tuple) else _FINISHED
        self._sent.append(self._channel.isend(message, dest=0, tag=tag))

    def flush(self) -> None:
        pass

    def settle(self) -> None:
        while not all(request.Test() for request in self._sent):
            time.sleep(_POLL_S)

    def receive(self) -> list[tuple[int, Any]]:
        status, arrived = MPI.Status(), []
        while self._channel.Iprobe(status=status):
            source = status.Get_source()
            arrived.append((source, self._channel.recv(source=source, tag=status.Get_tag())))
        return arrived

    def lost(self) -> dict[int, str]:
        return {}  # the launcher ends all ranks when one has died

    def publish(self, value: Any) -> Any:
        size = np.zeros(1, np.int64)
        data = MPI.pickle.dumps(value) if self.rank == 0 else b""
        size[0] = len(data)
        _wait(self._channel.Ibcast(size))
        buffer = bytearray(data) if self.rank == 0 else bytearray(int(size[0]))
        _wait(self._channel.Ibcast(buffer))
        return MPI.pickle.loads(bytes(buffer))

    def close(self) -> None:
        self._window.Unlock_all()
        self._window.Free()
        self._channel.Free()


def _wait(request: Any) -> None:
    while not request.Test():
        time.sleep(_POLL_S)


def start(ranks: int) -> MpiWorld:
    """Start MPI, once per process.

    Args:
        ranks: how many the launcher started.

    Raises:
        InputError: mpi4py uses another MPI than the launcher.
    """
    library = MPI.Get_library_version().split("\n")[0].split(",")[0]
    launched_by_open_mpi = "OMPI_COMM_WORLD_SIZE" in os.environ
    fits = ("Open MPI" in library) == launched_by_open_mpi or "SLURM_STEP_ID" in os.environ
    if fits and not MPI.Is_initialized():
        leftovers.clean()
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
        atexit.register(_finalize, leftovers.note())
        shield()
    if not fits or MPI.COMM_WORLD.size == 1:
        raise InputError(
            f"started with {ranks} ranks, but mpi4py uses another MPI ({library.strip()}) than the launcher; start it "
            "with that MPI's mpiexec (in the virtual environment, where it came with paraloss[mpich])"
        )
    return MpiWorld(MPI.COMM_WORLD)


def _finalize(note: Path | None) -> None:
    if MPI.Is_initialized() and not MPI.Is_finalized():
        MPI.Finalize()
    if note is not None:
        note.unlink(missing_ok=True)
