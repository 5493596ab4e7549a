"""What killed ranks leave in shared memory is removed by the next job, and nothing else is."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import OWN, end, prepare, ranks_of, start, wait_until_held

from paraloss.compute.ranks import leftovers

NAMESPACE = Path("/proc/self/ns/pid").stat().st_ino


@pytest.fixture
def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    start_time = leftovers._start_of(process.pid)
    process.wait()
    return process.pid, start_time


def test_segments_of_dead_ranks_go_and_all_others_stay(tmp_path, ended_process):
    dead, born = ended_process
    mine, my_start = os.getpid(), leftovers._start_of(os.getpid())
    notes = {
        f"paraloss_{NAMESPACE}_{dead}_{born}": "mpich_shm_a_0\nmpich_shm_b_0\n../secret\nnumbers.txt",
        f"paraloss_{NAMESPACE}_{mine}_{my_start}": "mpich_shm_b_0\nmpich_shm_c_0",
        f"paraloss_{NAMESPACE + 1}_{dead}_{born}": "mpich_shm_d_0",  # of another container: nobody knows
        f"paraloss_{NAMESPACE}_{mine}_{my_start + 1}": "mpich_shm_e_0",  # its number was given to another process since
    }
    for name, text in notes.items():
        (tmp_path / name).write_text(text)
    for letter in "abcdef":
        (tmp_path / f"mpich_shm_{letter}_0").touch()
    (tmp_path / "numbers.txt").touch()
    (tmp_path.parent / "secret").touch()
    assert sorted(leftovers.clean(tmp_path)) == ["mpich_shm_a_0", "mpich_shm_e_0"]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*(f"mpich_shm_{letter}_0" for letter in "bcdf"), "numbers.txt", *list(notes)[1:3]}
    assert (tmp_path.parent / "secret").exists()
    assert leftovers.clean(tmp_path) == []


def test_a_process_that_maps_no_segment_writes_no_note(tmp_path):
    assert leftovers.note(tmp_path) is None
    assert not list(tmp_path.iterdir())
    assert leftovers.clean(tmp_path / "missing") == []


@pytest.mark.slow
def test_a_killed_job_leaves_no_shared_memory_after_the_next_one(tmp_path):
    prepare(tmp_path)
    command = ["compute", "--weights", "path/epoch_003.pt", *OWN, "--curve", "--x=-1:1:9", "--precision", "fp32", "-o", "s.h5"]
    killed = start(tmp_path, command, hold="2 s.h5", ranks=2)
    assert wait_until_held(killed, tmp_path, ranks=2)
    ranks = ranks_of(killed)
    notes = [path for rank in ranks for path in Path("/dev/shm").glob(f"paraloss_{NAMESPACE}_{rank}_*")]
    segments = {line for note in notes for line in note.read_text().splitlines()}
    assert len(notes) == 2 and segments
    for process in (killed.pid, *ranks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    end(killed)
    killed.communicate(timeout=60)
    assert any((Path("/dev/shm") / name).exists() for name in segments)
    after = start(tmp_path, command, ranks=2)
    assert after.communicate(timeout=240)[0].strip() == "s.h5"
    assert not any((Path("/dev/shm") / name).exists() for name in segments)
    assert not any(note.exists() for note in notes)
    assert not list(tmp_path.glob(".*.lock"))
