"""The processes of a job, whatever starts them: one on its own, the ranks of MPI, or those of torch.distributed.

All that computes asks a ``World`` and never the engine behind it. Another engine is another subclass that overrides the methods
above ``on_all``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from paraloss.compute.ranks.ending import Report, abort_on_exception, raise_together, report
from paraloss.errors import MissingPackage, ParalossError
from paraloss.launch import Launch, launched
from paraloss.stopping import exposed, shielded

T = TypeVar("T")
Evaluate = Callable[[int], list[float]]
Record = Callable[[int, list[float]], None]


class World:
    """One process on its own, and the interface of all engines.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.

    Every method but ``abort`` is collective: all ranks call it, in the same order.
    """

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which reads and writes files and reports."""
        return self.rank == 0

    @property
    def label(self) -> str:
        """``rank 3: `` where there are several ranks; begins a message about this one."""
        return f"rank {self.rank}: " if self.size > 1 else ""

    def bcast(self, value: T) -> T:
        """Rank 0's value on every rank."""
        return value

    def allgather(self, value: T) -> list[T]:
        """The values of all ranks, in order, on every rank."""
        return [value]

    def exchange(self, mine: Report | None) -> list[Report | None]:
        """The reports of all ranks; of a rank that was lost one that says so, where the engine can know."""
        return self.allgather(mine)

    def allreduce(self, array: np.ndarray) -> np.ndarray:
        """The sum of all ranks' arrays on every rank."""
        return array

    def fill(self, buffer: np.ndarray) -> None:
        """Overwrite a contiguous array on every rank with rank 0's."""

    def split(self, color: int) -> World:
        """The ranks that give the same ``color``, in order, as a world of their own."""
        return self

    def on_host(self) -> tuple[int, int]:
        """(number of this rank among those of its host, number of ranks there)."""
        return 0, 1

    def visit(self, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None]) -> None:
        """Evaluate every point of ``todo`` once, on whichever rank is free.

        Args:
            todo: flat indices, in the order in which to visit them; the same on every rank.
            evaluate: index -> metrics; called on every rank.
            record: called on rank 0 with each result, from one thread at a time.
            idle: called on rank 0 now and then while it waits, never together with ``record``.

        Raises:
            ParalossError: a point failed on some rank; raised on all, after all results so far were recorded.
        """
        for index in todo:
            record(index, evaluate(index))

    def abort(self, code: int) -> None:
        """End all ranks at once, from any of them."""
        os._exit(code)

    def on_all(self, work: Callable[[], T]) -> T:
        """Run ``work`` on every rank; an exception on any rank ends it on all of them.

        Raises:
            InputError: the first rank's ``ParalossError``; of one process the error itself.
            Stopped: a rank received a signal.
            RankLost: a rank has died, where the engine can know.
            RankFailed: another exception on another rank.
        """
        result, error = None, None
        if self.size == 1:
            with exposed():
                return work()
        with shielded():  # every rank reaches the exchange of reports
            try:
                with exposed():
                    result = work()
            except BaseException as caught:
                error = caught
            reports = self.exchange(report(self.rank, error))
        raise_together(reports, error)
        return result  # type: ignore[return-value]

    def on_first(self, work: Callable[[], T]) -> T:
        """Run ``work`` on rank 0 only and give its result (small, or None) to all; an error is raised on all ranks."""
        return self.bcast(self.on_all(lambda: work() if self.is_first else None))  # type: ignore[arg-type, return-value]


def world() -> World:
    """The world of this process: one process, or the ranks that mpiexec, mpirun, srun or torchrun started.

    Raises:
        MissingPackage: an MPI launcher started several ranks, but mpi4py is not installed.
        InputError: mpi4py belongs to another MPI than the launcher, so that every rank would do all the work.
        RankLost: the other ranks of torch.distributed cannot be reached.
    """
    launch = launched()
    if launch.size <= 1:
        return World()
    if launch.engine == "torch":
        from paraloss.compute.ranks import distributed

        return distributed.start(launch)
    try:
        from paraloss.compute.ranks.mpi import start
    except (ImportError, RuntimeError) as error:
        raise MissingPackage(
            f"started with {launch.size} ranks, but mpi4py is missing or finds no MPI library: pip install 'paraloss[mpi]', "
            "or 'paraloss[mpich]' for an MPI of its own; torchrun and srun without MPI need neither"
        ) from error
    return start(launch.size)


def end_together(launch: Launch) -> None:
    """Where a launcher started several ranks: let an exception that ends one of them end all, from here on."""
    if launch.size > 1:
        abort_on_exception(launch.rank, _abort)


def _abort(code: int) -> None:
    with contextlib.suppress(ParalossError):  # no MPI, no ranks that wait
        world().abort(code)  # starts MPI: the others may wait for this rank to do so


end_together(launched())  # a program that has imported this may fail on one rank before it computes anything
