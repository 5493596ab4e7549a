"""Every format read back by another library: equal geometry, equal values."""

import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import call, surface_of
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOGeometry import vtkGLTFReader
from vtkmodules.vtkIOHDF import vtkHDFReader
from vtkmodules.vtkIOXML import vtkXMLImageDataReader, vtkXMLPolyDataReader, vtkXMLStructuredGridReader

from paraloss import Surface, convert
from paraloss.analysis.numbers import second_difference
from paraloss.analysis.smoothing import smoothed
from paraloss.converters import ENDINGS, GridOptions, open_surface, to_structured_grid, write, xml_files
from paraloss.converters.grid_file import check_grid_file
from paraloss.converters.meshes import PRINT_WIDTH_MM
from paraloss.errors import InputError
from paraloss.surface import DONE, INTERPOLATED, PENDING


@pytest.fixture
def surface():
    """Not square, asymmetric, steps that are not those of the other axis."""
    return surface_of(lambda x, y: np.exp(x) + 3 * y**2 + 0.5 * x * y + 1, nx=7, ny=4)


def heights_of(surface):
    return vtk_to_numpy(to_structured_grid(surface).GetPoints().GetData())


def test_glb_read_by_vtk_has_our_points_y_up_and_colors(surface, tmp_path):
    write(surface, tmp_path / "s.glb")
    reader = vtkGLTFReader()
    reader.SetFileName(str(tmp_path / "s.glb"))
    reader.Update()
    iterator = reader.GetOutput().NewIterator()
    mesh = iterator.GetCurrentDataObject()
    points = vtk_to_numpy(mesh.GetPoints().GetData())
    x, y, z = heights_of(surface).T
    np.testing.assert_allclose(points, np.stack([x, z, -y], axis=1), atol=1e-6)
    assert mesh.GetNumberOfCells() == 2 * 6 * 3
    corners = np.array([[mesh.GetCell(k).GetPointId(corner) for corner in range(3)] for k in range(36)])
    a, b, c = (points[corners[:, corner]] for corner in range(3))
    assert (np.cross(b - a, c - a)[:, 1] > 0).all()  # seen from above each triangle turns to the left
    assert (vtk_to_numpy(mesh.GetPointData().GetNormals())[:, 1] > 0).all()
    colors = vtk_to_numpy(mesh.GetPointData().GetArray("COLOR_0"))
    assert colors[z.argmax()][0] > colors[z.argmin()][0]  # warm is high
    assert colors[z.argmin()][2] > colors[z.argmax()][2]


@pytest.mark.parametrize("compress", ["none", "lz4", "zlib"])
def test_each_compression_holds_the_same_numbers(surface, tmp_path, compress):
    surface.save(tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.vts", compress=compress)
    check_grid_file(tmp_path / "s.vts")
    reader = vtkXMLStructuredGridReader()
    reader.SetFileName(str(tmp_path / "s.vts"))
    reader.Update()
    points = reader.GetOutput().GetPointData()
    np.testing.assert_array_equal(vtk_to_numpy(points.GetArray("train_loss")), surface.metric().ravel())
    np.testing.assert_array_equal(vtk_to_numpy(points.GetArray("log_train_loss")), np.log(surface.metric().ravel() + 0.1))
    assert (b"Compressor" in (tmp_path / "s.vts").read_bytes()) == (compress != "none")


def test_sizes_of_64_bits_are_read_by_the_check(surface, tmp_path, monkeypatch):
    monkeypatch.setattr(xml_files, "_LARGE", 0)
    surface.save(tmp_path / "s.h5")
    for compress in ("none", "zlib"):
        convert(tmp_path / "s.h5", tmp_path / "s.vts", compress=compress)
        assert b'header_type="UInt64"' in (tmp_path / "s.vts").read_bytes()
        check_grid_file(tmp_path / "s.vts")


@pytest.mark.parametrize(
    ("ending", "compress", "said"), [("ply", "zlib", "one form only"), ("vts", "gzip", "unknown"), ("vtkhdf", "lz4", "zlib")]
)
def test_a_compression_that_a_format_does_not_have_is_refused(surface, tmp_path, ending, compress, said):
    surface.save(tmp_path / "s.h5")
    with pytest.raises(InputError, match=said):
        convert(tmp_path / "s.h5", tmp_path / f"s.{ending}", compress=compress)
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


def test_stl_is_a_watertight_body_of_the_right_size(surface, tmp_path):
    import trimesh

    write(surface, tmp_path / "s.stl")
    body = trimesh.load(tmp_path / "s.stl")
    assert body.is_watertight
    assert body.is_winding_consistent
    assert np.ptp(body.vertices[:, 0]) == pytest.approx(PRINT_WIDTH_MM)
    heights = heights_of(surface) * PRINT_WIDTH_MM / 2
    top = body.vertices[body.vertices[:, 2] > heights[:, 2].min() - 1e-3]
    np.testing.assert_allclose(np.sort(top[:, 2]), np.sort(heights[:, 2]), atol=1e-4)
    # The integral of the trapezoids below the surface, and the base.
    z = heights[:, 2].reshape(4, 7)
    x, y = surface.x * PRINT_WIDTH_MM / 2, surface.y * PRINT_WIDTH_MM / 2
    a, b, c, d = z[:-1, :-1], z[:-1, 1:], z[1:, 1:], z[1:, :-1]
    cell = np.diff(x)[None, :] * np.diff(y)[:, None]
    volume = (cell * ((a + b + c) / 3 + (a + c + d) / 3) / 2).sum() + np.ptp(x) * np.ptp(y) * (0.08 * PRINT_WIDTH_MM - z.min())
    assert body.volume == pytest.approx(volume, rel=1e-4)


def test_usda_read_by_pixars_library_has_points_quads_and_values(surface, tmp_path):
    from pxr import Usd, UsdGeom

    write(surface, tmp_path / "s.usda")
    stage = Usd.Stage.Open(str(tmp_path / "s.usda"))
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    mesh = UsdGeom.Mesh(stage.GetDefaultPrim())
    np.testing.assert_allclose(np.array(mesh.GetPointsAttr().Get()), heights_of(surface), rtol=1e-6)
    assert list(mesh.GetFaceVertexIndicesAttr().Get())[:4] == [0, 1, 8, 7]
    losses = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("train_loss").Get()
    np.testing.assert_array_equal(np.array(losses), surface.metric().ravel())


def test_ply_read_by_trimesh_has_points_and_colors(surface, tmp_path):
    import trimesh

    write(surface, tmp_path / "s.ply")
    mesh = trimesh.load(tmp_path / "s.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, heights_of(surface), atol=1e-6)
    assert len(np.unique(mesh.visual.vertex_colors[:, 0])) > 5


@pytest.mark.parametrize("ending", ["vtkhdf", "hdf"])
def test_vtkhdf_of_a_surface_is_read_by_vtk(surface, tmp_path, ending):
    write(surface, tmp_path / f"s.{ending}")
    reader = vtkHDFReader()
    reader.SetFileName(str(tmp_path / f"s.{ending}"))
    reader.Update()
    grid = reader.GetOutputDataObject(0)
    np.testing.assert_array_equal(vtk_to_numpy(grid.GetPoints().GetData()), heights_of(surface))
    np.testing.assert_array_equal(vtk_to_numpy(grid.GetPointData().GetArray("train_loss")), surface.metric().ravel())
    assert grid.GetNumberOfCells() == 18


@pytest.fixture
def volume():
    x, y, z = np.linspace(-1, 1, 4), np.linspace(0, 1, 3), np.linspace(-0.5, 0.5, 2)
    depth, height, width = np.meshgrid(z, y, x, indexing="ij")
    values = 1 + width + 10 * height + 100 * depth**2 + depth
    return Surface(x, y, {"train_loss": values}, np.full(values.shape, DONE, np.uint8), z=z)


@pytest.mark.parametrize("ending", ["vti", "vtkhdf"])
def test_volume_keeps_its_axes_in_image_data(volume, tmp_path, ending):
    volume.save(tmp_path / "v.h5")
    path = convert(tmp_path / "v.h5", tmp_path / f"v.{ending}")
    reader = vtkXMLImageDataReader() if ending == "vti" else vtkHDFReader()
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutputDataObject(0)
    assert image.GetDimensions() == (4, 3, 2)
    for place in ((1.0, 0.0, -0.5), (-1.0, 0.5, 0.5)):
        index = image.FindPoint(place)
        x, y, z = place
        assert image.GetPointData().GetArray("train_loss").GetValue(index) == pytest.approx(1 + x + 10 * y + 100 * z**2 + z)
        assert image.GetPointData().GetArray("log_train_loss").GetValue(index) == pytest.approx(
            np.log(1.1 + x + 10 * y + 100 * z**2 + z)
        )


def test_volume_is_refused_where_a_surface_is_wanted(volume, tmp_path):
    with pytest.raises(InputError, match=r"volume .*\.vti"):
        write(volume, tmp_path / "v.vts")
    with pytest.raises(InputError, match="for volumes"):
        write(surface_of(lambda x, y: x + y + 3), tmp_path / "s.vti")
    with pytest.raises(InputError, match="even steps, those along y"):
        write(replace(volume, y=np.array([0, 0.1, 1])), tmp_path / "v.vti")
    assert not list(tmp_path.iterdir())


def test_csv_of_a_volume_read_by_the_csv_module(volume, tmp_path):
    write(volume, tmp_path / "v.csv")
    with (tmp_path / "v.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 24
    for row in rows:
        expected = 1 + row["x"] + 10 * row["y"] + 100 * row["z"] ** 2 + row["z"]
        assert row["train_loss"] == pytest.approx(expected)
    assert [row["x"] for row in rows[:4]] == pytest.approx(volume.x.tolist())


def test_npz_holds_what_the_surface_holds(surface, tmp_path):
    write(replace(surface, provenance={"model": "mlp"}), tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["train_loss"], surface.metric())
        np.testing.assert_array_equal(file["y"], surface.y)
        assert json.loads(str(file["provenance"])) == {"model": "mlp"}


def test_time_series_is_a_collection_of_grids_in_order(surface, tmp_path):
    files = []
    for epoch in range(3):
        files.append(replace(surface, metrics={"train_loss": surface.metric() + epoch}).save(tmp_path / f"e{epoch}.h5"))
    convert(files, tmp_path / "run.pvd")
    entries = ElementTree.parse(tmp_path / "run.pvd").getroot().iter("DataSet")
    found = [(entry.get("timestep"), entry.get("file")) for entry in entries]
    assert found == [("0", "run/e0.vts"), ("1", "run/e1.vts"), ("2", "run/e2.vts")]
    assert all((tmp_path / name).exists() for _, name in found)
    with pytest.raises(InputError, match="time series"):
        convert(files, tmp_path / "run.vts")


def test_file_is_never_converted_onto_itself(surface, tmp_path):
    path = surface.save(tmp_path / "s.h5")
    before = path.read_bytes()
    with pytest.raises(InputError, match="the source itself"):
        convert(path, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("shape", [(7, 4), (5, 5), (2, 9)])
def test_li2018_layout_is_filled_in_y_x_order_and_reads_back_equal(shape, tmp_path):
    import h5py

    surface = surface_of(lambda x, y: 2 + x + 10 * y + 20, *shape)
    surface.status[0, 1] = PENDING
    surface.metric()[0, 1] = np.nan
    surface.save(tmp_path / "ours.h5")
    convert(tmp_path / "ours.h5", tmp_path / "theirs.h5")
    with h5py.File(tmp_path / "theirs.h5") as file:
        assert not file.attrs
        assert file["train_loss"].shape == shape  # (nx, ny)
        assert file["dir_file"].shape == ()
        flat = file["train_loss"][...].ravel()
        assert flat[1] == -1
        assert flat[shape[0]] == pytest.approx(2 + surface.x[0] + 10 * surface.y[1] + 20)  # x runs fastest
    again = open_surface(tmp_path / "theirs.h5")
    np.testing.assert_array_equal(again.metric(), surface.metric())
    np.testing.assert_array_equal(again.status, surface.status)


@pytest.mark.parametrize("kept", [["test_loss"], ["test_acc"], ["min_eig", "max_eig"], ["max_eig"], ["min_eig"]])
def test_li2018_files_without_a_training_loss_are_read_and_their_fill_is_pending(kept, tmp_path):
    import h5py

    fills = {"test_loss": -1.0, "test_acc": -1.0, "min_eig": 1.0, "max_eig": -1.0}  # as their code fills its arrays
    nx, ny = 4, 3
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["xcoordinates"], file["ycoordinates"] = np.linspace(-1, 1, nx), np.linspace(-1, 1, ny)
        for name in kept:
            values = 10.0 + np.arange(nx * ny)
            values[5] = fills[name]
            values[7] = -fills[name]  # a number like any other
            file[name] = values.reshape(nx, ny)
    surface = open_surface(tmp_path / "theirs.h5")
    assert list(surface.metrics) == sorted(kept)
    assert np.flatnonzero(surface.status.ravel() == PENDING).tolist() == [5]
    for name in kept:
        flat = surface.metrics[name].ravel()
        assert np.isnan(flat[5])
        assert flat[7] == -fills[name]
    convert(surface.save(tmp_path / "ours.h5"), tmp_path / "back.h5")
    with h5py.File(tmp_path / "back.h5") as file:
        assert [file[name][...].ravel()[5] for name in kept] == [fills[name] for name in kept]


def li2018_by_loops(surface, zmax, log):
    """Points, quads and both arrays, one by one as the description in the paper's code says."""
    points, quads, averages = [], [], []
    values = surface.metric()
    for j, y in enumerate(surface.y):
        for i, x in enumerate(surface.x):
            z = min(values[j, i], zmax)
            points.append((x, y, np.log(z + 0.1) if log else z))
    nx, ny = len(surface.x), len(surface.y)
    for j in range(ny - 1):
        for i in range(nx - 1):
            quads.append([j * nx + i, j * nx + i + 1, (j + 1) * nx + i + 1, (j + 1) * nx + i])
            averages.append(np.mean([points[k][2] for k in quads[-1]]))
    return np.array(points), quads, np.array(averages)


@pytest.mark.parametrize("log", [True, False])
def test_li2018_polygons_equal_those_made_point_by_point(surface, tmp_path, log):
    surface.save(tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.vtp", GridOptions(zmax=4.0, log=log), layout="li2018")
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "s.vtp"))
    reader.Update()
    mesh = reader.GetOutput()
    points, quads, averages = li2018_by_loops(surface, 4.0, log)
    np.testing.assert_allclose(vtk_to_numpy(mesh.GetPoints().GetData()), points, rtol=1e-6)
    assert vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 4).tolist() == quads
    values = mesh.GetPointData().GetArray("zvalue")
    assert values.GetDataTypeAsString() == "float"
    np.testing.assert_allclose(vtk_to_numpy(values), points[:, 2], rtol=1e-6)
    np.testing.assert_allclose(vtk_to_numpy(mesh.GetCellData().GetArray("averaged zvalue")), averages, rtol=1e-6)


def test_smoothing_keeps_what_was_computed_marks_the_rest_and_does_not_overshoot(surface):
    values = surface.metric()
    values[1, 3] = 5000.0  # a spike
    fine = smoothed(surface, 5)
    assert fine.shape == (16, 31)
    np.testing.assert_allclose(fine.metric()[::5, ::5], values)
    assert (fine.status[::5, ::5] == DONE).all()
    assert (fine.status == INTERPOLATED).sum() == fine.status.size - values.size
    assert fine.metric().max() <= 5000 * (1 + 1e-12)
    assert fine.metric().min() >= values.min() * (1 - 1e-12)
    assert fine.provenance["smoothed"] == 5


def test_smoothing_meets_a_smooth_function_between_the_points():
    def f(x, y):
        return np.exp(np.sin(2 * x) + y**2)

    coarse, fine = surface_of(f, 17, 13), smoothed(surface_of(f, 17, 13), 4)
    expected = surface_of(f, 65, 49)
    np.testing.assert_allclose(fine.metric(), expected.metric(), rtol=5e-3)
    assert second_difference(fine.metric()) < second_difference(coarse.metric())


@pytest.mark.parametrize(
    ("options", "log", "offset"), [([], True, 0.1), (["--no-log"], False, 0), (["--log-offset", "5"], True, 5)]
)
def test_smoothing_bends_on_the_scale_that_is_drawn(options, log, offset, tmp_path):
    """A bicubic spline is exact for a parabola: on each scale for the surface whose heights are one."""

    def f(x, y):
        bowl = 3 + x**2 + 2 * y**2 - x * y
        return np.exp(bowl) - offset if log else bowl

    surface_of(f, 17, 13).save(tmp_path / "s.h5")
    done = call("convert", tmp_path / "s.h5", tmp_path / "s.vts", "--smooth", "4", *options)
    assert done.returncode == 0, done.stderr
    reader = vtkXMLStructuredGridReader()
    reader.SetFileName(str(tmp_path / "s.vts"))
    reader.Update()
    values = vtk_to_numpy(reader.GetOutput().GetPointData().GetArray("train_loss"))
    np.testing.assert_allclose(values, surface_of(f, 65, 49).metric().ravel(), rtol=1e-5)


def test_smoothing_leaves_holes_where_values_are_missing_and_refuses_what_is_unfinished(surface):
    surface.metric()[2, 2], surface.status[2, 2] = np.inf, 2
    fine = smoothed(surface, 3)
    assert np.isnan(fine.metric()[5, 5])
    assert np.isfinite(fine.metric()[0, 0])
    surface.status[0, 0] = PENDING
    with pytest.raises(InputError, match="not complete"):
        smoothed(surface, 3)


def test_surface_as_xarray_and_pyvista_and_in_a_notebook(surface, volume):
    data = surface.to_xarray()
    assert float(data["train_loss"].sel(x=1.0, y=-1.0)) == pytest.approx(surface.at(1, -1)["train_loss"])
    assert volume.to_xarray()["train_loss"].dims == ("z", "y", "x")
    grid = surface.to_pyvista()
    assert grid.dimensions == (7, 4, 1)
    np.testing.assert_array_equal(grid["train_loss"], surface.metric().ravel())
    assert volume.to_pyvista().dimensions == (4, 3, 2)
    assert surface._repr_png_()[:4] == b"\x89PNG"
    assert repr(volume) == "<Surface 4 x 3 x 2 points, 24 evaluated, of train_loss>"


def test_every_ending_is_known_to_the_help():
    from paraloss.cli.convert import convert as verb

    assert all(ending in verb.__doc__ for ending in ENDINGS if ending != ".hdf")


@pytest.mark.parametrize("turned", ["x", "y", "xy"])
@pytest.mark.parametrize("ending", ["glb", "usda", "ply", "vtp", "vts", "stl"])
def test_a_grid_with_falling_steps_gives_the_file_of_the_same_grid_with_rising_ones(surface, tmp_path, ending, turned):
    across, down = (-1 if axis in turned else 1 for axis in "xy")
    path = {name: np.array([0.1, 0.2]) for name in ("x", "y", "loss", "step", "residual")}
    surface = replace(surface, trajectory=path)
    other = Surface(surface.x[::across], surface.y[::down], {"train_loss": surface.metric()[::down, ::across]}, trajectory=path)
    assert other.at(surface.x[1], surface.y[2]) == surface.at(surface.x[1], surface.y[2])
    files = [write(one, tmp_path / f"{name}.{ending}") for name, one in (("a", surface), ("b", other))]
    assert files[0].read_bytes() == files[1].read_bytes()
