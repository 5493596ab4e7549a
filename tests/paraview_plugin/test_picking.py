"""What is said of a point of the surface under the mouse, and of one that is selected: x, y and the metrics of the file."""

import re

import numpy as np
import pytest
from helpers import needs_paraview
from test_plugin import bumpy, pvpython

pytestmark = pytest.mark.paraview

PICK = """
from paraview.modules.vtkRemotingMisc import vtkSMTooltipSelectionPipeline
from vtkmodules.vtkCommonCore import reference, vtkCollection
reader = OpenDataFile(sys.argv[1])
view = CreateView("RenderView")
view.ViewSize = [400, 400]
display = Show(reader, view)
Render(view)  # the first one places the camera itself
view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = [0, 0, 5], [0, 0, 0], [0, 1, 0]
view.CameraParallelProjection, view.CameraParallelScale = 1, 1.0  # the square [-1, 1] x [-1, 1], seen from above
Render(view)
about = vtkSMTooltipSelectionPipeline.GetInstance()
for column, row in ((130, 290), (251, 81)):
    shown, chosen = vtkCollection(), vtkCollection()
    view.SMProxy.SelectSurfacePoints([column - 11, row - 11, column + 11, row + 11], shown, chosen)
    about.Show(shown.GetItemAsObject(0), chosen.GetItemAsObject(0), view.SMProxy)
    text, plain = reference(""), reference("")
    about.GetTooltipInfo(0, text, plain)
    ClearSelection(reader)
    SelectSurfacePoints(Rectangle=[column - 11, row - 11, column + 11, row + 11], View=view)
    taken = ExtractSelection(Input=reader, Selection=reader.GetSelectionInput(reader.Port))
    tell(hover=str(plain), selected=facts_of(taken))
    display.SelectionPointLabelVisibility = 1
    display.SelectionPointFieldDataArrayName = "train_loss"
    Render(view)
"""


def numbers(text, name):
    """The numbers after a name in the label."""
    line = re.search(rf"^\W*{name}: (.*)$", text, re.MULTILINE)
    assert line, text
    return [float(word) for word in re.findall(r"-?\d[\d.e+-]*", line[1])]


@pytest.mark.slow
def test_a_picked_point_says_x_y_loss_and_accuracy_in_the_units_of_the_file(tmp_path):
    needs_paraview()
    surface = bumpy(21, 21)
    surface.save(tmp_path / "s.h5")
    told, output = pvpython(PICK, tmp_path / "s.h5", folder=tmp_path)
    assert len(told) == 2, output
    for facts, (x, y) in zip(told, ((-0.35, 0.45), (0.255, -0.595)), strict=True):
        found = numbers(facts["hover"], "Coords")[:2]
        assert np.abs(np.subtract(found, (x, y))).max() < 0.1
        loss = 0.1 + 4 * found[0] ** 2 + 9 * found[1] ** 2 + 0.5 * np.sin(6 * found[0]) ** 2
        assert numbers(facts["hover"], "train_loss") == pytest.approx([loss], rel=1e-4)
        assert numbers(facts["hover"], "train_acc") == pytest.approx([100 - loss], rel=1e-4)
        losses = facts["selected"]["values"]["train_loss"]
        assert any(abs(value - loss) < 1e-4 * loss for value in losses)
