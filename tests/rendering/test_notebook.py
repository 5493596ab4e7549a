"""Surfaces in notebooks and figures: the example notebook in JupyterLab and Chromium, its widget turned, picked and growing."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import shot
from helpers import surface_of
from matplotlib import pyplot
from matplotlib.figure import Figure

import paraloss
from paraloss import render
from paraloss.errors import InputError
from paraloss.rendering import widget
from paraloss.rendering.widget import explore
from paraloss.surface import PENDING

HOUSE = Path(__file__).resolve().parents[2]
GROWING = """
import numpy as np
from dataclasses import replace
from paraloss import Surface
x = np.linspace(-1, 1, 21)
a, b = np.meshgrid(x, x)
full = Surface(x, x, {"train_loss": 0.1 + a**2 + b**2}, np.ones((21, 21), np.uint8))
status = full.status.copy()
status[:, 10:] = 0
replace(full, status=status).save("growing.h5")
growing = paraloss.explore("growing.h5")
growing
"""
GROWN = """
import time
full.save("growing.h5")
until = time.monotonic() + 60
while not growing.fresh and time.monotonic() < until:  # the kernel is busy, as while it computes
    time.sleep(0.1)
print("grown" + ":", len(growing.fresh))
"""


def bowl(x, y):
    return 0.1 + x**2 + 2 * y**2


def partial(surface):
    status = surface.status.copy()
    status[:, surface.shape[1] // 2 :] = PENDING
    return replace(surface, status=status)


def test_a_plot_without_a_path_is_a_figure_and_with_axes_is_drawn_into_them(caplog):
    surface = surface_of(bowl, 9, 11)
    lit = surface.plot(size=(400, 300))
    assert isinstance(lit, Figure) and lit.axes[0].images[0].get_array().shape[:2] == (300, 400)
    lines = surface.plot(style="contour")
    assert len(lines.axes[0].collections) == 1 and lines.axes[0].get_xlabel() == "step along x"
    assert pyplot.get_fignums() == []  # no window here: nothing is left open
    curve = replace(surface, y=None, metrics={"train_loss": surface.metric()[5]}, status=surface.status[5])
    figure, axes = pyplot.subplots(1, 3)
    try:
        for number, (drawn, options) in enumerate(((surface, {}), (surface, {"style": "filled"}), (curve, {}))):
            axes[2].plot([0, 0.5], [7, 7])  # what was there stays
            assert drawn.plot(ax=axes[number], **options) is figure
        np.testing.assert_allclose(axes[2].lines[-1].get_ydata(), curve.metric())
        assert axes[0].images and axes[1].collections
    finally:
        pyplot.close(figure)
    with pytest.raises(InputError, match="not both"):
        surface.plot("s.png", ax=axes[0])
    with pytest.raises(TypeError, match="unexpected"):
        surface.plot(colour="red")


def test_render_takes_paths_surfaces_and_one_of_either(tmp_path):
    surface = surface_of(bowl, 5, 5)
    surface.save(tmp_path / "s.h5")
    one = render(tmp_path / "s.h5", tmp_path / "one.png", size=(300, 200)).read_bytes()
    assert render(surface, tmp_path / "same.png", size=(300, 200), labels=[""]).read_bytes() == one
    render([str(tmp_path / "s.h5"), surface], tmp_path / "two.png", size=(300, 200))
    with pytest.raises(paraloss.ParalossError, match="none"):
        render([tmp_path / "none.h5"], tmp_path / "n.png")
    assert not (tmp_path / "n.png").exists()


def test_at_refuses_places_outside():
    surface = surface_of(bowl, 5, 9)
    assert surface.at(1.0, -1.0)["train_loss"] == pytest.approx(3.1) == surface.at(1 + 1e-9, -1.0)["train_loss"]
    for place in ((1.1, 0), (0, -1.01), (float("nan"), 0)):
        with pytest.raises(InputError, match="outside"):
            surface.at(*place)
    away = replace(surface, x=surface.x + 3)
    with pytest.raises(InputError, match="x = 0 lies outside this surface, which runs from 2 to 4 along x"):
        away.at()
    assert surface.center == (4, 2) and away.center is None


def test_xarray_comes_with_all_extras_and_holds_every_value():
    lines = (HOUSE / "pyproject.toml").read_text().splitlines()
    extras = {line.split(" = ")[0]: line for line in lines if " = [" in line}
    assert "xarray" in extras["notebook"] and "notebook" in extras["all"]
    table = surface_of(bowl, 5, 9).to_xarray()
    assert float(table.train_loss.sel(x=1, y=-1)) == pytest.approx(3.1)


def test_the_widget_follows_a_file_and_stops_when_it_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr("paraloss.rendering.widget._EVERY_S", 0.02)
    full = surface_of(bowl, 9, 9)
    path = partial(full).save(tmp_path / "s.h5")
    shown = explore(path, look="dark")
    assert shown.picked == {} and '"look": "dark"' in shown.page
    full.save(path)
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    until = time.monotonic() + 60
    while not (shown.fresh and shown.fresh["surfaces"][0]["metrics"] == explored(full)["metrics"]) and time.monotonic() < until:
        time.sleep(0.02)
    assert shown.fresh["surfaces"][0]["metrics"] == explored(full)["metrics"]
    with pytest.raises(InputError, match="two axes"):
        explore(replace(full, y=None, metrics={"train_loss": full.metric()[0]}, status=full.status[0]))


def explored(surface):
    from paraloss.picture_options import GridOptions, PictureOptions
    from paraloss.rendering.web import data_of

    return data_of([surface], ["s"], GridOptions(), PictureOptions())["surfaces"][0]


def test_without_anywidget_a_surface_turns_in_a_frame(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    widget._widget.cache_clear()
    shown = surface_of(bowl, 5, 5).explore(look="dark", height=300)
    assert "height:300px" in shown._repr_html_() and "&quot;look&quot;: &quot;dark&quot;" in shown._repr_html_()
    with pytest.raises(paraloss.errors.MissingPackage, match="notebook"):
        explore(surface_of(bowl, 5, 5))
    widget._widget.cache_clear()


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a copy of the example notebook, with two cells about a job that grows."""
    notebook = json.loads((HOUSE / "examples" / "notebook.ipynb").read_text())
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    notebook["cells"] += [{**cell, "id": name, "source": text} for name, text in (("growing", GROWING), ("grown", GROWN))]
    (tmp_path / "notebook.ipynb").write_text(json.dumps(notebook))
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("RUNTIME", "CONFIG", "DATA")}
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')  # cells out of sight stay as they are
    folders["JUPYTERLAB_SETTINGS_DIR"] = str(tmp_path / "settings")
    environment = {**os.environ, **folders, "IPYTHONDIR": str(tmp_path / "ipython"), "OMP_NUM_THREADS": "1"}
    environment.pop("MPLBACKEND", None)
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
                "--ServerApp.port=0", "--IdentityProvider.token=secret", f"--ServerApp.root_dir={tmp_path}",
            ],
            stdout=log, stderr=log, env=environment, cwd=tmp_path,
        )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not (found := list((tmp_path / "runtime").glob("jpserver-*.json"))):
            assert server.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield json.loads(found[0].read_text())["url"] + "lab/tree/notebook.ipynb?token=secret"
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.mark.slow
def test_the_example_notebook_runs_in_jupyterlab_and_its_widget_turns_picks_and_grows(browser, lab, tmp_path):
    page = browser.new_context(viewport={"width": 1300, "height": 1000}).new_page()
    page.set_default_timeout(180_000)
    page.goto(lab)
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate(
        """async () => {
        const panel = window.jupyterapp.shell.currentWidget;
        await panel.revealed; await panel.sessionContext.ready;
        window.jupyterapp.commands.execute('notebook:run-all-cells');
        }"""
    )
    page.locator(".jp-InputPrompt", has_text="[1]:").or_(page.locator(".jp-InputPrompt", has_text="[*]:")).first.wait_for()
    frames, failures = page.locator("iframe[srcdoc]"), page.locator(".jp-OutputArea-output", has_text="Traceback")
    frames.nth(1).or_(failures.first).first.wait_for(state="attached")
    assert not failures.count(), failures.first.inner_text()
    page.locator("text=grown: ").or_(failures).first.wait_for(state="attached")

    drawn = page.locator(".jp-Cell", has_text="figure = surface.plot").locator(".jp-OutputArea img")
    assert drawn.count() == 1  # the figure is shown, and once

    first = frames.nth(0)
    first.scroll_into_view_if_needed()
    inner = first.content_frame
    inner.locator("body[data-painted]").wait_for(state="attached")
    before = shot(page, tmp_path / "a.png")
    box = first.bounding_box()
    part = np.s_[int(max(box["y"], 0)) : int(box["y"] + box["height"]), int(box["x"]) : int(box["x"] + box["width"])]
    colored = np.ptp(before[part], axis=-1) > 0.2
    assert colored.mean() > 0.05  # the surface is drawn
    x, y = box["x"] + 0.6 * box["width"], box["y"] + 0.55 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y - 20, steps=4)
    page.mouse.up()
    assert np.abs(shot(page, tmp_path / "b.png")[part] - before[part]).mean() > 0.003  # it turns
    inner.locator("#clip").fill("0.5")
    assert inner.locator("#clip-out").inner_text() != "none"
    page.mouse.click(x, y)
    rows = [line.split("\t") for line in inner.locator("#picked table").inner_text().splitlines()]
    shown = {name: float(value) for name, value in rows}

    page.evaluate(
        """async () => {
        const panel = window.jupyterapp.shell.currentWidget, cells = panel.content.widgets;
        panel.content.activeCellIndex = cells.findIndex(c => c.model.sharedModel.source.trim() === 'widget.picked');
        await window.jupyterapp.commands.execute('notebook:run-cell');
        }"""
    )
    output = page.locator(".jp-OutputArea-output", has_text="'train_loss':").last
    output.wait_for(state="attached")
    told = {key: float(value) for key, value in json.loads(output.inner_text().replace("'", '"')).items()}
    assert told["x"] == pytest.approx(shown["x"], abs=1e-3) and told["train_loss"] == pytest.approx(
        shown["train loss"], rel=1e-3
    )

    second = frames.nth(1)
    second.scroll_into_view_if_needed()
    grown = second.content_frame
    grown.locator("body[data-painted]").wait_for(state="attached")
    assert grown.locator("body").evaluate("() => surfaces[0].x.length") == 21  # at first half the points, coarser
    assert page.locator("text=grown: ").last.inner_text().split()[-1] != "0"
    until, colored = time.monotonic() + 60, 0.0
    while colored < 0.05 and time.monotonic() < until:
        box = second.bounding_box()
        part = np.s_[int(max(box["y"], 0)) : int(box["y"] + box["height"]), int(box["x"]) : int(box["x"] + box["width"])]
        colored = (np.ptp(shot(page, tmp_path / "c.png")[part], axis=-1) > 0.2).mean()
    assert colored > 0.05
