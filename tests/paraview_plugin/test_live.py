"""A running job in ParaView: the window follows it by itself, at the finest complete level, and stops when it is done."""

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
        Gate.calls += 1
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


@pytest.mark.slow
def test_the_window_follows_a_job_on_two_ranks_and_stops_asking_when_it_is_done(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "limit").write_text("0")
    subprocess.run(
        ["python", "-c", "import slow, torch; torch.manual_seed(0); torch.save(slow.net().state_dict(), 'w.pt')"],
        cwd=tmp_path, check=True, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
    )  # fmt: skip
    settings = tmp_path / "home" / ".config" / "ParaView"
    settings.mkdir(parents=True)
    for name in ("ParaView5.11.0.ini", "ParaView5.13.2.ini", "ParaView.ini"):
        (settings / name).write_text("[General]\nGeneralSettings.ShowWelcomeDialog=false\n")
    log, surface = tmp_path / "points", tmp_path / "s.h5"
    (tmp_path / "window.py").write_text(f"FILE, LOG = {str(surface)!r}, {str(log)!r}\n" + WINDOW)
    job = subprocess.Popen(
        [BIN / "mpiexec", "-n", "2", BIN / "paraloss", "compute", "--weights", "w.pt", "--model", "slow.py:net",
         f"--x=-1:1:{SIDE}", "--samples", "64", "--batch-size", "64", "--precision", "fp32", "-o", "s.h5", "--no-progress"],
        cwd=tmp_path, start_new_session=True, stderr=(tmp_path / "job").open("w"),
    )  # fmt: skip
    display, window = virtual_display(), None
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}

    def shown():
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def known():
        return (read_surface(surface).status > 0).sum() if surface.exists() else 0

    def say():
        return f"{shown()} {known()} {(tmp_path / 'job').read_text()} {(tmp_path / 'window').read_text()}"

    try:
        (tmp_path / "window").write_text("")
        pictures, levels = [], []
        calls = 0
        for share in (0.1, 0.5, 1.0):
            while known() < share * SIDE**2:
                calls += 4
                (tmp_path / "limit").write_text(str(calls))
                assert job.poll() in (None, 0), say()
                time.sleep(0.3)
            time.sleep(1.5)  # the job's next flush
            if window is None:
                window = subprocess.Popen(
                    [*display, "bash", "-c",
                     "paraview --script=window.py & while read name; do xwd -root -silent -out $name.xwd && mv $name.xwd $name; done"],
                    cwd=tmp_path, start_new_session=True, stdin=subprocess.PIPE, stderr=(tmp_path / "window").open("w"), text=True,
                    env={**kept, "HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(settings.parent), "PYTHONPATH": CURE},
                )  # fmt: skip
            levels.append(finest_level(read_surface(surface).status))
            until(lambda: shown()[-1:] == levels[-1:], say)
            time.sleep(2.5)
            window.stdin.write(f"picture{len(pictures)}\n")
            window.stdin.flush()
            until((tmp_path / f"picture{len(pictures)}").exists, say)
            pictures.append(read_xwd(tmp_path / f"picture{len(pictures)}"))
        (tmp_path / "limit").write_text("1000000")
        assert job.wait(60) == 0
        assert levels[0] < levels[1] <= levels[2] == SIDE**2
        dark = [(picture.max(axis=-1) < 40).sum() for picture in pictures]
        assert dark[0] < dark[2]  # a finer grid has more edges
        until(lambda: not (read_surface(surface).status == 0).any(), say)
        time.sleep(4)
        updates = len(shown())
        os.utime(surface)
        time.sleep(4)
        assert len(shown()) == updates
    finally:
        for process in (job, window):
            if process is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


GROWS = """
import shutil, time
paths = sys.argv[1:]
shutil.copy(paths[0], "grows.h5")
r = LossSurfaceReader(FileNames=["grows.h5"])
def look(**more):
    time.sleep(2.5)
    r.InvokeCommand("Poll")
    r.UpdatePipeline()
    low, high = r.GetDataInformation().GetExtent()[1:4:2]
    tell(columns=r.GetDataInformation().GetExtent()[1] + 1, rows=high + 1, known=r.PointData["status"].GetRange()[1], **more)
look(name="begun")
look(name="nothing new")
shutil.copy(paths[1], "grows.h5")
r.Follow = 0
look(name="paused")
r.Follow = 1
look(name="follows")
shutil.copy(paths[2], "grows.h5")
look(name="done")
shutil.copy(paths[0], "grows.h5")
look(name="asks no more")
r.InvokeCommand("Refresh")
look(name="reloaded")
"""


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
source = ProgrammableSource(OutputDataSetType="vtkPolyData")
source.Script = '''
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
source.UpdatePipeline()
tell(points=source.GetDataInformation().GetNumberOfPoints(), bounds=source.GetDataInformation().GetBounds())
"""


def test_all_ranks_have_the_answer_of_the_first_also_where_it_fails(tmp_path):
    told, output = pvpython(ONE_ANSWER, program=TWO, folder=tmp_path, PYTHONPATH=CURE)
    assert told, output
    assert told[0] == {"points": 2, "bounds": [0, 0, 1, 1, 0, 1]}, output
