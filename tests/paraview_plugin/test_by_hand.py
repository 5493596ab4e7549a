"""What a user does by hand: opens a file, adds filters, presses the button; on ``.h5`` and on the ``.hdf`` made of it."""

import numpy as np
import pytest
from helpers import needs_paraview
from matplotlib import image
from test_plugin import HOUSE, bumpy, pvpython

from paraloss.converters import convert

pytestmark = pytest.mark.paraview
STEPS = f"""
sys.path.insert(0, {str(HOUSE / "state_files")!r})
import light
light.light_it()
view = CreateView("RenderView")
view.ViewSize = [640, 400]
for path in sys.argv[1:]:
    source = OpenDataFile(path)
    RenameSource(path.rpartition("/")[2], source)
    Show(source, view)
    contours = SurfaceContours(Input=source)
    display = Show(contours, view)
    tell(what="by hand", color=list(display.DiffuseColor), array=list(display.ColorArrayName)[-1],
         stays=contours.GetHints().FindNestedElementByName("Visibility").GetAttribute("replace_input"))
    for made in (contours, MinimumMarker(Input=source), OptimizerTrajectory(Input=source),
                 LossSurface(Input=source, HeightFrom=["POINTS", "train_acc"])):
        made.UpdatePipeline()
        info = made.GetDataInformation()
        tell(what=made.GetXMLName(), points=info.GetNumberOfPoints(), bounds=info.GetBounds())
    SetActiveSource(AppendGeometry(Input=[contours, MinimumMarker(Input=source)]))
    light.light_it()
    light.light_it()
    SaveScreenshot(path + ".png", view, ImageResolution=[640, 400])
    tell(what="names", names=sorted(name for name, _ in GetSources()), title=GetScalarBar(
         GetColorTransferFunction("log_train_loss"), view).Title, active=GetActiveSource() == source)
    for each in list(GetSources().values()):
        Delete(each)
mine = LossSurface(registrationName="mine", Input=Wavelet(WholeExtent=[-5, 5, -4, 4, 0, 0]), LogScale="Never")
SetActiveSource(SurfaceContours(Input=mine))
light.light_it()
table = GetColorTransferFunction("RTData")
tell(what="foreign", title=GetScalarBar(table, view).Title, ends=list(mine.PointData["RTData"].GetRange()),
     table=[table.RGBPoints[k] for k in (0, -4)])
"""


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """(what the steps found, everything printed, folder)."""
    needs_paraview()
    folder = tmp_path_factory.mktemp("hand")
    bumpy(41, 31).save(folder / "s.h5")
    convert(folder / "s.h5", folder / "s.hdf")
    told, output = pvpython(STEPS, folder / "s.h5", folder / "s.hdf", folder=folder)
    assert told and told[-1]["what"] == "foreign", output
    return told, output, folder


def of(steps, what):
    return [fact for fact in steps[0] if fact["what"] == what]


def test_contours_are_dark_and_leave_the_surface_visible(steps):
    for fact in of(steps, "by hand"):
        assert max(fact["color"]) < 0.2 and fact["array"] == "" and fact["stays"] == "0"


@pytest.mark.parametrize("kind", ["SurfaceContours", "MinimumMarker", "OptimizerTrajectory", "LossSurface"])
def test_filters_make_of_a_hdf_what_they_make_of_the_h5(kind, steps):
    h5, hdf = of(steps, kind)
    assert h5["points"] == hdf["points"] > 100
    np.testing.assert_allclose(h5["bounds"], hdf["bounds"], atol=1e-6)


def test_the_button_lights_the_surface_behind_what_is_active_and_twice_is_as_once(steps):
    for name, fact in zip(("s.h5", "s.hdf"), of(steps, "names"), strict=True):
        assert fact["active"] and fact["title"] == "train loss"
        by_hand = {"AppendGeometry", "LossSurface", "MinimumMarker", "OptimizerTrajectory", "SurfaceContours"}
        made = [one for one in fact["names"] if one.rstrip("0123456789") not in by_hand]
        assert made == sorted([name, f"{name} end", f"{name} path", f"{name} start"])
        pixels = image.imread(steps[2] / f"{name}.png")[..., :3]
        np.testing.assert_allclose(pixels[3, 3], 1.0)  # the background is white
        assert (pixels[..., 2] - pixels[..., 0] > 0.2).sum() > 1000 and (pixels[..., 0] - pixels[..., 2] > 0.2).sum() > 1000
    h5, hdf = (image.imread(steps[2] / f"{name}.png")[..., :3] for name in ("s.h5", "s.hdf"))
    assert np.abs(h5 - hdf).max() < 0.02  # no facets
    (foreign,) = of(steps, "foreign")
    assert foreign["title"] == "RTData" and foreign["table"] == pytest.approx(foreign["ends"])


def test_without_a_surface_the_button_says_what_to_do(steps):
    assert "paraloss: no loss surface is open: open one with File > Open" in steps[1]
    assert "Traceback" not in steps[1]
