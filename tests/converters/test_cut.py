"""Cells cut at zmax, against triangles clipped one by one."""

import json
import struct
from itertools import pairwise

import numpy as np
import pytest
from helpers import call, surface_of
from matplotlib.image import imread
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

from paraloss import Surface, convert, render, to_polydata, to_structured_grid
from paraloss.converters.geometry import contour_lines
from paraloss.converters.grid import height_map
from paraloss.converters.paths import drape_trajectory, height_between
from paraloss.errors import InputError
from paraloss.picture_options import GridOptions
from paraloss.surface import INTERPOLATED

LEVEL = 6.0


def bowl(nx=9, ny=7):
    surface = surface_of(lambda x, y: 0.2 + 9 * x**2 + 8 * y**2 + x * y, nx, ny)
    return Surface(surface.x, surface.y, {**surface.metrics, "train_acc": np.add.outer(surface.y, surface.x)}, surface.status)


def array(mesh, name):
    return vtk_to_numpy(mesh.GetPointData().GetArray(name))


def clipped_one_by_one(surface, log):
    """Polygons of (x, y) below LEVEL: each cell as two triangles, each edge followed from corner to corner."""
    drawn = (lambda v: np.log(v + 0.1)) if log else (lambda v: v)
    level, values, polygons = drawn(LEVEL), surface.metric(), []
    for j in range(len(surface.y) - 1):
        for i in range(len(surface.x) - 1):
            corners = [(j, i), (j, i + 1), (j + 1, i + 1), (j + 1, i)]
            if any(np.isnan(values[c]) for c in corners):
                continue
            for triangle in ([corners[0], corners[1], corners[2]], [corners[0], corners[2], corners[3]]):
                polygon = []
                for (j0, i0), (j1, i1) in zip(triangle, [*triangle[1:], triangle[0]], strict=True):
                    a, b = drawn(values[j0, i0]), drawn(values[j1, i1])
                    start, end = np.array([surface.x[i0], surface.y[j0]]), np.array([surface.x[i1], surface.y[j1]])
                    if a <= level:
                        polygon.append(start)
                    if (a <= level) != (b <= level):
                        polygon.append(start + (level - a) / (b - a) * (end - start))
                if polygon:
                    polygons.append(np.array(polygon))
    return polygons


def area(polygon):
    x, y = polygon[:, 0], polygon[:, 1]
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def polygons_of(mesh):
    points = vtk_to_numpy(mesh.GetPoints().GetData())
    starts, corners = (
        vtk_to_numpy(part) for part in (mesh.GetPolys().GetOffsetsArray(), mesh.GetPolys().GetConnectivityArray())
    )
    return [points[corners[a:b]] for a, b in pairwise(starts)]


@pytest.mark.parametrize("log", [True, False])
def test_cells_are_cut_where_the_level_crosses_them(log):
    surface = bowl()
    surface.metric()[3, 4] = np.nan
    surface.metric()[5, 5] = 1e30  # a spike
    mesh = to_polydata(surface, GridOptions(zmax=LEVEL, log=log))
    expected = clipped_one_by_one(surface, log)
    drawn = polygons_of(mesh)
    assert sum(map(area, drawn)) == pytest.approx(sum(map(area, expected)), rel=1e-12)
    assert all(area(polygon) > -1e-12 for polygon in drawn)  # all seen from above
    places = {tuple(np.round(place, 9)) for polygon in expected for place in polygon}
    assert {tuple(np.round(place[:2], 9)) for polygon in drawn for place in polygon} == places
    points, rim = vtk_to_numpy(mesh.GetPoints().GetData()), array(mesh, "status") == INTERPOLATED
    assert points[:, 2].max() == points[rim, 2].min() == points[rim, 2].max()
    assert points[:, 2].max() == pytest.approx(0.55 * 2)
    assert set(array(mesh, "train_loss")[rim]) == {LEVEL}
    np.testing.assert_allclose(array(mesh, "train_acc")[rim], points[rim, 0] + points[rim, 1], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(array(mesh, "Normals"), axis=1), 1, atol=1e-6)
    grid = to_structured_grid(surface, GridOptions(zmax=LEVEL, log=log))
    whole = {tuple(place[:2]): k for k, place in enumerate(vtk_to_numpy(grid.GetPoints().GetData()))}
    kept = [whole[tuple(place[:2])] for place in points[~rim]]
    for name in ("train_loss", "train_acc", "status", "clipped"):
        np.testing.assert_array_equal(array(mesh, name)[~rim], array(grid, name)[kept])


def test_an_infinite_value_lies_above_the_level_and_without_one_leaves_a_hole():
    surface = bowl()
    surface.metric()[0, 0] = surface.metric()[3, 4] = np.inf
    mesh = to_polydata(surface, GridOptions(zmax=LEVEL))
    assert all(np.isfinite(polygon).all() for polygon in polygons_of(mesh))
    hole = [polygon for polygon in polygons_of(mesh) if np.hypot(*polygon[:, :2].T).min() < 0.2]
    assert hole
    assert sum(map(area, hole)) < 4 * (2 / 8) * (2 / 6)
    assert to_polydata(surface).GetNumberOfCells() == 8 * 6 - 4 - 1


def test_a_level_above_all_changes_nothing_and_one_below_all_is_refused(tmp_path):
    surface = bowl()
    whole, free = to_polydata(surface, GridOptions(zmax=100.0)), to_polydata(surface)
    assert whole.GetNumberOfCells() == free.GetNumberOfCells() == 48
    np.testing.assert_array_equal(vtk_to_numpy(whole.GetPoints().GetData()), vtk_to_numpy(free.GetPoints().GetData()))
    high = surface_of(lambda x, y: 20 + x, 9, 7)
    surface.save(tmp_path / "low.h5")
    high.save(tmp_path / "high.h5")
    told = r"nothing to draw: train_loss is above zmax \(6\) everywhere; raise it"
    with pytest.raises(InputError, match=told):
        to_polydata(high, GridOptions(zmax=LEVEL))
    with pytest.raises(InputError, match=told):
        render(high, tmp_path / "s.png", zmax=LEVEL)
    done = call("render", tmp_path / "low.h5", tmp_path / "high.h5", tmp_path / "s.png", "--zmax", "6")
    assert done.returncode == 2
    assert "high: train_loss is above --zmax (6) everywhere" in done.stderr
    assert not (tmp_path / "s.png").exists()


def test_exports_are_cut(tmp_path):
    surface = bowl()
    surface.save(tmp_path / "s.h5")
    rim = 0.55 * 2
    for name in ("s.vtp", "s.glb", "s.ply", "s.usda"):
        convert(tmp_path / "s.h5", tmp_path / name, GridOptions(zmax=LEVEL))
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "s.vtp"))
    reader.Update()
    whole = sum(map(area, polygons_of(reader.GetOutput())))
    assert whole == pytest.approx(sum(map(area, clipped_one_by_one(surface, True))))
    data = (tmp_path / "s.glb").read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    head, body = json.loads(data[20 : 20 + length]), data[28 + length :]
    views = head["bufferViews"]
    parts = [body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]] for view in views]
    points = np.frombuffer(parts[0], np.float32).reshape(-1, 3)
    triangles = points[np.frombuffer(parts[-1], np.uint32).reshape(-1, 3)]
    assert points[:, 1].max() == pytest.approx(rim)
    assert sum(area(np.stack([t[:, 0], -t[:, 2]], axis=1)) for t in triangles) == pytest.approx(whole, rel=1e-5)
    text = (tmp_path / "s.usda").read_text()
    counts, indices = (json.loads(text.split(f"{key} = ")[1].split("\n")[0]) for key in ("VertexCounts", "VertexIndices"))
    assert sum(counts) == len(indices)
    assert set(counts) == {3, 4}
    assert max(indices) < text.split("point3f[] points = [")[1].split("\n")[0].count("(")


def test_contours_and_paths_end_with_the_surface():
    surface = surface_of(lambda x, y: 9 * (x**2 + y**2), 9, 9)
    surface = surface.with_paths({"": {"x": np.array([0.9, 0.0]), "y": np.array([0.1, 0.0])}})
    grid = to_structured_grid(surface, GridOptions(zmax=LEVEL))
    lines = contour_lines(grid, [5.0])
    level, polygons = np.log(5.1), []
    for j in range(8):  # crossings on the edges along x, from the values themselves
        for i in range(8):
            a, b = np.log(surface.metric()[j, i] + 0.1), np.log(surface.metric()[j, i + 1] + 0.1)
            if (a < level) != (b < level):
                polygons.append([surface.x[i] + (level - a) / (b - a) * 0.25, surface.y[j]])
    places = vtk_to_numpy(lines.GetPoints().GetData())[:, :2]
    for place in polygons:
        assert np.hypot(*(places - place).T).min() < 1e-6
    tube = vtk_to_numpy(drape_trajectory(grid).GetPoints().GetData())
    assert 0.7 < np.hypot(*tube[:, :2].T).max() < np.sqrt(6 / 9) + 0.02


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_path_over_a_hole_has_a_gap_and_does_not_dive(hole):
    surface = surface_of(lambda x, y: 9 * (x**2 + y**2) + 5, 9, 9)
    values = surface.metric().copy()
    values[4, 6] = hole  # (0.5, 0)
    surface = Surface(surface.x, surface.y, {"train_loss": values})
    surface = surface.with_paths({"": {"x": np.array([-0.9, 0.9]), "y": np.array([0.1, 0.1])}})
    tube = vtk_to_numpy(drape_trajectory(to_structured_grid(surface), radius=1e-4).GetPoints().GetData())
    assert not ((tube[:, 0] > 0.26) & (tube[:, 0] < 0.74)).any()
    assert tube[:, 0].min() < -0.89
    assert tube[:, 0].max() > 0.89
    heights = height_map(surface, GridOptions())
    x, y = np.array([-0.5, 0.4, 0.6]), np.array([0.1, 0.1, 0.1])
    found = height_between(surface, heights, x, y)
    assert np.isfinite(found).tolist() == [True, False, False]
    left = tube[np.abs(tube[:, 0]) < 0.2]
    assert left[:, 2].min() > height_between(surface, heights, np.zeros(1), np.zeros(1))[0] - 1e-3


def test_a_picture_shows_background_beyond_the_rim_and_no_plateau(tmp_path):
    surface = surface_of(lambda x, y: 9 * (x**2 + y**2), 33, 33)
    picture = imread(render(surface, tmp_path / "s.png", zmax=LEVEL, view="top", size=(300, 300), scalar_bar=False))
    drawn = (picture[..., :3] < 0.97).any(axis=-1)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    part = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert part.sum() / (height * width) == pytest.approx(np.pi / 4, abs=0.02)  # a disk, not a square


def test_a_lowest_point_exactly_at_the_limit_leaves_nothing_to_draw():
    surface = Surface(
        np.arange(2.0), np.arange(2.0), {"train_loss": np.array([[1.0, 2.0], [3.0, 4.0]])}, np.ones((2, 2), np.uint8)
    )
    for log in (True, False):
        with pytest.raises(InputError, match="nothing to draw: train_loss is above zmax \\(1\\) everywhere"):
            to_polydata(surface, GridOptions(zmax=1.0, log=log))
