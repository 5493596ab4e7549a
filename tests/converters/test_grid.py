"""From a formula to VTK points, arrays, blanking and files; read back by vtk itself."""

import csv
import json

import numpy as np
import pytest
from helpers import surface_of
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkFiltersGeometry import vtkGeometryFilter
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLStructuredGridReader

from paraloss import Surface, convert, to_polydata, to_structured_grid
from paraloss.converters import FORMATS, GridOptions
from paraloss.errors import InputError


def points_of(data):
    return vtk_to_numpy(data.GetPoints().GetData())


def array(data, name):
    return vtk_to_numpy(data.GetPointData().GetArray(name))


def read_back(path):
    reader = vtkXMLStructuredGridReader() if path.suffix == ".vts" else vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


def value_at(data, x, y, name="train_loss"):
    return array(data, name)[np.hypot(points_of(data)[:, 0] - x, points_of(data)[:, 1] - y).argmin()]


@pytest.mark.parametrize("ending", [".vts", ".vtp"])
def test_surface_keeps_x_and_y_apart_on_disk(tmp_path, ending):
    surface_of(lambda x, y: x + 10 * y + 20, nx=7, ny=4).save(tmp_path / "s.h5")
    data = read_back(convert(tmp_path / "s.h5", tmp_path / f"s{ending}"))
    assert value_at(data, x=1.0, y=-1.0) == pytest.approx(11.0)
    assert value_at(data, x=-1.0, y=1.0) == pytest.approx(29.0)
    x, y, _ = points_of(data).T
    np.testing.assert_allclose(array(data, "train_loss"), x + 10 * y + 20)
    np.testing.assert_allclose(array(data, "log_train_loss"), np.log(x + 10 * y + 20.1))
    assert (np.diff(x[:7]) > 0).all()  # x fastest


def test_height_is_affine_in_the_log_loss_and_about_half_the_width():
    grid = to_structured_grid(surface_of(lambda x, y: 1e6 * np.exp(5 * x) + y + 1, 9, 6))
    z = points_of(grid)[:, 2]
    assert np.ptp(z) == pytest.approx(0.55 * 2.0)
    assert np.corrcoef(z, array(grid, "log_train_loss"))[0, 1] == pytest.approx(1.0)


def test_height_scale_and_no_log_give_heights_in_the_losses_own_unit():
    surface = surface_of(lambda x, y: 3 + x * y, 4, 5)
    grid = to_structured_grid(surface, GridOptions(log=False, height_scale=2.0))
    np.testing.assert_allclose(points_of(grid)[:, 2], 2 * surface.metric().ravel())


def test_clipped_points_are_drawn_at_zmax_and_marked_while_the_metric_stays():
    surface = surface_of(lambda x, y: 5 + 5 * x, 5, 3)
    grid = to_structured_grid(surface, GridOptions(zmax=7.0))
    np.testing.assert_allclose(array(grid, "train_loss"), surface.metric().ravel())
    np.testing.assert_allclose(array(grid, "log_train_loss").max(), np.log(7.1))
    np.testing.assert_array_equal(array(grid, "clipped"), (surface.metric().ravel() > 7).astype(int))
    assert np.nanmax(vtk_to_numpy(grid.GetFieldData().GetArray("zmax"))) == 7.0
    assert json.loads(grid.GetFieldData().GetAbstractArray("options").GetValue(0))["zmax"] == 7.0


def with_holes():
    full = surface_of(lambda x, y: 1 + x**2 + y**2, 6, 5)
    values, status = full.metric().copy(), full.status.copy()
    values[2, 3], status[2, 3] = np.nan, 0
    values[0, 0], status[0, 0] = np.inf, 2
    return Surface(full.x, full.y, {"train_loss": values}, status)


def test_pending_and_infinite_points_are_blank_and_make_no_spike(tmp_path):
    surface = with_holes()
    surface.save(tmp_path / "s.h5")
    quads = 5 * 4 - 4 - 1
    grid = read_back(convert(tmp_path / "s.h5", tmp_path / "s.vts"))
    outer = vtkGeometryFilter()  # what ParaView and pyvista draw through
    outer.SetInputData(grid)
    outer.Update()
    assert outer.GetOutput().GetNumberOfCells() == quads
    assert read_back(convert(tmp_path / "s.h5", tmp_path / "s.vtp")).GetNumberOfCells() == quads
    assert np.isfinite(points_of(grid)).all()
    assert points_of(grid)[:, 2].max() <= 0.55 * 2 + 1e-9
    assert np.isfinite(array(grid, "Normals")).all()


def test_quads_follow_the_documented_order():
    mesh = to_polydata(surface_of(lambda x, y: 1 + x, 3, 4))
    first = [mesh.GetCell(0).GetPointId(k) for k in range(4)]
    assert first == [0, 1, 4, 3]
    assert mesh.GetNumberOfCells() == 2 * 3


def test_normals_of_a_tilted_plane_are_its_normal():
    surface = surface_of(lambda x, y: 5 + 2 * x - y, 6, 7)
    grid = to_structured_grid(surface, GridOptions(log=False, height_scale=1.0))
    expected = np.array([-2, 1, 1]) / np.sqrt(6)
    np.testing.assert_allclose(array(grid, "Normals"), np.broadcast_to(expected, (42, 3)), atol=1e-6)


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_normals_beside_what_is_not_drawn_are_those_of_the_surface(hole):
    """A plane with holes inside, at an edge and in a corner: what lies there bends no light."""
    x, y = np.linspace(0, 2, 7), np.array([0.0, 0.3, 1.0, 1.1, 2.0])
    plane = 0.5 * x[None, :] - 0.25 * y[:, None] + 5
    holes = np.zeros(plane.shape, bool)
    holes[2, 3] = holes[4, 0:3] = holes[0, 6] = True
    surface = Surface(x, y, {"train_loss": np.where(holes, hole, plane)})
    normals = vtk_to_numpy(to_structured_grid(surface, GridOptions(log=False, height_scale=2.0)).GetPointData().GetNormals())
    expected = np.array([-1.0, 0.5, 1.0]) / 1.5
    assert np.abs(normals.reshape(*plane.shape, 3)[~holes] - expected).max() < 1e-6


def test_a_flat_surface_has_height_zero():
    grid = to_structured_grid(surface_of(lambda x, y: 0 * x + 3))
    assert not points_of(grid)[:, 2].any()


def test_csv_holds_every_point_and_takes_curves(tmp_path):
    surface_of(lambda x, y: x + 10 * y, 3, 2).save(tmp_path / "s.h5")
    rows = list(csv.DictReader(convert(tmp_path / "s.h5", tmp_path / "s.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert all(float(row["train_loss"]) == pytest.approx(float(row["x"]) + 10 * float(row["y"])) for row in rows)
    curve = Surface(np.linspace(0, 1, 4), None, {"train_loss": np.arange(4.0)}, np.ones(4, np.uint8))
    curve.save(tmp_path / "c.h5")
    assert len(convert(tmp_path / "c.h5", tmp_path / "c.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (GridOptions(metric="test_acc"), "no metric 'test_acc'.*train_loss"),
        (GridOptions(zmax=1.0, zmin=2.0), "zmin"),
        (GridOptions(height_scale=0.0), "above zero"),
        (GridOptions(log_offset=-99.0), "log offset"),
    ],
)
def test_bad_options_are_named(options, told):
    with pytest.raises(InputError, match=told):
        to_structured_grid(surface_of(lambda x, y: 1 + x**2), options)


def test_a_curve_cannot_become_a_grid_and_nothing_is_left_behind(tmp_path):
    Surface(np.linspace(0, 1, 4), None, {"train_loss": np.arange(4.0)}, np.ones(4, np.uint8)).save(tmp_path / "c.h5")
    for ending in set(FORMATS) - {".csv", ".npz"}:
        with pytest.raises(InputError, match="curve"):
            convert(tmp_path / "c.h5", tmp_path / f"c{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["c.h5"]
