"""Large surfaces in ParaView: a part of the points, on the scale of the whole."""

import numpy as np
import pytest
from helpers import needs_paraview
from test_plugin import bumpy, pvpython
from test_ranks import CURE, TWO

pytestmark = pytest.mark.paraview

READ = """
r = LossSurfaceReader(FileNames=[sys.argv[1]])
for every in ("Point", "4th point", "32nd point"):
    r.ReadEvery = every
    r.UpdatePipeline()
    info = r.GetDataInformation()
    tell(every=every, extent=info.GetExtent(), bounds=info.GetBounds(), losses=r.PointData["train_loss"].GetRange(),
         clean=r.PointData["status"].GetRange()[0])
"""


@pytest.mark.parametrize("program", [("pvpython",), TWO], ids=["one", "two"])
def test_every_fourth_point_is_read_around_the_middle_on_the_scale_of_the_whole(program, tmp_path):
    needs_paraview()
    whole = bumpy(41, 33)
    told, output = pvpython(READ, whole.save(tmp_path / "s.h5"), program=program, folder=tmp_path, PYTHONPATH=CURE)
    assert len(told) == 3, output
    full, fourth, too_far = told
    assert (full["extent"][1] + 1, full["extent"][3] + 1) == (41, 33)
    assert (fourth["extent"][1] + 1, fourth["extent"][3] + 1) == (11, 9)
    kept = [whole.metric()[j][i] for j in range(0, 33, 4) for i in range(0, 41, 4)]
    np.testing.assert_allclose(fourth["losses"], [min(kept), max(kept)])
    unit = full["bounds"][5] / np.log((whole.metric().max() + 0.1) / (whole.metric().min() + 0.1))
    np.testing.assert_allclose(fourth["bounds"][5], unit * np.log((max(kept) + 0.1) / (whole.metric().min() + 0.1)))
    assert too_far["extent"] == full["extent"]
