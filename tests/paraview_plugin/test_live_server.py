"""ParaView's window on a pvserver of one rank and of two follows a growing file by itself; a pause, the end of the job."""

import contextlib
import json
import os
import shutil
import socket

import numpy as np
import pytest
from helpers import needs_paraview, virtual_display
from test_live import photograph, started, until
from test_plugin import PLUGIN, bumpy
from test_ranks import CURE, TWO

from paraloss.compute.schedule.visit_order import coarse_to_fine
from paraloss.surface import Surface, SurfaceWriter

pytestmark = pytest.mark.paraview

WINDOW = f"""
import json, os
from paraview.simple import *
Connect("127.0.0.1", PORT)
for remote in (True, False):
    LoadPlugin({str(PLUGIN)!r}, remote=remote, ns=globals())
view = GetActiveViewOrCreate("RenderView")
reader = OpenDataFile(FILE)
Show(reader, view)
contours = SurfaceContours(Input=reader)
Show(contours, view)
ResetCamera()
Render()
ticks = 0
def note(*_):
    about = reader.GetDataInformation()
    with open(LOG, "a") as log:
        facts = dict(columns=about.GetExtent()[1] + 1, loss=reader.PointData["train_loss"].GetRange(), ticks=ticks)
        log.write(json.dumps(facts | dict(lines=contours.GetDataInformation().GetNumberOfPoints())) + "\\n")
def tick(*_):
    global ticks
    ticks += 1
    with open(LOG + ".ticks", "w") as log:
        log.write(str(ticks))
    if os.path.exists(ORDER):
        with open(ORDER) as order:
            reader.FollowRunningJob = int(order.read())
        os.remove(ORDER)
note()
contours.SMProxy.AddObserver("UpdateDataEvent", note)
view.GetInteractor().AddObserver("TimerEvent", tick)
view.GetInteractor().CreateRepeatingTimer(500)
"""


@pytest.fixture(autouse=True)
def _paraview():
    needs_paraview()


def stages(folder):
    """Files of one surface in which 12, 45 and 100 % of the points are known, coarse sub-grids first."""
    full = bumpy(33, 17)
    names = list(full.metrics)
    blank = Surface(full.x, full.y, {n: np.full(full.shape, np.nan) for n in names}, np.zeros(full.shape, np.uint8))
    order = coarse_to_fine(full.shape)
    for name, share in (("a", 0.12), ("b", 0.45), ("c", 1.0)):
        with SurfaceWriter(folder / f"{name}.h5", blank, {}) as writer:
            for index in order[: int(share * order.size)]:
                writer.add(int(index), [full.metrics[n].ravel()[index] for n in names])
    return full


@contextlib.contextmanager
def server(folder, ranks):
    """A pvserver that waits for its client, and its port; nothing of it outlives the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = TWO[:-1] if ranks == 2 else ()
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    command = [*virtual_display(), *begin, "pvserver", f"--server-port={port}"]
    output = folder / "server.out"
    with output.open("w") as said, started(command, folder, "server", stdout=said, env={**kept, "PYTHONPATH": CURE}):
        until(lambda: "Accepting connection" in output.read_text(), output.read_text, seconds=300)
        yield port


def window(folder, port):
    """ParaView's window, connected to a server; each line that it is sent names a picture of the screen to take."""
    settings = folder / "home" / ".config" / "ParaView"
    settings.mkdir(parents=True)
    for name in ("ParaView5.11.0.ini", "ParaView5.13.2.ini", "ParaView.ini"):
        (settings / name).write_text("[General]\nGeneralSettings.ShowWelcomeDialog=false\n")
    places = {"PORT": port, "FILE": str(folder / "s.h5"), "LOG": str(folder / "seen"), "ORDER": str(folder / "order")}
    (folder / "window.py").write_text("".join(f"{name} = {value!r}\n" for name, value in places.items()) + WINDOW)
    work = "paraview --script=window.py & while read name; do xwd -root -silent -out $name.part; mv $name.part $name; done"
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    home = {"HOME": str(folder / "home"), "XDG_CONFIG_HOME": str(settings.parent), "PYTHONPATH": CURE}
    return started([*virtual_display(), "bash", "-c", work], folder, "window", env={**kept, **home})


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_window_on_a_server_follows_a_growing_file_by_itself_until_it_is_paused_or_done(ranks, tmp_path):
    full = stages(tmp_path)
    surface, seen, ticks = tmp_path / "s.h5", tmp_path / "seen", tmp_path / "seen.ticks"
    shutil.copy(tmp_path / "a.h5", surface)

    def looks():
        lines = seen.read_text().splitlines() if seen.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def time():
        return int(ticks.read_text() or 0) if ticks.exists() else 0

    def say():
        texts = [path.read_text()[-2000:] for path in (tmp_path / "server.log", tmp_path / "window.log")]
        return f"{looks()} {time()} {texts}"

    def shows(columns):
        until(lambda: looks()[-1:] and looks()[-1]["columns"] == columns, say, seconds=300)
        return looks()[-1]

    def wait():
        """Long enough for the window to have asked twice."""
        end = time() + 12
        until(lambda: time() >= end, say, seconds=300)

    def follow(value):
        (tmp_path / "order.part").write_text(str(value))
        (tmp_path / "order.part").rename(tmp_path / "order")
        until(lambda: not (tmp_path / "order").exists(), say, seconds=300)

    with server(tmp_path, ranks) as port, window(tmp_path, port) as shown:
        coarse = shows(9)
        shutil.copy(tmp_path / "b.h5", surface)
        middle = shows(17)
        follow(0)
        shutil.copy(tmp_path / "c.h5", surface)
        wait()
        assert looks()[-1]["columns"] == 17, say()
        follow(1)
        fine = shows(33)
        wait()
        known = len(looks())
        os.utime(surface)
        wait()
        assert len(looks()) == known, say()
        picture = photograph(tmp_path, shown, "picture").astype(int)
    assert coarse["lines"] < middle["lines"] < fine["lines"]
    loss = full.metric()
    assert fine["loss"] == pytest.approx([loss.min(), loss.max()])
    assert (np.ptp(picture, axis=-1) > 90).sum() > 1000  # the surface in its colors
