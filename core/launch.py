"""What started this process: a user alone, an MPI launcher, or a launcher of torch.distributed; read from the environment.

``torchrun``, ``accelerate launch`` and ``deepspeed`` set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. ``srun`` sets
SLURM_PROCID and SLURM_NTASKS, and PMI_RANK or PMIX_RANK beside them only where it was asked to start MPI (``--mpi=pmi2``).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MPI_SIZES = ("PMI_SIZE", "PMIX_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
_MPI_RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_MPI_SIGNS = (*_MPI_RANKS, "PMI_FD", "I_MPI_PMI_LIBRARY")
_TORCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FIRST_RESERVED_STEP = 4_294_967_000  # Slurm's own steps: the shell of salloc is one of them


@dataclass(frozen=True)
class Launch:
    """The processes that a launcher started together.

    Attributes:
        engine: what they talk through: ``mpi``, ``torch``, or empty for one process.
        rank: number of this process, from 0.
        size: number of processes.
    """

    engine: str = ""
    rank: int = 0
    size: int = 1


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return what started this process.

    Args:
        environment: variables to read. PARALOSS_ENGINE=mpi or =torch there overrides the engine, for an MPI that srun starts
            without a sign of it.
    """
    mpi = max(_number(environment, name) or 0 for name in _MPI_SIZES)
    elastic = "TORCHELASTIC_RUN_ID" in environment  # torchrun is the innermost launcher, also within srun or mpiexec
    if (elastic or mpi <= 1) and all(environment.get(name) for name in _TORCH):
        return _launch("torch", _number(environment, "RANK"), _number(environment, "WORLD_SIZE"), environment)
    slurm, rank = _slurm(environment), next((name for name in _MPI_RANKS if name in environment), "SLURM_PROCID")
    started_mpi = mpi > 1 or any(name in environment for name in _MPI_SIGNS)
    return _launch("mpi" if started_mpi else "torch", _number(environment, rank), max(mpi, slurm), environment)


def rank_of_job() -> int | None:
    """Return this process's rank; None where it is the only one."""
    found = launched()
    return found.rank if found.size > 1 else None


def leave_word(line: str) -> None:
    """Leave a line where torchrun looks for it when this process fails; nothing where no torchrun does."""
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if place:
        more = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(place).write_text(json.dumps({"message": {"message": line, "extraInfo": more}}))


def _launch(engine: str, rank: int | None, size: int | None, environment: Mapping[str, str]) -> Launch:
    if size is None or size <= 1:
        return Launch()
    asked = environment.get("PARALOSS_ENGINE", "")
    return Launch(asked if asked in ("mpi", "torch") else engine, rank or 0, size)


def _slurm(environment: Mapping[str, str]) -> int:
    """The number of tasks of a step that srun started."""
    step = _number(environment, "SLURM_STEP_ID")
    if step is None or step >= _FIRST_RESERVED_STEP:
        return 0
    return _number(environment, "SLURM_STEP_NUM_TASKS") or _number(environment, "SLURM_NTASKS") or 0


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
