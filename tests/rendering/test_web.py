"""The page in a real browser without a network, and the server that shows a running job."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from browsing import opened_page, shot
from helpers import BIN, run, surface_of
from matplotlib import image
from vtkmodules.util.numpy_support import vtk_to_numpy

from paraloss import Surface, to_polydata
from paraloss.compute.schedule.visit_order import coarse_to_fine
from paraloss.converters import GridOptions
from paraloss.converters.finer import WANTED, finer
from paraloss.converters.polygons import triangles_of
from paraloss.errors import InputError
from paraloss.rendering import write_page
from paraloss.rendering.server import ViewServer
from paraloss.rendering.web import _DRAWN
from paraloss.surface import SurfaceWriter


def tilted(x, y):
    return 2 + 1.5 * x + 0.2 * y


@pytest.mark.slow
def test_page_works_offline_turns_is_picked_and_stays_small(browser, tmp_path):
    x = np.linspace(-1, 1, 201)
    grid_x, grid_y = np.meshgrid(x, x)
    metrics = {"train_loss": 0.1 + grid_x**2 + 3 * grid_y**2, "train_acc": 90 - 10 * grid_x**2}
    surface = Surface(x, x, metrics, np.ones((201, 201), np.uint8))
    path = write_page([surface], tmp_path / "s.html", ["a bowl"])
    assert path.stat().st_size < 5_000_000
    assert "http://" not in path.read_text().replace("http://www.w3.org", "")
    page = opened_page(browser, f"file://{path}")
    before = shot(page, tmp_path / "a.png")
    middle = before[150:650, 300:850]
    assert (middle < 0.97).any(axis=-1).mean() > 0.2  # a surface is there
    page.mouse.move(600, 400)
    page.mouse.down()
    page.mouse.move(750, 380, steps=4)
    page.mouse.up()
    after = shot(page, tmp_path / "b.png")
    assert np.abs(after - before).mean() > 0.005
    page.click("#reset")
    assert np.abs(shot(page, tmp_path / "c.png") - before).mean() < 1e-3
    page.mouse.click(500, 400)
    rows = [line.split("\t") for line in page.locator("#picked table").inner_text().splitlines()]
    found = {name: float(value) for name, value in rows}
    assert found["train loss"] == pytest.approx(0.1 + found["x"] ** 2 + 3 * found["y"] ** 2, rel=2e-3)
    assert found["train acc"] == pytest.approx(90 - 10 * found["x"] ** 2, rel=2e-3)
    page.select_option("#look", "dark")
    assert shot(page, tmp_path / "d.png")[5, 500].max() < 0.15
    page.locator("#clip").fill("0.3")
    page.locator("#contours").fill("12")
    assert page.locator("#clip-out").inner_text() != "none"
    assert np.abs(shot(page, tmp_path / "e.png") - image.imread(tmp_path / "d.png")[..., :3]).mean() > 0.003
    assert page.complaints == []


@pytest.mark.slow
def test_a_large_surface_turns_in_a_coarse_level_and_rests_in_all_points(browser, tmp_path, monkeypatch):
    x, y = np.linspace(-1, 1, 60) ** 3, np.linspace(-1, 1, 41)
    loss = 0.1 + x**2 + 3 * y[:, None] ** 2 + np.sin(9 * x) * np.cos(7 * y[:, None])
    loss[20, 31] = np.nan
    path = {"x": np.linspace(-0.9, 0.9, 9), "y": np.linspace(-0.5, 0.5, 9)}
    surface = Surface(x, y, {"train_loss": loss + 1}, trajectory=path)
    pages = [write_page([surface], tmp_path / "whole.html", ["s"])]
    text = pages[0].read_text()
    for mine, large in (("large || fineScreen ? 1 : 2", "1"), (f'"fine": {WANTED}', '"fine": 1')):
        assert text.count(mine) == 1
        text = text.replace(mine, large)  # as large surfaces are drawn: without smooth edges, no points in between
    pages[0].write_text(text)
    monkeypatch.setitem(_DRAWN, "moving", 200)
    pages.append(write_page([surface], tmp_path / "levels.html", ["s"]))
    drawn = "refresh(); paint(); return document.body.dataset.points;"  # at once, so that no rest comes between
    pictures, picked, moving = [], [], []
    for number, address in enumerate(pages):
        page = opened_page(browser, f"file://{address}")
        moving.append(page.evaluate(f"() => {{ state.turn += 0.4; state.contours = 9; state.clip = 0.7; {drawn} }}"))
        page.locator('body[data-points="2460"]').wait_for(state="attached")
        pictures.append(shot(page, tmp_path / f"rest{number}.png"))
        page.mouse.click(560, 400)
        picked.append(page.locator("#picked table").inner_text())
        assert page.evaluate("() => { draw(); paint(); return document.body.dataset.points; }") == moving[-1]
        assert page.complaints == []
    assert moving == ["2460", str(16 * 11)]  # every fourth column and row, and the last ones
    differences = np.abs(pictures[1] - pictures[0]).max(axis=-1)  # one is cut as triangles, the other pixel by pixel
    assert differences.mean() < 1e-3
    assert (differences > 0.1).mean() < 3e-3
    assert picked[0] == picked[1] != ""


@pytest.mark.slow
def test_a_browser_without_a_gpu_rests_in_a_part_of_the_points_and_picks_from_all(browser, tmp_path, monkeypatch):
    monkeypatch.setitem(_DRAWN, "moving", 200)
    monkeypatch.setitem(_DRAWN, "resting", 700)
    surface = surface_of(lambda x, y: 2 + x + y**2, 60, 41)
    page = opened_page(browser, f"file://{write_page([surface], tmp_path / 's.html', ['s'])}")
    page.locator(f'body[data-points="{31 * 21}"]').wait_for(state="attached")
    assert "every 2nd point is drawn" in page.locator("#hint").inner_text()
    seen = set()
    for place in range(520, 600, 8):
        page.mouse.click(place, 400)
        found = dict(line.split("\t") for line in page.locator("#picked table").inner_text().splitlines())
        x, y = float(found["x"]), float(found["y"])
        assert float(found["train loss"]) == pytest.approx(2 + x + y**2, rel=2e-3)
        seen.add(round((x + 1) / 2 * 59) % 2)
    assert seen == {0, 1}  # columns that are drawn, and columns that are not
    assert page.complaints == []


@pytest.mark.slow
def test_x_runs_to_the_right_and_colors_follow_the_loss_in_the_page(browser, tmp_path):
    path = write_page([surface_of(tilted, 21, 13)], tmp_path / "s.html", ["tilted"])
    page = opened_page(browser, f"file://{path}#turn=-33&tilt=30")  # seen from the front
    picture = shot(page, tmp_path / "a.png")[:, 270:860]
    red = (picture[..., 0] - picture[..., 2] > 0.25).nonzero()[1]
    blue = (picture[..., 2] - picture[..., 0] > 0.25).nonzero()[1]
    assert red.mean() > blue.mean() + 100


@pytest.mark.slow
def test_server_shows_what_a_running_job_adds(browser, tmp_path):
    surface = surface_of(tilted, 9, 9)
    path = surface.save(tmp_path / "s.h5")
    server = ViewServer([path], ["live"], GridOptions())
    threading.Thread(target=server.run, daemon=True).start()
    try:
        page = opened_page(browser, server.url, offline=False)
        before = shot(page, tmp_path / "a.png")
        surface_of(lambda x, y: 2 - 1.5 * x, 9, 9).save(path)
        until, change = time.monotonic() + 30, 0.0
        while time.monotonic() < until and change <= 0.005:
            page.wait_for_timeout(500)
            change = np.abs(shot(page, tmp_path / "b.png") - before).mean()
        assert change > 0.005
        assert page.complaints == []
    finally:
        server.close()


@pytest.mark.slow
def test_page_follows_a_file_to_its_finest_level_and_unchanged_files_are_not_sent(browser, tmp_path):
    full = surface_of(tilted, 17, 17)
    blank = Surface(full.x, full.y, {"train_loss": np.full(full.shape, np.nan)}, np.zeros(full.shape, np.uint8))
    order = coarse_to_fine(full.shape)
    with SurfaceWriter(tmp_path / "s.h5", blank, {}) as writer:
        for index in order[:30]:
            writer.add(int(index), [full.metric().ravel()[index]])
        writer.flush()
        server = ViewServer([tmp_path / "s.h5"], ["live"], GridOptions())
        threading.Thread(target=server.run, daemon=True).start()
        try:
            page = opened_page(browser, server.url, offline=False)
            assert page.evaluate("surfaces[0].x.length") == 5
            address = server.url.replace("/?", "/data?")
            with urllib.request.urlopen(address) as answer:
                stamp = json.loads(answer.read())["stamp"]
            with urllib.request.urlopen(f"{address}&since={stamp}") as answer:
                assert (answer.status, answer.read()) == (204, b"")
            for index in order[30:]:
                writer.add(int(index), [full.metric().ravel()[index]])
            writer.flush()
            until = time.monotonic() + 30
            while page.evaluate("surfaces[0].x.length") < 17 and time.monotonic() < until:
                page.wait_for_timeout(300)
            assert page.evaluate("[surfaces[0].x.length, data.done]") == [17, True]
            assert page.complaints == []
        finally:
            server.close()


@pytest.fixture
def served(tmp_path):
    server = ViewServer([surface_of(tilted).save(tmp_path / "s.h5")], ["s"], GridOptions())
    threading.Thread(target=server.run, daemon=True).start()
    yield server
    server.close()


def connected(server, sent=b""):
    link = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    link.sendall(sent)
    return link


def test_two_hundred_requests_at_once_are_all_answered(served):
    """Every connection is open before the first one asks."""
    address = served.url.removeprefix(f"http://127.0.0.1:{served.port}")
    links = [connected(served) for _ in range(200)]
    for link in links:
        link.sendall(f"GET {address} HTTP/1.0\r\nHost: localhost:{served.port}\r\n\r\n".encode())
    for link in links:
        with link, link.makefile("rb") as answer:
            text = answer.read()
            assert text.startswith(b"HTTP/1.0 200 OK")
            assert text.rstrip().endswith(b"</html>")


def test_head_tells_the_length_and_sends_no_body(served):
    with urllib.request.urlopen(served.url, timeout=60) as whole:
        length = len(whole.read())
    with urllib.request.urlopen(urllib.request.Request(served.url, method="HEAD"), timeout=60) as head:
        assert (head.status, head.read(), int(head.headers["Content-Length"])) == (200, b"", length)


def test_idle_and_slow_connections_are_closed_and_hold_no_thread(served, monkeypatch):
    before = threading.active_count()
    links = [connected(served, sent) for sent in (b"", b"GET / HT", b"GET / HTTP/1.0\r\nHost: local") for _ in range(10)]
    until = time.monotonic() + 60
    while threading.active_count() < before + 30 and time.monotonic() < until:
        time.sleep(0.05)
    monkeypatch.setattr("paraloss.rendering.server._LONGEST_S", 0.0)
    for link in links:
        with link:
            assert link.recv(100) == b""  # closed by the server, within the minute of its timeout
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= before
    monkeypatch.undo()
    with urllib.request.urlopen(served.url, timeout=60) as answer:
        assert answer.status == 200


def test_a_browser_that_leaves_before_its_answer_prints_nothing(served, capfd):
    address = served.url.removeprefix(f"http://127.0.0.1:{served.port}")
    for _ in range(20):
        link = connected(served, f"GET {address} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset instead of a good-bye
        link.close()
    with urllib.request.urlopen(served.url, timeout=60) as answer:
        assert answer.status == 200
    assert capfd.readouterr() == ("", "")


def test_more_connections_than_the_limit_are_closed_unanswered(served, monkeypatch):
    monkeypatch.setattr("paraloss.rendering.server._MOST", 3)
    links = [connected(served) for _ in range(3)]
    with connected(served) as late:
        assert late.recv(1) == b""
    for link in links:
        link.close()


def test_server_answers_its_token_and_this_machine_only(tmp_path):
    server = ViewServer([surface_of(tilted).save(tmp_path / "s.h5")], ["s"], GridOptions())
    threading.Thread(target=server.run, daemon=True).start()
    base, token = server.url.split("?token=")

    def answer(address, **headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    try:
        assert base.startswith("http://127.0.0.1:")
        assert answer(server.url)[0] == 200
        status, text = answer(f"{base}data?token={token}")
        assert status == 200
        assert json.loads(text)["surfaces"][0]["name"] == "s"
        assert answer(base)[0] == 403
        assert answer(f"{base}?token=guess")[0] == 403
        assert answer(server.url, Host="evil.example")[0] == 403
        assert answer(f"{base}../etc/passwd?token={token}")[0] == 404
    finally:
        server.close()


def test_names_cannot_leave_their_place_in_the_page(tmp_path):
    name = "</script><script>alert(1)</script>"
    text = write_page([surface_of(tilted)], tmp_path / "s.html", [name]).read_text()
    assert "<script>alert" not in text
    block = text.split('type="application/json">')[1].split("</script>")[0]
    assert json.loads(block)["surfaces"][0]["name"] == name


def test_what_the_page_cannot_show_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("paraloss.rendering.web._MOST", 1000)
    curve = Surface(np.arange(4.0), None, {"train_loss": np.arange(4.0)}, np.ones(4, np.uint8))
    big = surface_of(tilted, 40, 26)
    with pytest.raises(InputError, match="two axes"):
        write_page([curve], tmp_path / "s.html", ["c"])
    with pytest.raises(InputError, match="fewer or coarser"):
        write_page([big], tmp_path / "s.html", ["b"])
    with pytest.raises(InputError, match="unknown look"):
        write_page([surface_of(tilted)], tmp_path / "s.html", ["b"], look="neon")
    assert not list(tmp_path.iterdir())


def test_view_without_a_display_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    surface_of(tilted).save(tmp_path / "s.h5")
    done = run("view", tmp_path / "s.h5")
    assert done.returncode == 2
    assert "--web" in done.stderr


@pytest.mark.slow
@pytest.mark.paraview  # needs the virtual display
def test_window_opens_with_sliders_and_the_surface(tmp_path):
    from helpers import needs_paraview, virtual_display

    needs_paraview()
    surface_of(tilted, 21, 21).save(tmp_path / "s.h5")
    script = f"""
    {BIN / "paraloss"} view {tmp_path / "s.h5"} &
    while sleep 1; do xwd -root -out {tmp_path / "new.xwd"} && mv {tmp_path / "new.xwd"} {tmp_path / "screen.xwd"}; done
    """
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*virtual_display("1400x900x24"), "bash", "-c", script], stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYVISTA_OFF_SCREEN": "true"},  # whoever asks for a window gets one
        )  # fmt: skip
    try:
        until, blue, red = time.monotonic() + 90, 0.0, 0.0
        while time.monotonic() < until and not (blue > 0.004 and red > 0.004):
            time.sleep(1)
            blue, red = shares_of_blue_and_red(tmp_path / "screen.xwd")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert blue > 0.004, (tmp_path / "log").read_text()
    assert red > 0.004


PICK = """
import sys
from pathlib import Path
from paraloss.converters import GridOptions
from paraloss.converters.finer import WANTED
from paraloss.converters.finer import finer
from paraloss.converters.polygons import triangles_of
from paraloss.picture_options import PictureOptions
from paraloss.rendering import window
shown = window._Window([Path(sys.argv[1])], ["a"], GridOptions(), PictureOptions())
def once(step):
    if step == 1:
        shown._picked((0.5, 0.2, 0.1))
    if step == 2:
        shown._plotter.screenshot(sys.argv[2])
        shown._plotter.close()
shown._plotter.add_timer_event(max_steps=4, duration=700, callback=once)
shown.show()
"""


@pytest.mark.slow
@pytest.mark.paraview  # needs the virtual display
def test_a_point_picked_in_the_window_shows_its_cuts(tmp_path):
    from helpers import needs_paraview, under_display

    needs_paraview()
    surface_of(tilted, 21, 21).save(tmp_path / "s.h5")
    (tmp_path / "pick.py").write_text(PICK)
    done = under_display(
        [sys.executable, str(tmp_path / "pick.py"), str(tmp_path / "s.h5"), str(tmp_path / "w.png")],
        timeout=120, screen="1500x1000x24",
    )  # fmt: skip
    assert (tmp_path / "w.png").exists(), done.stderr
    shown = image.imread(tmp_path / "w.png")[..., :3]
    chart = shown[int(0.48 * len(shown)) : int(0.78 * len(shown)), int(0.71 * shown.shape[1]) : int(0.98 * shown.shape[1])]
    for color in ((0x3B, 0x6F, 0xD4), (0xD1, 0x48, 0x2F)):
        assert (np.abs(chart - np.array(color) / 255).max(axis=-1) < 0.12).sum() > 60


def shares_of_blue_and_red(path):
    """Of the pixels of a screenshot by xwd; zeros while there is none."""
    if not path.exists():
        return 0.0, 0.0
    raw = path.read_bytes()
    header = np.frombuffer(raw[:100], ">u4")
    width, height, stride = int(header[4]), int(header[5]), int(header[12])
    start = int(header[0]) + 12 * int(header[19])
    pixels = np.frombuffer(raw[start : start + stride * height], np.uint8).reshape(height, stride // 4, 4)[:, :width, :3] / 255
    warmth = pixels[..., 2] - pixels[..., 0]  # stored as blue, green, red
    return float((warmth < -0.15).mean()), float((warmth > 0.15).mean())


SHEET = """() => {
  const level = toLog(clipValue(state.metric), offsetFor(state.metric));
  const sheet = sheetOf(surfaces[0], drawn(surfaces[0], state.metric, state.log, false), null, level);
  const at = k => [sheet.places[3 * k], sheet.places[3 * k + 1]];
  let area = 0;
  for (let k = 0; k < sheet.indices.length; k += 3) {
    const [a, b, c] = [0, 1, 2].map(q => at(sheet.indices[k + q]));
    area += ((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) / 2;
  }
  const used = [...new Set(sheet.indices)].map(k => sheet.values[k]);
  const values = Array.from(sheet.values.slice(0, sheet.x.length * sheet.y.length));
  return {area, highest: used.reduce((a, b) => Math.max(a, b)), level, values, nx: sheet.x.length};
}"""


@pytest.mark.slow
def test_the_page_interpolates_and_cuts_as_pictures_do(browser, tmp_path):
    values = np.exp(np.random.default_rng(5).normal(size=(8, 9)) * 1.5)
    values[2, 3], values[6, 6] = np.nan, np.inf
    surface = Surface(np.linspace(-1, 1, 9), np.linspace(-1, 1, 8), {"train_loss": values})
    page = opened_page(browser, f"file://{write_page([surface], tmp_path / 's.html', ['a'], zmax=3.0)}")
    found = page.evaluate(SHEET)
    assert page.complaints == []
    fine = finer(surface, infinite_is_high=True)
    assert found["nx"] == len(fine.x)
    assert found["highest"] == pytest.approx(found["level"]) == pytest.approx(np.log(3.1))
    drawn = np.array([np.nan if value is None else value for value in found["values"]], float).reshape(fine.shape)
    heights = np.log(fine.metric() + 0.1)
    assert (np.isnan(drawn) == np.isnan(heights)).all()
    known = np.isfinite(heights)
    np.testing.assert_allclose(drawn[known], heights[known], atol=1e-5)
    mesh = to_polydata(fine, GridOptions(zmax=3.0))
    points, triangles = vtk_to_numpy(mesh.GetPoints().GetData()), triangles_of(mesh)
    (ax, ay), (bx, by), (cx, cy) = (points[triangles[:, k], :2].T for k in range(3))
    assert found["area"] == pytest.approx(float(((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)).sum() / 2), rel=0.01)
