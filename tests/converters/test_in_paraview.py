"""Our .vts and .vtp in a real ParaView: bounds and arrays."""

import json

import numpy as np
import pytest
from helpers import needs_paraview, surface_of, under_display

from paraloss import convert

SCRIPT = """
import json, sys
from paraview.simple import *
out = {}
for path in sys.argv[1:]:
    source = OpenDataFile(path)
    source.UpdatePipeline()
    info = source.GetDataInformation()
    arrays = {source.PointData[i].Name: source.PointData[i].GetRange() for i in range(len(source.PointData))}
    out[path] = {"bounds": info.GetBounds(), "points": info.GetNumberOfPoints(), "arrays": arrays}
print("RESULT" + json.dumps(out))
"""


@pytest.mark.paraview
def test_vts_and_vtp_open_in_paraview_with_their_bounds_and_arrays(tmp_path):
    needs_paraview()
    surface = surface_of(lambda x, y: 1 + x**2 + 5 * (y + 1), nx=7, ny=4)
    surface.save(tmp_path / "s.h5")
    files = [str(convert(tmp_path / "s.h5", tmp_path / f"s{ending}")) for ending in (".vts", ".vtp")]
    (tmp_path / "open.py").write_text(SCRIPT)
    done = under_display(["pvpython", str(tmp_path / "open.py"), *files], timeout=180)
    assert "RESULT" in done.stdout, done.stdout + done.stderr
    result = json.loads(done.stdout.split("RESULT")[1].splitlines()[0])
    for file in files:
        np.testing.assert_allclose(result[file]["bounds"], [-1, 1, -1, 1, 0, 0.55 * 2], atol=1e-6)
        assert result[file]["points"] == 28
        assert {"train_loss", "log_train_loss", "clipped", "status", "Normals"} <= set(result[file]["arrays"])
        np.testing.assert_allclose(result[file]["arrays"]["train_loss"], [1, 12], atol=1e-6)
        np.testing.assert_allclose(result[file]["arrays"]["log_train_loss"], np.log([1.1, 12.1]), atol=1e-6)
