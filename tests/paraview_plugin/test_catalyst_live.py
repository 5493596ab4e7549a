"""ParaView Live: a client that is connected to ``paraloss compute --catalyst`` is sent the surface as it is computed."""

import contextlib
import json
import os
import re
import socket
import subprocess
import time

import numpy as np
import pytest
from helpers import BIN, needs_paraview, virtual_display
from test_catalyst import EXPORT
from test_live import SLOW, started, until
from test_plugin import HOUSE, PLUGIN, bumpy, pvpython
from test_ranks import CURE

from paraloss.surface import read_surface

pytestmark = pytest.mark.paraview
SIDE = 9  # points along each axis

# What the window's Catalyst > Connect, and a click on the eye of the source, do.
CLIENT = """
import json, sys, time
from paraview import live, servermanager
from paraview.simple import *
LoadPlugin(sys.argv[3], remote=False, ns=globals())
link = live.ConnectToCatalyst("localhost", int(sys.argv[1]))
data = last = None
with open(sys.argv[2], "w") as log:
    def tell(**facts):
        log.write(json.dumps(facts) + "\\n")
        log.flush()
    tell(listens=1)
    while True:
        live.ProcessServerNotifications()
        there = link.GetInsituProxyManager()
        if data is None and there and there.GetProxy("sources", "as_drawn.h5"):
            data = live.ExtractCatalystData(link, "as_drawn.h5")
            tell(connected=1)
        if data is not None:
            data.UpdatePipeline()
            about = data.GetDataInformation()
            if about.GetNumberOfPoints():
                now = dict(extent=list(about.GetExtent()), loss=data.PointData["train_loss"].GetRange())
                if now != last:
                    last = now
                    tell(**now)
        time.sleep(0.1)
"""


@contextlib.contextmanager
def listener(folder, port):
    """A client of ParaView that waits for Catalyst on a port."""
    (folder / "client.py").write_text(CLIENT)
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    command = [*virtual_display(), "pvpython", "client.py", port, "seen", PLUGIN]
    with started(command, folder, "client", env={**kept, "PYTHONPATH": CURE}):
        seen = folder / "seen"
        until(lambda: seen.exists() and seen.read_text(), (folder / "client.log").read_text, seconds=300)
        yield lambda: [json.loads(line) for line in seen.read_text().splitlines() if line.endswith("}")][1:]


@pytest.mark.slow
def test_a_client_of_catalyst_live_sees_the_surface_grow_to_its_end(tmp_path):
    needs_paraview()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bumpy(SIDE, SIDE).save(tmp_path / "as_drawn.h5")
    live = f"options.EnableCatalystLive, options.CatalystLiveURL = 1, 'localhost:{port}'\nsave_catalyst_state("
    code = EXPORT.replace("save_catalyst_state(", live)
    told, output = pvpython(code, tmp_path / "as_drawn.h5", tmp_path / "p.py", HOUSE / "state_files", folder=tmp_path)
    assert told and re.search("EnableCatalystLive *= *1", (tmp_path / "p.py").read_text()), output
    (tmp_path / "slow.py").write_text(SLOW)
    limit = tmp_path / "limit"
    limit.write_text("0")
    weights = "import slow, torch; torch.manual_seed(0); torch.save(slow.net().state_dict(), 'w.pt')"
    subprocess.run([BIN / "python", "-c", weights], cwd=tmp_path, check=True)
    job = [BIN / "paraloss", "compute", "--weights", "w.pt", "--model", "slow.py:net", "--data", "digits", f"--x=-1:1:{SIDE}",
           "--samples", "64", "--batch-size", "64", "--precision", "fp32", "-o", "s.h5", "--no-progress",
           "--catalyst", "p.py"]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}

    def go_on_until(holds):
        """Let the job evaluate point after point, and write."""
        for calls in range(int(limit.read_text()) + 1, 70):
            if holds():
                return
            limit.write_text(str(calls))
            time.sleep(1.5)  # longer than from one flush of the job to the next
        raise AssertionError(say())

    def say():
        return "".join((tmp_path / f"{name}.log").read_text() for name in ("job", "client"))

    with listener(tmp_path, port) as seen, started(job, tmp_path, "job", env=environment) as running:
        until((tmp_path / "s.h5").exists, say, seconds=300)
        go_on_until(lambda: (read_surface(tmp_path / "s.h5").status > 0).any())
        until(lambda: seen(), say, seconds=300)  # it connects when the first points are handed over
        go_on_until(lambda: len(seen()) > 1)
        limit.write_text("1000000")
        assert running.wait(300) == 0, say()
        loss = read_surface(tmp_path / "s.h5").metric()
        whole = {"extent": [0, SIDE - 1, 0, SIDE - 1, 0, 0], "loss": pytest.approx([np.min(loss), np.max(loss)])}
        until(lambda: seen()[-1] == whole, say, seconds=60)
        first = seen()[1]
    assert first != whole
    assert np.min(loss) <= first["loss"][0] <= first["loss"][1] <= np.max(loss)
