"""Other programs end with the command that started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import BIN, needs_paraview, surface_of

from paraloss import processes
from paraloss.stopping import Stopped, listening


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("deaf", [False, True])
def test_an_interruption_ends_a_program_and_what_it_has_started(deaf, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE_S", 0.5)
    trap = "trap '' TERM; " if deaf else ""
    command = ["sh", "-c", f"{trap}sleep 600 & echo $$ $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait; sleep 600"]

    def interrupt():
        wait_for((tmp_path / "pids").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with listening(), pytest.raises(Stopped):
        processes.run(command)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_for(lambda: not any(map(alive, pids)))


def test_output_and_exit_code_come_back():
    done = processes.run(
        [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"], capture=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.slow
@pytest.mark.paraview
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drawing_with_paraview_takes_its_processes_and_its_folder_with_it(number, tmp_path):
    needs_paraview()
    surface_of(lambda x, y: x**2 + y**2 + 0.1, 31, 31).save(tmp_path / "s.h5")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    command = [str(BIN / "paraloss"), "render", "s.h5", "p.png", "--backend", "paraview"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "TMPDIR": str(scratch)},
    )

    def ours():
        """Processes whose environment names our scratch folder, this one's own child aside."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if str(scratch).encode() in (folder / "environ").read_bytes() and alive(folder.name):
                    found[int(folder.name)] = (folder / "comm").read_text().strip()
            except OSError:
                continue
        return found

    wait_for(lambda: any(name.startswith("pvbatch") for name in ours().values()) and "Xvfb" in ours().values())
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    what = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    assert (process.returncode, errors.strip()) == (128 + number, f"paraloss: {what}")
    wait_for(lambda: not ours())
    assert not list(scratch.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.h5", "scratch"]
