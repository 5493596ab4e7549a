"""Several surfaces as one in ParaView, and the file of color maps, against numpy."""

import json

import numpy as np
import pytest
from helpers import needs_paraview, surface_of
from test_plugin import HOUSE, pvpython
from test_ranks import CURE, TWO
from vtkmodules.util.numpy_support import vtk_to_numpy

from paraloss import Surface
from paraloss.converters import GridOptions, to_structured_grid
from paraloss.converters.together import difference_grid, mean_grid
from paraloss.errors import InputError
from paraloss.look import COLOR_MAPS


def seeds(count=3, nx=9, ny=7):
    made = []
    for seed in range(count):
        plain = surface_of(lambda x, y, s=seed: 1 + s + x**2 * (1 + s) + 2 * y**2, nx, ny)
        made.append(Surface(plain.x, plain.y, {**plain.metrics, "train_acc": 90 - seed + 0 * plain.metric()}))
    return made


def array(grid, name):
    return vtk_to_numpy(grid.GetPointData().GetArray(name))


def test_mean_and_spread_are_numpys_and_the_height_is_that_of_the_mean_on_the_firsts_scale():
    surfaces = seeds()
    grids = [to_structured_grid(one, GridOptions(zmax=6.0)) for one in surfaces]
    grid = mean_grid(grids)
    values = np.array([one.metric().ravel() for one in surfaces])
    np.testing.assert_allclose(array(grid, "train_loss"), sum(values) / 3)
    np.testing.assert_allclose(array(grid, "train_loss_std"), np.sqrt(((values - sum(values) / 3) ** 2).sum(axis=0) / 2))
    np.testing.assert_allclose(array(grid, "train_acc"), 89)
    scale, base = (grids[0].GetFieldData().GetArray(name).GetValue(0) for name in ("height_scale", "height_base"))
    expected = scale * (np.log(np.minimum(values.mean(axis=0), 6.0) + 0.1) - base)
    np.testing.assert_allclose(vtk_to_numpy(grid.GetPoints().GetData())[:, 2], expected, atol=1e-12)
    assert grid.GetPointData().GetScalars().GetName() == "train_loss_std"


def test_a_point_that_one_surface_lacks_is_pending_in_the_mean():
    surfaces = seeds(2)
    status = surfaces[1].status.copy()
    status[3, 4] = 0
    surfaces[1] = Surface(surfaces[1].x, surfaces[1].y, surfaces[1].metrics, status)
    found = array(mean_grid([to_structured_grid(one) for one in surfaces]), "status").reshape(status.shape)
    assert found[3, 4] == 0
    assert (found != 0).sum() == status.size - 1


def test_the_difference_is_first_minus_second():
    a, b = seeds(2)
    grid = difference_grid([to_structured_grid(a), to_structured_grid(b)])
    np.testing.assert_allclose(array(grid, "train_loss_difference"), (a.metric() - b.metric()).ravel())


@pytest.mark.parametrize(
    ("make", "grids", "said"),
    [
        (mean_grid, seeds(1), "two or more"),
        (mean_grid, [*seeds(1), *seeds(1, nx=11)], "surface 2 has other steps"),
        (difference_grid, seeds(3), "of two surfaces"),
    ],
)
def test_what_cannot_be_joined_is_said_in_one_line(make, grids, said):
    with pytest.raises(InputError, match=said):
        make([to_structured_grid(one) for one in grids])


FILTER = """
readers = [LossSurfaceReader(FileNames=[path]) for path in sys.argv[1:4]]
several = SeveralSurfaces(Input=readers)
def facts(name):
    several.UpdatePipeline()
    arrays = {name: several.PointData[name].GetRange() for name in several.PointData.keys() if name.startswith("train")}
    tell(name=name, arrays=arrays)
facts("mean")
several.Input = readers[:2]
several.Show = "First minus second"
facts("difference")
"""

IMPORT = """
presets = servermanager.vtkSMTransferFunctionPresets.GetInstance()
presets.ImportPresets(sys.argv[1])
table = GetColorTransferFunction("train_loss")
table.ApplyPreset("LossSurface viridis", False)
tell(name="preset", points=len(table.RGBPoints), space=str(table.ColorSpace).strip("'"))
"""


@pytest.mark.paraview
@pytest.mark.parametrize("program", [("pvpython",), TWO], ids=["one", "two"])
def test_the_filter_gives_these_numbers_on_one_and_on_two_ranks(program, tmp_path):
    needs_paraview()
    surfaces = seeds()
    files = [one.save(tmp_path / f"{number}.h5") for number, one in enumerate(surfaces)]
    places = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": CURE}
    told, output = pvpython(FILTER, *files, program=program, folder=tmp_path, **places)
    assert [one["name"] for one in told] == ["mean", "difference"], output
    values = np.array([one.metric() for one in surfaces])
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
    assert told[0]["arrays"]["train_loss"] == pytest.approx([mean.min(), mean.max()])
    assert told[0]["arrays"]["train_loss_std"] == pytest.approx([spread.min(), spread.max()])
    gap = values[0] - values[1]
    assert told[1]["arrays"]["train_loss_difference"] == pytest.approx([gap.min(), gap.max()])


@pytest.mark.paraview
def test_the_file_of_color_maps_is_imported(tmp_path):
    """By one process: ParaView 6.1.1 waits for ever where rank 0 of a parallel pvbatch imports color maps."""
    needs_paraview()
    places = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    told, output = pvpython(IMPORT, HOUSE / "state_files" / "loss_surface_colors.json", folder=tmp_path, **places)
    expected = {"points": 4 * len(COLOR_MAPS["viridis"][1]), "space": COLOR_MAPS["viridis"][0]}
    assert told == [{"name": "preset", **expected}], output


def test_the_file_of_color_maps_holds_those_of_the_looks():
    presets = json.loads((HOUSE / "state_files" / "loss_surface_colors.json").read_text())
    found = {one["Name"]: (one["ColorSpace"], one["RGBPoints"]) for one in presets}
    assert found == {f"LossSurface {name}": (space, [c for point in points for c in point])
                     for name, (space, points) in COLOR_MAPS.items()}  # fmt: skip
