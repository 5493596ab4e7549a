"""What started a process, out of its environment."""

import json

import pytest

from paraloss.launch import Launch, launched, leave_word

TORCH = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}
ALLOCATION = {"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}  # the shell of salloc


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launch()),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, Launch("mpi", 1, 2)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Launch("mpi", 1, 2)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Launch()),
        (TORCH, Launch("torch", 3, 8)),
        ({**TORCH, "WORLD_SIZE": "1"}, Launch()),
        ({"RANK": "3", "WORLD_SIZE": "8"}, Launch()),  # left over by something else: nowhere to meet
        ({**TORCH, "PMI_RANK": "1", "PMI_SIZE": "2"}, Launch("mpi", 1, 2)),  # mpiexec in a container that has them set
        ({**TORCH, "PMI_RANK": "1", "PMI_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}, Launch("torch", 3, 8)),  # torchrun in srun
        (SRUN, Launch("torch", 2, 4)),
        ({**SRUN, "PMIX_RANK": "2"}, Launch("mpi", 2, 4)),
        ({**SRUN, "PARALOSS_ENGINE": "mpi"}, Launch("mpi", 2, 4)),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}, Launch()),
        (ALLOCATION, Launch()),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Launch()),  # a job script outside of srun
        ({**SRUN, **TORCH}, Launch("torch", 3, 8)),  # a script that sets torch's variables itself
        ({**TORCH, "WORLD_SIZE": "many"}, Launch()),
    ],
)
def test_the_launcher_is_known_by_its_variables(environment, expected):
    assert launched(environment) == expected


def test_torchrun_finds_the_line_where_it_looks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    leave_word("paraloss: no such file")
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(tmp_path / "error.json"))
    assert failure.message["extraInfo"]["py_callstack"] == "paraloss: no such file"
    assert json.loads((tmp_path / "error.json").read_text())["message"]["message"] == "paraloss: no such file"
