"""The ranks of a job: whether there are several, and work that all of them or only the first one do."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import Any

from paraloss.errors import InputError, MissingPackage, ParalossError

_LAUNCHERS = ("PMI_SIZE", "PMIX_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")


def world() -> Any | None:
    """``MPI.COMM_WORLD`` when this process was started by mpiexec, mpirun or srun with more than one rank, else None.

    Raises:
        MissingPackage: started with several ranks, but mpi4py is not installed.
        InputError: mpi4py belongs to another MPI than the launcher, so that every rank would do all the work.
    """
    ranks = max([_number(name) for name in _LAUNCHERS] + [_number("SLURM_NTASKS") if "SLURM_STEP_ID" in os.environ else 0])
    if ranks <= 1:
        return None
    try:
        import mpi4py

        mpi4py.rc.initialize = False  # MPI of another make than the launcher's would abort instead of raising
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise MissingPackage(
            f"started with {ranks} ranks, but mpi4py is missing or finds no MPI library: pip install 'paraloss[mpi]', "
            "or 'paraloss[mpich]' for an MPI of its own"
        ) from error
    library = MPI.Get_library_version().split("\n")[0].split(",")[0]
    launched_by_open_mpi = "OMPI_COMM_WORLD_SIZE" in os.environ
    fits = ("Open MPI" in library) == launched_by_open_mpi or "SLURM_STEP_ID" in os.environ
    if fits and not MPI.Is_initialized():
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
        atexit.register(_finalize)
    if not fits or MPI.COMM_WORLD.size == 1:
        raise InputError(
            f"started with {ranks} ranks, but mpi4py uses another MPI ({library.strip()}) than the launcher; start it "
            "with that MPI's mpiexec (in the virtual environment, where it came with paraloss[mpich])"
        )
    return MPI.COMM_WORLD


def on_all_ranks(comm: Any | None, work: Callable[[], Any]) -> Any:
    """Run ``work`` on every rank; an error on any rank is raised on all of them.

    Raises:
        ParalossError: the first rank's error.
    """
    result, message = None, None
    try:
        result = work()
    except ParalossError as error:
        message = str(error)
        if comm is None:
            raise
    if comm is not None:
        messages = [told for told in comm.allgather(message) if told]
        if messages:
            raise InputError(messages[0])
    return result


def on_first_rank(comm: Any | None, work: Callable[[], Any]) -> Any:
    """Run ``work`` on rank 0 only and give its result (small, or None) to all; an error is raised on all ranks."""
    if comm is None:
        return work()
    result = on_all_ranks(comm, lambda: work() if comm.rank == 0 else None)
    return comm.bcast(result)


def _finalize() -> None:
    from mpi4py import MPI

    if MPI.Is_initialized() and not MPI.Is_finalized():
        MPI.Finalize()


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
