"""Ctrl-C, SIGTERM and SIGUSR1: what is kept, what is said, and with which exit code."""

import os
import re
import signal

import numpy as np
import pytest
from helpers import call
from jobs import OWN, end, prepare, ranks_of, start, wait_until_held

from paraloss import stopping
from paraloss.stopping import Stopped, exposed, keeping, listening, requested, shielded
from paraloss.surface import read_surface

COMPUTE = ["compute", "--weights", "path/epoch_003.pt", *OWN, "--x=-1:1:7", "--y=-1:1:5", "--precision", "fp32", "-o", "s.h5"]
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM", signal.SIGUSR1: "stopped by SIGUSR1"}


@pytest.fixture
def folder(tmp_path):
    prepare(tmp_path)
    return tmp_path


def ended(process):
    """(exit code, lines on standard error without the progress) of a job that is ending."""
    try:
        _, errors = process.communicate(timeout=240)
    finally:
        end(process)
    return process.returncode, [line for line in errors.splitlines() if line.startswith(("paraloss:", "Traceback"))], errors


def kept_and_finished(folder, line):
    """The line's numbers are those of the file, and the same command goes on to the undisturbed surface."""
    found = re.search(r"; (\d+) of 35 points are kept in s\.h5; the same command goes on from there$", line)
    kept = read_surface(folder / "s.h5")
    assert int(found[1]) == (kept.status == 1).sum()
    assert call(*COMPUTE, cwd=folder).returncode == 0
    assert call(*COMPUTE[:-1], "whole.h5", cwd=folder).returncode == 0
    whole, again = read_surface(folder / "whole.h5"), read_surface(folder / "s.h5")
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(again.metrics[name], values)
    return int(found[1])


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGUSR1))]
)
def test_a_signal_keeps_what_is_finished_and_says_how_much(number, folder):
    process = start(folder, COMPUTE, hold="9 s.h5")
    assert wait_until_held(process, folder)
    process.send_signal(number)
    code, lines, errors = ended(process)
    assert code == 128 + number, errors
    assert len(lines) == 1 and lines[0].startswith(f"paraloss: {WORDS[number]}; "), errors
    (folder / "hold").unlink()
    assert 0 < kept_and_finished(folder, lines[0]) < 35


@pytest.mark.slow
@pytest.mark.parametrize(("number", "to"), [(signal.SIGTERM, "all"), (signal.SIGTERM, "one"), (signal.SIGINT, "mpiexec")])
def test_ranks_end_together_with_one_line_and_without_a_complaint_of_mpi(number, to, folder):
    process = start(folder, COMPUTE, hold="5 s.h5", ranks=2)
    assert wait_until_held(process, folder, ranks=2)
    ranks = ranks_of(process)
    assert len(ranks) == 2
    if to == "one":  # the other goes on, and learns of it
        (folder / "hold").unlink()
    for pid in {"all": ranks, "one": ranks[:1], "mpiexec": [process.pid]}[to]:
        os.kill(pid, number)
    code, lines, errors = ended(process)
    assert code == 128 + number, errors
    assert len(lines) == 1 and lines[0].startswith(f"paraloss: {WORDS[number]}; "), errors
    assert "BAD TERMINATION" not in errors and "MPI_" not in errors and "Traceback" not in errors
    (folder / "hold").unlink(missing_ok=True)
    kept_and_finished(folder, lines[0])


@pytest.mark.slow
def test_torchrun_passes_a_signal_on_and_the_ranks_end_in_good_order(folder):
    process = start(folder, COMPUTE, hold="5 s.h5", ranks=2, engine="torch")
    assert wait_until_held(process, folder, ranks=2)
    (folder / "hold").write_text("1000000")
    process.send_signal(signal.SIGINT)
    code, lines, errors = ended(process)
    lines = [line for line in lines if not line.startswith("Traceback")]  # torchrun's own
    assert code != 0 and len(lines) == 1 and lines[0].startswith("paraloss: interrupted; "), errors
    (folder / "hold").unlink()
    kept_and_finished(folder, lines[0])


@pytest.mark.slow
def test_training_says_which_epochs_are_kept(folder):
    command = ["train", *OWN, "--epochs", "4", "--batch-size", "32", "-o", "run"]
    process = start(folder, command, hold="9")  # three batches per epoch: in the third epoch
    assert wait_until_held(process, folder)
    process.send_signal(signal.SIGTERM)
    code, lines, errors = ended(process)
    assert (code, lines) == (
        143, ["paraloss: stopped by SIGTERM; 2 of 4 epochs are kept in run; the same command goes on from there"],
    ), errors  # fmt: skip


def test_a_second_signal_does_not_wait(monkeypatch, capfd):
    ends = []
    monkeypatch.setattr(stopping.os, "_exit", ends.append)
    monkeypatch.setattr(stopping, "_REPEAT_S", -1.0)
    with listening(), shielded():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
    assert ends[0] == 143
    assert capfd.readouterr().err.splitlines()[0] == "paraloss: stopped by SIGTERM"


def test_signals_wait_in_shielded_work_and_raise_where_it_is_exposed():
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    reached = []
    with listening(), shielded():
        os.kill(os.getpid(), signal.SIGUSR1)
        reached.append(requested())
        with pytest.raises(Stopped) as stop, exposed():
            reached.append("never")
    assert reached == [signal.SIGUSR1]
    assert stop.value.number == signal.SIGUSR1
    with listening():
        assert requested() is None
        with pytest.raises(Stopped, match="interrupted; two of three"), keeping(lambda: "two of three"):
            os.kill(os.getpid(), signal.SIGINT)
    assert {number: signal.getsignal(number) for number in stopping.SIGNALS} == before


def test_a_python_program_gets_an_ordinary_keyboard_interrupt(small_net, digits, tmp_path):
    from paraloss import compute_surface

    class Impatient(type(small_net)):
        def forward(self, x):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_surface(
            Impatient(*small_net), data={"train": digits["train"].subset(9)}, curve=True, x=(-1, 1, 3), precision="fp32"
        )
