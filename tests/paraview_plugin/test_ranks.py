"""Each filter and each picture on two ranks of pvbatch against one: parallel ParaView must show the same surface."""

from pathlib import Path

import numpy as np
import pytest
from helpers import needs_paraview, on_two_ranks, under_display
from matplotlib import image
from skimage.metrics import structural_similarity
from test_plugin import HOUSE, RENDER, bumpy, pvpython

from paraloss.converters import convert

pytestmark = pytest.mark.paraview
CURE = str(HOUSE / "state_files" / "gui")  # lets the other rank of ParaView 5.11 load the plugin, too
TWO = on_two_ranks()

FACTS = """
def facts(name, source):
    source.UpdatePipeline()
    info = source.GetDataInformation()
    polygons = info.GetDataSetTypeAsString() == "vtkPolyData"
    arrays = {a.Name: a.GetRange() for a in (source.PointData.GetArray(k) for k in range(source.PointData.GetNumberOfArrays()))
              if a.GetNumberOfComponents() == 1 and a.Name != "vtkGhostType"}
    # The ranks' pieces of a grid share a layer of points.
    tell(name=name, bounds=info.GetBounds(), count=info.GetNumberOfPoints() if polygons else 0, arrays=arrays)
for path in sys.argv[1:]:
    kind = path.rpartition(".")[2]
    reader = OpenDataFile(path)
    facts(kind + " reader", reader)
    facts(kind + " levels", SurfaceContours(Input=reader, Levels="1 2 5"))
    facts(kind + " lines", SurfaceContours(Input=reader, Radius=0.0, NumberOfLevels=7))
    facts(kind + " path", OptimizerTrajectory(Input=reader))
    facts(kind + " own", OptimizerTrajectory(Input=reader, AtOwnLoss=1))
    facts(kind + " minimum", MinimumMarker(Input=reader))
    facts(kind + " warped", LossSurface(Input=reader, HeightFrom=["POINTS", "train_acc"], LogScale="Never"))
facts("image warped", LossSurface(Input=Wavelet(WholeExtent=[-5, 5, -4, 4, 0, 0]), HeightFrom=["POINTS", "RTData"]))
"""


@pytest.fixture(autouse=True)
def _paraview():
    needs_paraview()


@pytest.fixture
def files(tmp_path):
    bumpy(61, 47).save(tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.vts")
    return [tmp_path / "s.h5", tmp_path / "s.vts"]


def test_every_filter_gives_the_same_data_on_two_ranks_as_on_one(files, tmp_path):
    one, text = pvpython(FACTS, *files, program=("pvbatch",), folder=tmp_path)
    two, more = pvpython(FACTS, *files, program=TWO, folder=tmp_path, PYTHONPATH=CURE)
    assert [facts["name"] for facts in one] == [facts["name"] for facts in two], text + more
    assert len(one) == 15
    for alone, together in zip(one, two, strict=True):
        np.testing.assert_allclose(alone["bounds"], together["bounds"], atol=1e-6, err_msg=alone["name"])
        assert alone["count"] == together["count"], alone["name"]
        assert alone["arrays"].keys() == together["arrays"].keys(), alone["name"]
        for name, ends in alone["arrays"].items():
            np.testing.assert_allclose(ends, together["arrays"][name], rtol=1e-6, atol=1e-9, err_msg=f"{alone['name']} {name}")
    by_name = {facts["name"]: facts for facts in two}
    loss = bumpy(61, 47).metric()
    assert by_name["h5 minimum"]["arrays"]["value"][0] == pytest.approx(loss.min(), rel=1e-5)
    assert by_name["vts levels"]["arrays"]["level"] == pytest.approx([1, 5], rel=1e-5)
    np.testing.assert_allclose(by_name["h5 levels"]["bounds"][:4], by_name["vts levels"]["bounds"][:4], atol=1e-6)


@pytest.mark.parametrize("kind", ["h5", "vts"])
def test_contours_minimum_and_path_are_drawn_alike_on_two_ranks(kind, files, tmp_path):
    file = next(file for file in files if file.suffix == f".{kind}")
    options = ["--contours", "9", "--minimum", "--trajectory", "--view", "front", "--size", "640x360"]
    pictures = []
    for number, program in enumerate((("pvbatch",), TWO)):
        target = Path(tmp_path / f"{number}.png")
        done = under_display([*program, str(RENDER), str(file), "-o", str(target), *options])
        assert target.exists(), done.stdout + done.stderr
        pictures.append(image.imread(target)[..., :3])
    assert structural_similarity(*pictures, channel_axis=2, data_range=1) > 0.99
    dark = [(picture.max(axis=-1) < 0.35)[:, :560].sum() for picture in pictures]  # lines and path, without the scale
    assert dark[0] > 300
    assert dark[1] == pytest.approx(dark[0], rel=0.05)
