"""The plugin, the states and batch rendering in a real ParaView."""

import json
import os
import signal
import subprocess
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import needs_paraview, on_two_ranks, run, surface_of, under_display, virtual_display
from matplotlib import image
from screens import read_xwd
from skimage.metrics import structural_similarity

from paraloss import Surface, read_surface, to_polydata, to_structured_grid, write_surface
from paraloss.converters import convert, open_surface
from paraloss.converters.geometry import contour_lines, minimum_marker
from paraloss.converters.paths import drape_trajectory
from paraloss.picture_options import GridOptions

pytestmark = pytest.mark.paraview
HOUSE = Path(__file__).resolve().parents[2]
PLUGIN = HOUSE / "paraview_plugin" / "paraloss_plugin.py"
RENDER = HOUSE / "state_files" / "render.py"
STATES = ["lit_surface", "side_by_side", "contours", "trajectory", "training_time_series"]

PRELUDE = f"""
import inspect, json, os, sys
inspect.getargspec = inspect.getfullargspec
from paraview.simple import *
LoadPlugin({str(PLUGIN)!r}, remote=False, ns=globals())
from paraview import servermanager
from vtkmodules.util.numpy_support import vtk_to_numpy
def tell(**facts):
    print("RESULT" + json.dumps(facts), flush=True)
def facts_of(source):
    source.UpdatePipeline()
    info = source.GetDataInformation()
    data = servermanager.Fetch(source)
    names = [data.GetPointData().GetArrayName(k) for k in range(data.GetPointData().GetNumberOfArrays())]
    values = {{name: vtk_to_numpy(data.GetPointData().GetArray(name)).ravel().tolist() for name in names}}
    return dict(bounds=info.GetBounds(), points=info.GetNumberOfPoints(), values=values)
"""


@pytest.fixture(autouse=True)
def _paraview():
    needs_paraview()


def pvpython(code, *arguments, program=("pvpython",), folder, **environment):
    """Run ``code`` in ParaView's Python; what it told, and everything it printed."""
    script = folder / "script.py"
    script.write_text(PRELUDE + textwrap.dedent(code))
    done = under_display([*program, str(script), *map(str, arguments)], **environment)
    told = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return told, done.stdout + done.stderr


def render(*arguments, program=("pvbatch",)):
    return under_display([*program, str(RENDER), *map(str, arguments)])


def bumpy(nx=31, ny=21, half=1.0):
    def loss(x, y):
        return 0.1 + 4 * x**2 + 9 * y**2 + 0.5 * np.sin(6 * x) ** 2

    plain = surface_of(loss, nx, ny, half)
    t = np.linspace(0, 3, 12)
    path = {"x": 0.8 * half * np.exp(-t), "y": 0.4 * half * np.cos(t) * np.exp(-t), "loss": np.linspace(6, 0.2, 12)}
    path |= {"step": np.arange(12.0), "residual": t}
    metrics = {**plain.metrics, "train_acc": 100 - plain.metric()}
    return Surface(plain.x, plain.y, metrics, plain.status, {"model": "formula"}, trajectory=path)


def li_file(path, nx=5, ny=3):
    """As Li et al.'s code writes it: shaped (nx, ny), filled with x fastest, -1 where nothing was computed."""
    x, y = np.linspace(-1, 1, nx), np.linspace(0, 1, ny)
    values = (1 + x[None, :] + 10 * y[:, None]).ravel()
    values[3] = -1
    with h5py.File(path, "w") as file:
        file["dir_file"] = "directions.h5"
        file["xcoordinates"], file["ycoordinates"] = x, y
        file["train_loss"] = values.reshape(nx, ny)
        file["train_acc"] = np.where(values == -1, -1, 50.0).reshape(nx, ny)
    return x, y, values.reshape(ny, nx)


def test_h5_vts_and_li_et_als_file_open_with_the_values_of_convert(tmp_path):
    write_surface(bumpy(), tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.vts")
    li_file(tmp_path / "li.h5")
    told, output = pvpython(
        "for path in sys.argv[1:]:\n    tell(**facts_of(OpenDataFile(path)))",
        tmp_path / "s.h5", tmp_path / "s.vts", tmp_path / "li.h5", folder=tmp_path,
    )  # fmt: skip
    assert len(told) == 3, output
    for path, facts in zip(("s.h5", "s.h5", "li.h5"), told, strict=True):
        grid = to_structured_grid(open_surface(tmp_path / path))
        np.testing.assert_allclose(facts["bounds"], grid.GetBounds(), atol=1e-12)
        for k in range(grid.GetPointData().GetNumberOfArrays()):
            name = grid.GetPointData().GetArrayName(k)
            from vtkmodules.util.numpy_support import vtk_to_numpy

            expected = vtk_to_numpy(grid.GetPointData().GetArray(name)).ravel()
            np.testing.assert_allclose(facts["values"][name], expected, rtol=1e-6, atol=1e-7)


def test_li_et_als_layout_is_unfolded_and_their_minus_one_is_pending(tmp_path):
    x, y, _values = li_file(tmp_path / "li.h5")
    surface = open_surface(tmp_path / "li.h5")
    assert surface.shape == (3, 5)
    assert surface.status.ravel()[3] == 0
    assert np.isnan(surface.metric().ravel()[3])
    np.testing.assert_allclose(np.delete(surface.metric().ravel(), 3), np.delete((1 + x + 10 * y[:, None]).ravel(), 3))
    assert run("convert", tmp_path / "li.h5", tmp_path / "li.csv").returncode == 0


def test_properties_change_the_surface(tmp_path):
    write_surface(bumpy(), tmp_path / "s.h5")
    told, output = pvpython(
        """
        r = LossSurfaceReader(FileNames=[sys.argv[1]])
        tell(metrics=list(r.GetProperty("MetricInfo") or []), **facts_of(r))
        r.HeightFrom = "train_acc"; tell(**facts_of(r))
        r.HeightFrom = "train_loss"; r.Clip = 1; r.ClipAt = 3.0; tell(**facts_of(r))
        r.AutomaticHeight = 0; r.HeightScale = 2.0; r.LogScale = "Never"; r.Clip = 0; tell(**facts_of(r))
        r.Metrics = ["train_loss"]; tell(names=list(facts_of(r)["values"]))
        """,
        tmp_path / "s.h5", folder=tmp_path,
    )  # fmt: skip
    assert len(told) == 5, output
    surface = read_surface(tmp_path / "s.h5")
    loss = surface.metric()
    assert set(told[0]["metrics"]) == {"train_loss", "train_acc"}
    for facts in told[:3]:
        np.testing.assert_allclose(facts["bounds"][4:], [0, 1.1], atol=1e-9)
    assert max(told[2]["values"]["log_train_loss"]) == pytest.approx(np.log(3.1))
    assert sum(told[2]["values"]["clipped"]) == (loss > 3).sum()
    np.testing.assert_allclose(told[3]["bounds"][4:], [2 * loss.min(), 2 * loss.max()])
    assert "train_acc" not in told[4]["names"]


def test_several_files_are_a_time_series(tmp_path):
    for epoch in range(3):
        shifted = surface_of(lambda x, y, e=epoch: 1 + e + x**2, 7, 5)
        write_surface(shifted, tmp_path / f"epoch_{epoch:03d}.h5")
    told, output = pvpython(
        """
        r = LossSurfaceReader(FileNames=sys.argv[1:])
        r.UpdatePipelineInformation()
        steps = list(r.TimestepValues)
        lows = []
        for step in steps:
            r.UpdatePipeline(step)
            lows.append(r.PointData["train_loss"].GetRange()[0])
        tell(steps=steps, lows=lows)
        """,
        *[tmp_path / f"epoch_{epoch:03d}.h5" for epoch in range(3)], folder=tmp_path,
    )  # fmt: skip
    assert told, output
    assert told[0] == {"steps": [0.0, 1.0, 2.0], "lows": [1.0, 2.0, 3.0]}


def test_a_growing_file_is_read_again(tmp_path):
    full = bumpy(7, 5)
    part = Surface(full.x, full.y, {k: np.where(full.x < 0, v, np.nan) for k, v in full.metrics.items()},
                   np.where(np.broadcast_to(full.x < 0, full.shape), 1, 0).astype(np.uint8))  # fmt: skip
    write_surface(part, tmp_path / "s.h5")
    write_surface(full, tmp_path / "later.h5")
    told, output = pvpython(
        """
        import shutil
        r = LossSurfaceReader(FileNames=[sys.argv[1]])
        tell(status=facts_of(r)["values"]["status"])
        shutil.copy(sys.argv[2], sys.argv[1])
        ReloadFiles(r) if False else r.InvokeCommand("Refresh")
        tell(status=facts_of(r)["values"]["status"])
        """,
        tmp_path / "s.h5", tmp_path / "later.h5", folder=tmp_path,
    )  # fmt: skip
    assert len(told) == 2, output
    assert 0 < sum(told[0]["status"]) < 35
    assert sum(told[1]["status"]) == 35


def test_a_surface_is_cut_at_the_level_of_the_reader(tmp_path):
    surface = bumpy()
    write_surface(surface, tmp_path / "s.h5")
    told, output = pvpython(
        """
        r = LossSurfaceReader(FileNames=[sys.argv[1]], Clip=1, ClipAt=3.0)
        tell(**facts_of(CutSurface(Input=r)))
        """,
        tmp_path / "s.h5", folder=tmp_path,
    )  # fmt: skip
    assert len(told) == 1, output
    values, mesh = told[0]["values"], to_polydata(surface, GridOptions(zmax=3.0))
    assert max(values["train_loss"]) == 3.0
    assert told[0]["points"] == mesh.GetNumberOfPoints()
    np.testing.assert_allclose(told[0]["bounds"], mesh.GetBounds(), atol=1e-6)


def test_filters_work_on_the_reader_and_on_grids_from_elsewhere(tmp_path):
    write_surface(bumpy(), tmp_path / "s.h5")
    told, output = pvpython(
        """
        r = LossSurfaceReader(FileNames=[sys.argv[1]])
        tell(**facts_of(SurfaceContours(Input=r, Levels="1 2 5")))
        tell(**facts_of(OptimizerTrajectory(Input=r)))
        tell(**facts_of(OptimizerTrajectory(Input=r, AtOwnLoss=1)))
        tell(**facts_of(MinimumMarker(Input=r)))
        w = Wavelet(WholeExtent=[-5, 5, -4, 4, 0, 0])
        tell(**facts_of(LossSurface(Input=w, HeightFrom=["POINTS", "RTData"], LogScale="Never")))
        SetActiveSource(r)
        tell(**facts_of(LossSurface(Input=w, LogScale="Never")))
        tell(**facts_of(LossSurface(Input=w, HeightFrom=["POINTS", "train_loss"], LogScale="Never")))
        """,
        tmp_path / "s.h5", folder=tmp_path,
    )  # fmt: skip
    assert len(told) == 7, output
    lines, draped, own, marker, warped, *unnamed = told
    assert {round(level, 3) for level in lines["values"]["level"]} == {1.0, 2.0, 5.0}
    assert set(draped["values"]["step"]) >= set(map(float, range(12)))  # and places between, where it follows the surface
    assert own["bounds"][5] != pytest.approx(draped["bounds"][5], abs=1e-3)
    surface = read_surface(tmp_path / "s.h5")
    assert marker["values"]["value"][0] == pytest.approx(surface.metric().min(), rel=1e-6)
    np.testing.assert_allclose(warped["bounds"], [-5, 5, -4, 4, 0, 5.5])
    for other in unnamed:  # no array named, or one that is not there: the active scalars
        np.testing.assert_allclose(other["bounds"], warped["bounds"])
        assert other["values"]["RTData_drawn"] == warped["values"]["RTData_drawn"]


def test_geometry_equals_its_formulas():
    surface = bumpy(61, 61)
    grid = to_structured_grid(surface)
    lines = contour_lines(grid, [2.0])
    from vtkmodules.util.numpy_support import vtk_to_numpy

    x, y, _ = vtk_to_numpy(lines.GetPoints().GetData()).T
    np.testing.assert_allclose(0.1 + 4 * x**2 + 9 * y**2 + 0.5 * np.sin(6 * x) ** 2, 2.0, rtol=0.02)
    tube = drape_trajectory(grid, own_loss=True, radius=1e-6)
    heights = vtk_to_numpy(tube.GetPoints().GetData())[:, 2]
    logs = np.log(surface.metric() + 0.1)
    expected = (np.log(6.1) - logs.min()) * 1.1 / np.ptp(logs)
    assert heights.max() == pytest.approx(expected, rel=1e-4)
    assert minimum_marker(grid).GetCenter()[0] == pytest.approx(0, abs=0.02)


def test_steps_that_fall_along_both_axes_are_the_same_surface(tmp_path):
    surface = bumpy()
    turned = {name: values[::-1, ::-1] for name, values in surface.metrics.items()}
    write_surface(Surface(surface.x, surface.y, surface.metrics), tmp_path / "rising.h5")
    write_surface(Surface(surface.x[::-1], surface.y[::-1], turned), tmp_path / "falling.h5")
    told, output = pvpython(
        """
        for path in sys.argv[1:3]:
            r = LossSurfaceReader(FileNames=[path])
            r.UpdatePipeline()
            tell(bounds=r.GetDataInformation().GetBounds())
        """,
        tmp_path / "rising.h5", tmp_path / "falling.h5", folder=tmp_path,
    )  # fmt: skip
    rising, falling = (fact["bounds"] for fact in told)
    np.testing.assert_allclose(falling, rising, atol=1e-9, err_msg=output)
    assert rising[5] > 1


def test_bad_files_get_a_message_and_paraview_goes_on(tmp_path):
    write_surface(bumpy(), tmp_path / "good.h5")
    write_surface(bumpy(), tmp_path / "cut.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:5000])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["pressure"] = np.zeros(5)
    told, output = pvpython(
        """
        for path in sys.argv[1:4]:
            r = LossSurfaceReader(FileNames=[path])
            r.UpdatePipeline()
            tell(points=r.GetDataInformation().GetNumberOfPoints())
        r = LossSurfaceReader(FileNames=[sys.argv[4]], HeightFrom="test_loss")
        r.UpdatePipeline()
        r.HeightFrom = "train_loss"
        tell(points=facts_of(r)["points"])
        """,
        tmp_path / "cut.h5", tmp_path / "other.h5", tmp_path / "none.h5", tmp_path / "good.h5", folder=tmp_path,
    )  # fmt: skip
    assert [facts["points"] for facts in told] == [0, 0, 0, 31 * 21], output
    for message in ("cut.h5: the HDF5 file was cut short", "other.h5: is HDF5 but not", "none.h5: no such file"):
        assert message in output
    assert "has no metric 'test_loss'; it holds: train_loss, train_acc" in output
    assert "Traceback" not in output


def test_two_ranks_read_disjoint_halves_and_draw_the_picture_of_one(tmp_path):
    write_surface(bumpy(101, 81), tmp_path / "s.h5")
    pictures = []
    for program in (("pvbatch",), on_two_ranks("-x", "PARALOSS_TRACE")):
        command = [*program, str(RENDER), str(tmp_path / "s.h5"), "-o", str(tmp_path / "s.png"), "--size", "800x450"]
        done = under_display(command, PARALOSS_TRACE="1")
        assert (tmp_path / "s.png").exists(), done.stdout + done.stderr
        pictures.append(image.imread(tmp_path / "s.png")[..., :3])
        (tmp_path / "s.png").unlink()
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("paraloss: pid")]
    halves = {line[2]: tuple(map(int, line[4:8])) for line in lines if tuple(map(int, line[4:8])) != (0, 100, 0, 80)}
    assert len(halves) == 2, done.stdout
    cells = [{(i, j) for i in range(i0, i1) for j in range(j0, j1)} for i0, i1, j0, j1 in halves.values()]
    assert not cells[0] & cells[1]
    assert len(cells[0] | cells[1]) == 100 * 80
    whole = 101 * 81 * (8 * 2 + 1)
    assert all(
        int(line[9]) < 0.6 * whole for line in lines if line[2] in halves and tuple(map(int, line[4:8])) != (0, 100, 0, 80)
    )
    assert structural_similarity(*pictures, channel_axis=2, data_range=1) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_every_state_loads_on_a_file_in_another_folder(state, tmp_path):
    folder = tmp_path / "other folder ü"
    folder.mkdir()
    for name in ("a.h5", "b.h5"):
        write_surface(bumpy(half=0.7), folder / name)
    assert "/tmp" not in (HOUSE / "state_files" / f"{state}.pvsm").read_text()
    files = [folder / "a.h5", folder / "b.h5"] if state in ("side_by_side", "training_time_series") else [folder / "a.h5"]
    for source in (state, HOUSE / "state_files" / f"{state}.pvsm"):
        done = render(*files, "--state", source, "-o", tmp_path / "s.png", "--size", "640x360")
        assert (tmp_path / "s.png").exists(), done.stdout + done.stderr
        mask = (image.imread(tmp_path / "s.png")[..., :3] < 0.97).any(axis=-1)
        assert 0.1 < mask.mean() < 0.8
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any())
        (tmp_path / "s.png").unlink()


@pytest.mark.parametrize("number", [1, 2])
def test_paraview_and_pyvista_draw_the_same_picture(number, tmp_path):
    write_surface(bumpy(61, 61), tmp_path / "a.h5")
    pictures = []
    for backend in ("paraview", "pyvista"):
        files = [tmp_path / "a.h5"] * number
        done = run("render", *files, tmp_path / f"{backend}.png", "--backend", backend, "--size", "800x450")
        assert done.returncode == 0, done.stderr
        assert f"drawn by {backend}" in done.stderr
        pictures.append(image.imread(tmp_path / f"{backend}.png")[..., :3])
    assert structural_similarity(*pictures, channel_axis=2, data_range=1) > 0.9


def test_render_script_options(tmp_path):
    write_surface(bumpy(), tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.vts")
    done = render(tmp_path / "s.vts", "-o", tmp_path / "t.png", "--transparent", "--view", "top", "--color-map", "viridis",
                  "--size", "300x300")  # fmt: skip
    assert image.imread(tmp_path / "t.png")[0, 0, 3] == 0, done.stderr
    render(tmp_path / "s.h5", "-o", tmp_path / "o.png", "--orbit", "3", "--size", "300x200")
    frames = [image.imread(tmp_path / f"o_{k:04d}.png") for k in range(3)]
    assert not np.allclose(frames[0], frames[1])
    assert render(tmp_path / "none.h5", "-o", tmp_path / "n.png").returncode == 2


def test_a_client_of_a_pvserver_draws(tmp_path):
    import socket
    import time

    write_surface(bumpy(), tmp_path / "s.h5")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cure = str(HOUSE / "state_files" / "gui")
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*virtual_display(), "pvserver", f"--server-port={port}"], env={**os.environ, "PYTHONPATH": cure},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while "Accepting connection" not in (tmp_path / "log").read_text() and time.monotonic() < until:
            time.sleep(0.2)
        script = tmp_path / "client.py"
        script.write_text(
            f"import sys; sys.path.insert(0, {str(HOUSE / 'state_files')!r})\n"
            "from paraview.simple import *\n"
            f"Connect('127.0.0.1', {port})\n"
            "import scene\n"
            f"drawn = scene.draw('lit_surface', [{str(tmp_path / 's.h5')!r}], scene.Wanted(size=(400, 300)))\n"
            f"drawn.save({str(tmp_path / 's.png')!r})\n"
        )
        done = under_display(["pvpython", str(script)], timeout=120)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert (tmp_path / "s.png").exists(), done.stdout + done.stderr
    mask = (image.imread(tmp_path / "s.png")[..., :3] < 0.97).any(axis=-1)
    assert 0.1 < mask.mean() < 0.8


def test_the_window_opens_with_the_lit_surface_and_install_makes_the_plugin_load(tmp_path):
    """The window itself, under a virtual display: its title bar and picture are on the screen."""
    write_surface(bumpy(), tmp_path / "s.h5")
    home = tmp_path / "home"
    home.mkdir()
    from helpers import BIN

    inner = (
        f"{BIN}/paraloss paraview --install && "
        f"({BIN}/paraloss paraview {tmp_path}/s.h5 > {tmp_path}/log 2>&1 & echo $! > {tmp_path}/pid); "
        f"for k in $(seq 400); do sleep 0.5; grep -q 'paraloss: ready' {tmp_path}/log && break; done; sleep 2; "
        f"xwd -root -silent -out {tmp_path}/screen.xwd; pkill -P $(cat {tmp_path}/pid); sleep 1"
    )
    places = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    done = under_display(["bash", "-c", inner], timeout=300, screen="1280x900x24", **places)
    settings = list((home / ".config" / "ParaView").glob("ParaView*.ini"))
    assert settings, done.stdout + done.stderr
    screen = read_xwd(tmp_path / "screen.xwd")
    red, blue = screen[..., 0].astype(int), screen[..., 2].astype(int)
    assert (blue - red > 60).sum() > 5000, (tmp_path / "log").read_text()  # the basin of the surface
    assert (red - blue > 60).sum() > 1000  # its rim


def test_looks_and_extras_in_paraview_are_those_of_pyvista(tmp_path):
    """Dark, with contour lines, the minimum, and colors from another metric: both backends draw the same."""
    surface = bumpy(41, 41)
    x, _ = np.meshgrid(surface.x, surface.y)
    both = Surface(surface.x, surface.y, {**surface.metrics, "train_acc": 50 + 20 * x}, surface.status)
    both.save(tmp_path / "s.h5")
    pictures = []
    for backend in ("paraview", "pyvista"):
        done = run(
            "render", tmp_path / "s.h5", tmp_path / f"{backend}.png", "--backend", backend, "--look", "dark", "--contours", "8",
            "--minimum", "--color-by", "train_acc", "--size", "800x500", "--label", "",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        pictures.append(image.imread(tmp_path / f"{backend}.png")[..., :3])
    np.testing.assert_allclose(pictures[0][3, 3], pictures[1][3, 3], atol=0.01)
    assert structural_similarity(*pictures, channel_axis=-1, data_range=1.0) > 0.9


def test_what_only_pyvista_draws_is_refused_by_name(tmp_path):
    bumpy(9, 9).save(tmp_path / "s.h5")
    done = run("render", tmp_path / "s.h5", tmp_path / "s.png", "--backend", "paraview", "--axes")
    assert done.returncode == 2
    assert "axes: drawn by pyvista only" in done.stderr


def test_volume_and_vtkhdf_open_without_the_plugin(tmp_path):
    axis = np.linspace(-1, 1, 13)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    values = 0.1 + 4 * (x**2 + y**2 + z**2)
    volume = Surface(axis, axis, {"train_loss": values}, np.ones(values.shape, np.uint8), z=axis)
    volume.save(tmp_path / "v.h5")
    convert(tmp_path / "v.h5", tmp_path / "v.vti")
    done = render(tmp_path / "v.vti", "--state", "volume", "-o", tmp_path / "v.png", "--size", "400x300")
    assert done.returncode == 0, done.stdout + done.stderr
    picture = image.imread(tmp_path / "v.png")[..., :3]
    assert ((picture[..., 2] - picture[..., 0]) > 0.2).mean() > 0.01
    bumpy(9, 7).save(tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.hdf")
    convert(tmp_path / "v.h5", tmp_path / "v.hdf")
    told, text = pvpython(
        """
        for name in sys.argv[1:]:
            source = OpenDataFile(name)
            source.UpdatePipeline()
            info = source.GetDataInformation()
            tell(points=info.GetNumberOfPoints(), bounds=info.GetBounds())
        """,
        tmp_path / "s.hdf", tmp_path / "v.hdf", folder=tmp_path,
    )  # fmt: skip
    assert [fact["points"] for fact in told] == [63, 13**3], text
    np.testing.assert_allclose(told[1]["bounds"], [-1, 1, -1, 1, -1, 1])
