"""An exception on one rank ends all ranks, whatever it is, from the command line and from Python."""

import os
import subprocess
import sys

import pytest
from helpers import launcher, run
from jobs import MINE, OWN, prepare

SCRIPT = """
import os, sys
sys.path.insert(0, ".")
import mine
import torch
from paraloss import compute_surface
from paraloss.compute.ranks.world import world

rank = int(os.environ.get("PMI_RANK") or os.environ["RANK"])
{body}
print("never", flush=True)
"""
COMPUTE = "compute_surface(mine.Net(), data=mine.data(), x=(-1, 1, 5), precision='fp32', {options})"
CASES = {
    # An exception of the program itself, on one rank, while the other waits in a collective call.
    "between": (f"if rank == 1:\n    raise ValueError('out of luck')\n{COMPUTE.format(options='')}", "ValueError: out of luck"),
    # Memory runs out on rank 0 alone, while it tunes for all.
    "tuning": (
        "import paraloss.compute.setup as setup\n"
        "def broken(*given, **more): raise MemoryError('no room')\n"
        "setup.choose_batch_size = broken\n" + COMPUTE.format(options=""),
        "MemoryError: no room",
    ),
    "any rank": ("world().on_all(lambda: {}[rank] if rank == 1 else None)", "KeyError: 1"),
    "first rank": ("world().on_first(lambda: {}[rank])", "KeyError: 0"),
}


def python(script, folder, engine="mpi"):
    (folder / "script.py").write_text(script)
    return subprocess.run(
        [*launcher(2, engine), sys.executable, "script.py"], cwd=folder, capture_output=True, text=True,
        check=False, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("case", "engine"), [*((case, "mpi") for case in CASES), ("between", "torch"), ("tuning", "torch")])
def test_a_python_program_ends_on_all_ranks(case, engine, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    body, told = CASES[case]
    done = python(SCRIPT.format(body=body), tmp_path, engine)  # would hang for ever, and reach the time limit
    assert done.returncode == 1, done.stderr
    assert told in done.stderr
    assert "never" not in done.stdout


@pytest.mark.slow
def test_what_all_ranks_raise_is_printed_once_and_ends_without_a_complaint_of_mpi(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    body = COMPUTE.format(options="splits=('valid',)")
    done = python(SCRIPT.format(body=body), tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "no split 'valid'" in done.stderr
    assert "BAD TERMINATION" not in done.stderr and "MPI_Abort" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["mpi", "torch"])
def test_an_internal_error_on_one_rank_is_one_line_of_the_command(engine, tmp_path):
    """A loss that leaves Python's exceptions behind on rank 1 only."""
    prepare(tmp_path)
    (tmp_path / "bad.py").write_text(
        "import os, torch\n"
        "def loss(outputs, targets):\n"
        "    if '1' in (os.environ.get('PMI_RANK'), os.environ.get('RANK')):\n        raise BaseException('out of luck')\n"
        "    return torch.nn.functional.cross_entropy(outputs, targets, reduction='none')\n"
    )
    done = run(
        "compute", "--weights", "path/epoch_000.pt", *OWN, "--loss", "bad.py:loss", "--curve", "--x=-1:1:9",
        "--precision", "fp32", "-o", "s.h5", ranks=2, engine=engine, cwd=tmp_path, timeout=240,
    )  # fmt: skip
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("paraloss:")]
    assert len(lines) == 1, done.stderr
    assert "rank 1: BaseException: out of luck" in lines[0]
