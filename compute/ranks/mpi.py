"""The ranks of an MPI job as a ``World``. Importing this needs mpi4py and an MPI library."""

from __future__ import annotations

import atexit
import os
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
            run_parallel(self.comm, todo, evaluate, record, idle)

    def abort(self, code: int) -> None:
        self.comm.Abort(code)


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
