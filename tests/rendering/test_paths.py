"""Paths of several runs in every kind of picture: a color each, names, balls at their ends, on the surface."""

import json
import re

import numpy as np
import pytest
from helpers import call, surface_of
from matplotlib.figure import Figure
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLStructuredGridReader

from paraloss import convert, read_surface, render
from paraloss.converters import open_surface, to_structured_grid
from paraloss.converters.composition import compose
from paraloss.converters.composition_json import from_json, to_json
from paraloss.converters.from_grid import from_structured_grid
from paraloss.converters.geometry import height_at
from paraloss.converters.paths import drape_trajectory
from paraloss.errors import InputError
from paraloss.look import MARK_COLOR, PATH_COLORS, START_COLOR
from paraloss.picture_options import PictureOptions
from paraloss.rendering import make_movie, write_page

NAMES = ("SGD", "Adam, lr = 1e-3 $x")


def bowl(x, y):
    return 0.1 + x**2 + 2 * y**2


def path_to(x, y, steps):
    """A straight path to (x, y) from the corner, whose own loss is 1 above the surface's."""
    t = np.linspace(0, 1, steps)
    px, py = -0.8 + (x + 0.8) * t, -0.7 + (y + 0.7) * t
    return {"x": px, "y": py, "loss": bowl(px, py) + 1, "step": np.arange(steps, dtype=float), "residual": t}


def with_runs():
    paths = dict(zip(NAMES, (path_to(0.6, 0.5, 7), path_to(0.0, 0.7, 4)), strict=True))
    return surface_of(bowl, 31, 31).with_paths(paths)


def test_the_composition_gives_each_run_a_color_a_name_and_two_balls():
    composition = compose([with_runs()])
    paths = composition.panels[0].paths
    assert [(path.label, path.color) for path in paths] == list(zip(NAMES, PATH_COLORS, strict=False))
    for path, (x, y), color in zip(paths, ((0.6, 0.5), (0.0, 0.7)), PATH_COLORS, strict=False):
        start, end = path.balls
        assert start.center[:2] == pytest.approx((-0.8, -0.7)) and start.color == START_COLOR
        assert end.center[:2] == pytest.approx((x, y)) and end.color == color
        scale = composition.panels[0].options.height_scale
        height = (np.log(bowl(x, y) + 0.1) - composition.panels[0].options.height_base) * scale
        assert end.center[2] == pytest.approx(height, abs=0.01)
    assert from_json(to_json(composition)) == composition
    one = surface_of(bowl, 31, 31).with_paths({"": path_to(0.6, 0.5, 7)})
    assert [(path.label, path.balls[1].color) for path in compose([one]).panels[0].paths] == [("", MARK_COLOR)]
    assert compose([with_runs()], picture=PictureOptions(trajectory=False)).panels[0].paths == ()


def test_tubes_lie_on_the_surface_each_by_its_number():
    grid = to_structured_grid(with_runs())
    for number, end in ((0, (0.6, 0.5)), (1, (0.0, 0.7))):
        points = vtk_to_numpy(drape_trajectory(grid, radius=1e-6, number=number).GetPoints().GetData()).astype(float)
        np.testing.assert_allclose(points[:, 2], height_at(grid, points[:, 0], points[:, 1]), atol=1e-4)
        assert points[:, 0].max() == pytest.approx(end[0], abs=1e-4)
    both = drape_trajectory(grid)
    assert set(vtk_to_numpy(both.GetPointData().GetArray("path"))) == {0, 1}
    own = drape_trajectory(grid, own_loss=True, radius=1e-6, number=1).GetBounds()
    assert own[5] > drape_trajectory(grid, radius=1e-6, number=1).GetBounds()[5]
    with pytest.raises(InputError, match="no path 2"):
        drape_trajectory(grid, number=2)


def test_files_for_other_programs_carry_all_paths(tmp_path):
    surface = with_runs()
    surface.save(tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.vts")
    reader = vtkXMLStructuredGridReader()
    reader.SetFileName(str(tmp_path / "s.vts"))
    reader.Update()
    back, _ = from_structured_grid(reader.GetOutput())
    assert list(back.paths) == list(NAMES)
    np.testing.assert_array_equal(back.paths["SGD"]["loss"], surface.paths["SGD"]["loss"])
    convert(tmp_path / "s.h5", tmp_path / "s.npz")
    arrays = np.load(tmp_path / "s.npz")
    assert list(arrays["trajectory_labels"]) == list(NAMES)
    np.testing.assert_array_equal(arrays["trajectory_1_x"], surface.paths[NAMES[1]]["x"])
    assert call("convert", tmp_path / "s.h5", tmp_path / "paths.vtp", "--paths").returncode == 0
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "paths.vtp"))
    reader.Update()
    mesh = reader.GetOutput()
    labels = mesh.GetFieldData().GetAbstractArray("labels")
    assert [labels.GetValue(k) for k in range(2)] == list(NAMES)
    colors, numbers = (vtk_to_numpy(mesh.GetPointData().GetArray(name)) for name in ("color", "path"))
    for number in (0, 1):
        painted = {tuple(color) for color in colors[numbers == number].tolist()}
        assert painted == {tuple(round(255 * part) for part in color) for color in (PATH_COLORS[number], START_COLOR)}
    done = call("convert", tmp_path / "s.h5", tmp_path / "no.vts", "--paths")
    assert done.returncode == 2 and "li2018 and paths for .vtp" in done.stderr


def test_plots_from_above_draw_each_run_in_its_color_with_its_name(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: (figures.append(figure), path.touch()))
    render([with_runs()], tmp_path / "p.pdf")
    axis = figures[0].axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    for number, (name, path) in enumerate(with_runs().paths.items()):
        np.testing.assert_array_equal(lines[name].get_xdata(), path["x"])
        assert lines[name].get_color() == PATH_COLORS[number]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [*NAMES, "start", "end"]


def test_a_lit_picture_shows_every_color_and_name(tmp_path):
    from matplotlib import image

    render([with_runs()], tmp_path / "with.png", size=(800, 500))
    pixels = image.imread(tmp_path / "with.png")[..., :3]
    for color in PATH_COLORS[:2]:  # of the legend, which no light changes
        assert (np.abs(pixels[:100, :60] - np.array(color)).max(axis=-1) < 0.02).sum() > 20


@pytest.mark.parametrize("label", [r"$\frac{$", "a$b$c_^", "$ and $$", r"$\alpha = 0.1$"])
def test_dollar_signs_in_names_and_titles_are_drawn(tmp_path, label):
    surface = with_runs().with_paths({label: path_to(0.6, 0.5, 7), "b": path_to(0.0, 0.7, 4)})
    for name in ("p.pdf", "p.png"):
        render([surface], tmp_path / name, labels=[label], size=(400, 300))
        assert (tmp_path / name).stat().st_size > 1000


def test_the_page_holds_every_run(tmp_path):
    text = write_page([with_runs()], tmp_path / "s.html", ["s"]).read_text()
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])
    paths = data["surfaces"][0]["paths"]
    assert [(path["name"], path["color"]) for path in paths] == [
        (name, list(color)) for name, color in zip(NAMES, PATH_COLORS, strict=False)
    ]
    assert paths[1]["x"] == with_runs().paths[NAMES[1]]["x"].tolist()


def test_a_walk_lets_all_paths_grow(tmp_path):
    make_movie([with_runs()], tmp_path / "w.gif", kind="walk", frames=2, size=(160, 120))
    assert (tmp_path / "w.gif").stat().st_size > 1000


def test_old_files_of_one_path_and_their_layout_stay(tmp_path):
    import h5py

    surface_of(bowl, 5, 5).with_paths({"": path_to(0.6, 0.5, 7)}).save(tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        assert sorted(file["trajectory"]) == ["loss", "residual", "step", "x", "y"] and "trajectories" not in file
    assert list(read_surface(tmp_path / "one.h5").paths) == [""]
    assert len(open_surface(tmp_path / "one.h5").trajectory["x"]) == 7
