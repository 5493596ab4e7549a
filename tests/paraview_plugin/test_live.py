"""A running job in ParaView: the window follows it by itself, at the finest complete level, and stops when it is done."""

import contextlib
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from helpers import BIN, needs_paraview, virtual_display
from screens import read_xwd
from test_plugin import PLUGIN, bumpy, pvpython
from test_ranks import CURE, TWO

from paraloss.compute.schedule.visit_order import coarse_to_fine
from paraloss.surface import Surface, SurfaceWriter, read_surface

pytestmark = pytest.mark.paraview
SIDE = 17  # points along each axis


@pytest.fixture(autouse=True)
def _paraview():
    needs_paraview()


WINDOW = f"""
from paraview.simple import *
LoadPlugin({str(PLUGIN)!r}, remote=False, ns=globals())
reader = OpenDataFile(FILE)
display = Show(reader, GetActiveView())
display.Representation, display.EdgeColor = "Surface With Edges", [0, 0, 0]
ResetCamera()
Render()
log = open(LOG, "a")
def note(*_):
    log.write(f"{{reader.GetDataInformation().GetNumberOfPoints()}}\\n")
    log.flush()
note()
reader.SMProxy.AddObserver("UpdateDataEvent", note)
"""

SLOW = """
import time
from pathlib import Path
from torch import nn

class Gate(nn.Module):
    calls = 0
    def forward(self, x):
        Gate.calls += Path("s.h5").exists()
        while Gate.calls > int(Path("limit").read_text() or 0):  # calls of each rank; the test raises the number
            time.sleep(0.05)
        return x

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Gate())
"""


def finest_level(status):
    """Points of the finest sub-grid around the middle with four fifths of its cells known, cell by cell."""
    side = len(status)
    for stride in (1, 2, 4, 8):
        lines = [k for k in range(side) if (k - (side - 1) // 2) % stride == 0]
        cells = [
            all(status[j][i] for j in lines[b : b + 2] for i in lines[a : a + 2])
            for b in range(len(lines) - 1)
            for a in range(len(lines) - 1)
        ]
        if sum(cells) >= 0.8 * len(cells):
            return len(lines) ** 2
    return side**2


def until(holds, what, seconds=90):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what()
        time.sleep(0.3)


@contextlib.contextmanager
def started(command, folder, name, **more):
    """A process in a group of its own, what it says in a file; nothing of it outlives the block."""
    with (folder / f"{name}.log").open("w") as said:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stderr=said, stdin=subprocess.PIPE, start_new_session=True, text=True, **more
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def job(folder):
    """A surface on two ranks that goes as far as the file ``limit`` lets it."""
    (folder / "slow.py").write_text(SLOW)
    (folder / "limit").write_text("0")
    weights = "import slow, torch; torch.manual_seed(0); torch.save(slow.net().state_dict(), 'w.pt')"
    subprocess.run([BIN / "python", "-c", weights], cwd=folder, check=True)
    return started(
        [BIN / "mpiexec", "-n", "2", BIN / "paraloss", "compute", "--weights", "w.pt", "--model", "slow.py:net", "--data",
         "digits", f"--x=-1:1:{SIDE}", "--samples", "64", "--batch-size", "64", "--precision", "fp32", "-o", "s.h5",
         "--no-progress"],
        folder, "job",
    )  # fmt: skip


def window(folder):
    """ParaView's window under a virtual display; each line that it is sent names a picture of the screen to take."""
    settings = folder / "home" / ".config" / "ParaView"
    settings.mkdir(parents=True)
    for name in ("ParaView5.11.0.ini", "ParaView5.13.2.ini", "ParaView.ini"):
        (settings / name).write_text("[General]\nGeneralSettings.ShowWelcomeDialog=false\n")
    files = f"FILE, LOG = {str(folder / 's.h5')!r}, {str(folder / 'points')!r}\n"
    (folder / "window.py").write_text(files + WINDOW)
    work = "paraview --script=window.py & while read name; do xwd -root -silent -out $name.part; mv $name.part $name; done"
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    places = {"HOME": str(folder / "home"), "XDG_CONFIG_HOME": str(settings.parent), "PYTHONPATH": CURE}
    return started([*virtual_display(), "bash", "-c", work], folder, "window", env={**kept, **places})


def photograph(folder, shown, name):
    shown.stdin.write(f"{name}\n")
    shown.stdin.flush()
    until((folder / name).exists, lambda: f"no picture {name}")
    return read_xwd(folder / name)


@pytest.mark.slow
def test_the_window_follows_a_job_on_two_ranks_and_stops_asking_when_it_is_done(tmp_path):
    surface, limit, calls = tmp_path / "s.h5", tmp_path / "limit", 0
    pictures, levels, shown = [], [], None

    def points():
        """Numbers of points that the window has had so far."""
        log = tmp_path / "points"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def say():
        return f"{points()} {levels} {(tmp_path / 'job.log').read_text()} {(tmp_path / 'window.log').read_text()}"

    with job(tmp_path) as running, contextlib.ExitStack() as later:
        for share in (0.1, 0.5, 1.0):
            until(surface.exists, say)
            while share < 1 and (read_surface(surface).status > 0).sum() < share * SIDE**2:
                limit.write_text(str(calls := calls + 8))
                assert running.poll() is None, say()
                time.sleep(1.5)  # longer than from one flush of the job to the next
            if share == 1.0:
                limit.write_text("1000000")
                assert running.wait(60) == 0
            time.sleep(1.5)  # the job's next flush
            if shown is None:
                shown = later.enter_context(window(tmp_path))
            levels.append(finest_level(read_surface(surface).status))
            until(lambda: points()[-1:] == levels[-1:], say)
            time.sleep(2.5)
            pictures.append(photograph(tmp_path, shown, f"picture{len(pictures)}"))
        assert levels[0] < levels[1] <= levels[2] == SIDE**2
        dark = [(picture.max(axis=-1) < 40).sum() for picture in pictures]
        assert dark[0] < dark[2]  # a finer grid has more edges
        updates = len(points())
        os.utime(surface)
        time.sleep(4)
        assert len(points()) == updates


GROWS = '''
import shutil, time
paths = sys.argv[1:]
shutil.copy(paths[0], "grows.h5")
r = LossSurfaceReader(FileNames=["grows.h5"])
def look(name, columns=None):
    """Poll once, or until there are so many columns: a busy machine rests longer between two looks."""
    until = time.monotonic() + 60
    while True:
        time.sleep(1.2)
        r.InvokeCommand("Poll")
        r.UpdatePipeline()
        extent = r.GetDataInformation().GetExtent()
        if columns in (None, extent[1] + 1) or time.monotonic() > until:
            break
    tell(name=name, columns=extent[1] + 1, rows=extent[3] + 1)
look("begun")
look("nothing new")
shutil.copy(paths[1], "grows.h5")
r.FollowRunningJob = 0
look("paused")
r.FollowRunningJob = 1
look("follows", columns=17)
shutil.copy(paths[2], "grows.h5")
look("done", columns=33)
shutil.copy(paths[0], "grows.h5")
look("asks no more")
r.InvokeCommand("Refresh")
look("reloaded")
'''


@pytest.mark.parametrize("program", [("pvpython",), TWO], ids=["one", "two"])
def test_a_reader_polls_a_growing_file_on_one_and_on_two_ranks(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full = bumpy(33, 17)
    names = list(full.metrics)
    blank = Surface(full.x, full.y, {n: np.full(full.shape, np.nan) for n in names}, np.zeros(full.shape, np.uint8))
    order = coarse_to_fine(full.shape)
    for name, share in (("a", 0.12), ("b", 0.45), ("c", 1.0)):
        with SurfaceWriter(tmp_path / f"{name}.h5", blank, {}) as writer:
            for index in order[: int(share * order.size)]:
                writer.add(int(index), [full.metrics[n].ravel()[index] for n in names])
    told, output = pvpython(
        GROWS, *(tmp_path / f"{name}.h5" for name in "abc"), program=program, folder=tmp_path, PYTHONPATH=CURE
    )
    sizes = {facts["name"]: (facts["columns"], facts["rows"]) for facts in told}
    coarse, middle, fine = (9, 5), (17, 9), (33, 17)
    assert sizes == {
        "begun": coarse, "nothing new": coarse, "paused": coarse, "follows": middle, "done": fine, "asks no more": fine,
        "reloaded": coarse,
    }, output  # fmt: skip


ONE_ANSWER = """
made = ProgrammableSource(OutputDataSetType="vtkPolyData")
made.Script = '''
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkParallelCore import vtkMultiProcessController
from paraloss.paraview_plugin.parts import ranks
rank = vtkMultiProcessController.GetGlobalController().GetLocalProcessId()
answer = ranks.from_first(lambda: {"rank": rank, "of": [1.5, None, "ä"]})
assert answer["of"] == [1.5, None, "ä"], answer
failed = 0
try:
    ranks.from_first(lambda: 1 / 0)
except Exception as error:
    failed = 1
points = vtkPoints()
points.InsertNextPoint(answer["rank"], failed, rank)
self.GetPolyDataOutput().SetPoints(points)
'''
made.UpdatePipeline()
tell(points=made.GetDataInformation().GetNumberOfPoints(), bounds=made.GetDataInformation().GetBounds())
"""


def test_all_ranks_have_the_answer_of_the_first_also_where_it_fails(tmp_path):
    told, output = pvpython(ONE_ANSWER, program=TWO, folder=tmp_path, PYTHONPATH=CURE)
    assert told, output
    assert told[0] == {"points": 2, "bounds": [0, 0, 1, 1, 0, 1]}, output
