"""Critical points, persistence and basins of formulas whose answers are known."""

import numpy as np
import pytest
from helpers import call, surface_of
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLStructuredGridReader

from paraloss.analysis.numbers import area_below, measures, persistent_minima
from paraloss.analysis.topology import MAXIMUM, MINIMUM, SADDLE, basins, critical_points


def double_well(x, y):
    """Minima near x = -1 and x = 1, the left one deeper, a saddle between them."""
    return (x**2 - 1) ** 2 + 0.3 * x + (y + 0.5) ** 2


def field(f, nx=81, ny=61, half=2.0):
    x, y = np.linspace(-half, half, nx), np.linspace(-half, half, ny)
    return x, y, f(*np.meshgrid(x, y))


def test_double_well_has_two_minima_and_the_saddle_between_them():
    x, y, values = field(double_well)
    found = critical_points(values, 0.01)
    minima = [p for p in found if p.kind == MINIMUM]
    assert [round(x[p.column]) for p in minima] == [-1, 1]
    assert minima[0].persistence == np.inf
    roots = np.sort(np.roots([4, 0, -4, 0.3]).real)  # f'(x) = 0 along y = -0.5
    heights = [(r**2 - 1) ** 2 + 0.3 * r for r in roots]
    assert minima[1].persistence == pytest.approx(heights[1] - heights[2], rel=0.01)
    saddles = [p for p in found if p.kind == SADDLE]
    assert len(saddles) == 1
    assert x[saddles[0].column] == pytest.approx(roots[1], abs=0.05)
    assert y[saddles[0].row] == pytest.approx(-0.5, abs=0.07)


def test_a_hill_inside_the_plot_is_a_maximum_that_is_paired_with_a_saddle():
    _, _, values = field(lambda x, y: np.exp(-(x**2) - y**2) + 0.05 * x**2 + 0.05 * y**2, 41, 41)
    tops = [p for p in critical_points(values, 0.1) if p.kind == MAXIMUM]
    assert [(p.row, p.column) for p in tops] == [(20, 20)]
    assert tops[0].value == pytest.approx(1.0)


def test_ripples_below_the_threshold_do_not_count():
    _, _, values = field(lambda x, y: x**2 + y**2 + 0.1 * np.sin(20 * x) * np.sin(20 * y), 101, 101)
    assert len([p for p in critical_points(values, 0.5) if p.kind == MINIMUM]) == 1
    assert len([p for p in critical_points(values, 1e-3) if p.kind == MINIMUM]) > 4


def test_basins_meet_at_the_watershed():
    x, _, values = field(double_well)
    minima = [p for p in critical_points(values, 0.01) if p.kind == MINIMUM]
    labels = basins(values, minima)
    border = np.sort(np.roots([4, 0, -4, 0.3]).real)[1]
    assert (labels[:, x < border - 0.1] == 0).all()
    assert (labels[:, x > border + 0.1] == 1).all()
    values[3, 3] = np.inf
    assert basins(values, minima)[3, 3] == -1


def test_persistent_minima_of_a_rough_bowl_exceed_those_of_a_smooth_one():
    smooth = surface_of(lambda x, y: x**2 + y**2, 41, 41)
    rough = surface_of(lambda x, y: x**2 + y**2 + 0.3 * (1 + np.sin(15 * x) * np.sin(15 * y)), 41, 41)
    assert len(persistent_minima(smooth.metric())) == 1
    assert measures(rough)["minima"] > 5


def test_area_below_a_level_is_that_of_the_disc():
    cone = surface_of(np.hypot, 401, 401)
    assert area_below(cone.metric(), 0.5) == pytest.approx(np.pi * 0.25 / 4, rel=0.01)


def test_critical_points_and_basins_are_geometry_on_the_surface(tmp_path):
    surface = surface_of(lambda x, y: double_well(1.5 * x, 1.5 * y) + 0.5, 61, 41)
    surface.save(tmp_path / "s.h5")
    done = call(
        "analyze", tmp_path / "s.h5", "--critical-points", tmp_path / "p.vtp", "--basins", tmp_path / "b.vts", "--level", "0.6"
    )
    assert done.returncode == 0, done.stderr
    assert "area_below_0.6" in done.stdout
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "p.vtp"))
    reader.Update()
    points = reader.GetOutput()
    kinds = vtk_to_numpy(points.GetPointData().GetArray("kind"))
    places = vtk_to_numpy(points.GetPoints().GetData())
    assert sorted(np.round(places[kinds == MINIMUM, 0] * 1.5).tolist()) == [-1, 1]
    values = vtk_to_numpy(points.GetPointData().GetArray("value"))
    np.testing.assert_allclose(values, [surface.at(*place[:2])["train_loss"] for place in places])
    grids = vtkXMLStructuredGridReader()
    grids.SetFileName(str(tmp_path / "b.vts"))
    grids.Update()
    grid = grids.GetOutput()
    basin = vtk_to_numpy(grid.GetPointData().GetArray("basin"))
    assert set(basin) == {0, 1}
    surface_points = vtk_to_numpy(grid.GetPoints().GetData())
    for place in places:
        assert np.linalg.norm(surface_points - place, axis=1).min() < 1e-9
