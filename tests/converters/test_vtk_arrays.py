"""What vtk is told beforehand of its arrays is what it would find, and what is made in blocks is what a loop makes."""

import math

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy

from paraloss import Surface, to_structured_grid
from paraloss.converters import vtk_arrays


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that a small surface has several."""
    monkeypatch.setattr(vtk_arrays, "_BLOCK", 30)


def bumpy(nx, ny):
    rng = np.random.default_rng(3)
    x, y = np.cumsum(rng.uniform(0.1, 1, nx)), np.cumsum(rng.uniform(0.1, 1, ny))
    return Surface(x, y, {"train_loss": rng.uniform(0, 9, (ny, nx)), "train_acc": rng.uniform(0, 100, (ny, nx))})


def every_array(grid):
    points = grid.GetPointData()
    return [*(points.GetArray(k) for k in range(points.GetNumberOfArrays())), grid.GetPoints().GetData()]


def ranges_by_loop(values, finite):
    columns = zip(*values.reshape(len(values), -1).tolist(), strict=True)
    kept = [[v for v in column if (math.isfinite(v) if finite else not math.isnan(v))] for column in columns]
    return [(min(column), max(column)) for column in kept]


@pytest.mark.parametrize("spoilt", [None, np.nan, np.inf, -np.inf])
def test_ranges_are_those_of_a_loop(small_blocks, spoilt):
    surface = bumpy(11, 14)
    if spoilt is not None:
        surface.metrics["train_acc"][-1, 2] = spoilt
        surface.metrics["train_loss"][0, 0] = spoilt
    for array in every_array(to_structured_grid(surface)):
        values = vtk_to_numpy(array).astype(float)
        for finite, ask in ((False, array.GetRange), (True, array.GetFiniteRange)):
            found = [ask(number) for number in range(array.GetNumberOfComponents())]
            np.testing.assert_allclose(found, ranges_by_loop(values, finite), err_msg=array.GetName())
            if values.ndim > 1:
                lengths = [math.sqrt(a * a + b * b + c * c) for a, b, c in values.tolist()]
                np.testing.assert_allclose(ask(-1), (min(lengths), max(lengths)), rtol=1e-6)


def test_ranges_are_found_again_when_an_array_changes(small_blocks):
    for array in every_array(to_structured_grid(bumpy(5, 4))):
        array.SetComponent(3, 0, 120)
        array.Modified()
        assert array.GetRange(0)[1] == 120
        assert array.GetFiniteRange(0)[1] == 120


@pytest.mark.parametrize("points", [(11, 14), (2, 9), (7, 2), (40, 3)])
def test_normals_are_those_of_a_loop_on_uneven_steps(small_blocks, points):
    surface = bumpy(*points)
    grid = to_structured_grid(surface)
    z = vtk_to_numpy(grid.GetPoints().GetData())[:, 2].reshape(surface.shape)
    found = vtk_to_numpy(grid.GetPointData().GetNormals()).reshape(*surface.shape, 3)

    def slope(line, steps, k):
        left = (line[k] - line[k - 1]) / (steps[k] - steps[k - 1]) if k > 0 else None
        right = (line[k + 1] - line[k]) / (steps[k + 1] - steps[k]) if k < len(line) - 1 else None
        if left is None or right is None:
            return right if left is None else left
        a, b = steps[k] - steps[k - 1], steps[k + 1] - steps[k]
        return (b * left + a * right) / (a + b)  # of the parabola through the three points

    for j in range(len(surface.y)):
        for i in range(len(surface.x)):
            normal = np.array([-slope(z[j], surface.x, i), -slope(z[:, i], surface.y, j), 1.0])
            np.testing.assert_allclose(found[j, i], normal / np.linalg.norm(normal), atol=1e-6)
