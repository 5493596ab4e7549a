"""The job script for Slurm, run with stand-ins of srun and scontrol that start real ranks and record what is asked."""

import os
import signal
import subprocess
import time

import numpy as np
import pytest
from helpers import BIN, call

from paraloss.surface import read_surface

SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do echo "$1" >> srun.log; shift; done
exec {mpiexec} -n 2 "$@"
"""
SLOW = """
import time
import torch

def loss(outputs, targets):
    time.sleep(0.05)
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
"""


@pytest.fixture
def place(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (
        ("srun", SRUN.format(mpiexec=BIN / "mpiexec")),
        ("scontrol", '#!/bin/bash\necho "$@" >> scontrol.log\n'),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "job.sh").write_text(call("slurm").stdout)
    path = f"{programs}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
    return tmp_path, {**os.environ, "PATH": path, "SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "1"}


def test_without_arguments_the_usage_is_shown(place):
    folder, environment = place
    done = subprocess.run(["bash", "job.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("usage: sbatch job.sh MODEL.pt SURFACE.h5")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.slow
def test_before_the_time_limit_points_are_kept_the_job_is_queued_again_and_goes_on(place, trained):
    folder, environment = place
    command = ["bash", "job.sh", str(trained / "final.pt"), "s.h5", "--loss", "slow.py:loss", "--x=-1:1:9", "--y=-1:1:9"]
    command += ["--samples", "20", "--precision", "fp32", "--batch-size", "20"]
    log = folder / "job.log"
    with log.open("w") as out:
        job = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        end = time.monotonic() + 200
        while not _finished(folder / "s.h5") and time.monotonic() < end:
            time.sleep(0.2)
        job.send_signal(signal.SIGTERM)  # as --signal=B:TERM@120 does: to the script alone
        code = job.wait(120)
    text = log.read_text()
    assert code != 0 and "points are kept in s.h5" in text and "queued again" in text, text
    assert (folder / "scontrol.log").read_text() == "requeue 77\n"
    kept = _finished(folder / "s.h5")
    assert 0 < kept < 81
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert again.returncode == 0, again.stderr
    assert f"resuming: {kept} of 81" in again.stderr
    assert "--cpus-per-task=1" in (folder / "srun.log").read_text()
    whole = read_surface(folder / "s.h5")
    assert np.isfinite(whole.metric()).all() and (folder / "scontrol.log").read_text() == "requeue 77\n"


@pytest.mark.slow
def test_an_array_computes_one_surface_per_checkpoint_in_natural_order(place, trained):
    folder, environment = place
    for name in ("epoch_9.pt", "epoch_10.pt"):
        (folder / name).write_bytes((trained / "final.pt").read_bytes())
    environment = {**environment, "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "80", "PARALOSS_MPI": "pmix"}
    command = ["bash", "job.sh", "epoch_*.pt", "surfaces", "--x=-1:1:2", "--samples", "10"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (folder / "surfaces").glob("*.h5")] == ["epoch_10.h5"]
    assert "--mpi=pmix" in (folder / "srun.log").read_text()


@pytest.mark.slow
def test_torchrun_starts_the_ranks_where_it_is_asked_for(place, trained):
    folder, environment = place
    srun = '#!/bin/bash\nwhile [[ "$1" == --* ]]; do echo "$1" >> srun.log; shift; done\necho "$@" >> srun.log\nexec "$@"\n'
    (folder / "programs" / "srun").write_text(srun)
    (folder / "programs" / "scontrol").write_text("#!/bin/bash\necho localhost\n")
    environment |= {"PARALOSS_TORCHRUN": "yes", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NODELIST": "localhost"}
    environment["SLURM_JOB_ID"] = str(os.getpid())
    command = ["bash", "job.sh", str(trained / "final.pt"), "s.h5", "--x=-1:1:3", "--samples", "10"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0 and "1 on " in done.stderr, done.stderr
    assert read_surface(folder / "s.h5").is_complete
    asked = (folder / "srun.log").read_text().splitlines()
    assert asked[:2] == ["--ntasks=1", "--ntasks-per-node=1"] and "--nproc-per-node=2" in asked[-1]


def _finished(path):
    try:
        return int((read_surface(path).status != 0).sum())
    except Exception:
        return 0
