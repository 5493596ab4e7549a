"""``paraloss compute --catalyst``: a pipeline that ParaView exported, run unchanged on the surface of a job on two ranks."""

import os

import numpy as np
import pytest
from helpers import call, needs_paraview, run
from matplotlib import image
from test_plugin import HOUSE, bumpy, pvpython
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLStructuredGridReader

from paraloss.surface import read_surface

pytestmark = pytest.mark.paraview

EXPORT = """
sys.path.insert(0, sys.argv[3])
import scene
from paraview import catalyst
from paraview.detail.catalyst_export import save_catalyst_state
drawn = scene.draw("lit_surface", [sys.argv[1]], scene.Wanted(size=(320, 240)))
png = CreateExtractor("PNG", drawn.views[0], registrationName="PNG1")
png.Writer.FileName, png.Writer.ImageResolution = "lit_{timestep:06d}.png", [320, 240]
lines = SurfaceContours(Input=drawn.sources[0])
vts = CreateExtractor("VTS", drawn.sources[0], registrationName="VTS1")
vts.Writer.FileName = "grid_{timestep:06d}.pvts"
options = catalyst.Options()
options.ExtractsOutputDirectory = "extracts"
save_catalyst_state(sys.argv[2], options)
tell(done=1)
"""


@pytest.fixture
def pipeline(tmp_path):
    """What File > Save Catalyst State writes for a lit surface, with a picture and the grid as outputs."""
    needs_paraview()
    bumpy().save(tmp_path / "as_drawn.h5")
    place = tmp_path / "pipeline.py"
    told, output = pvpython(EXPORT, tmp_path / "as_drawn.h5", place, HOUSE / "state_files", folder=tmp_path)
    assert told and place.is_file(), output
    return place


@pytest.mark.slow
def test_an_exported_pipeline_draws_the_surface_of_a_job_on_two_ranks(trained, pipeline, tmp_path):
    display = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    done = run(
        "compute", "--weights", trained / "final.pt", "--x=-1:1:7", "--y=-1:1:5", "--samples", "32", "-o", "s.h5",
        "--catalyst", pipeline, cwd=tmp_path, ranks=2, environment=display,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    surface = read_surface(tmp_path / "s.h5")
    grids = sorted((tmp_path / "extracts").rglob("*.vts"))
    assert grids, done.stderr
    reader = vtkXMLStructuredGridReader()
    reader.SetFileName(str(grids[-1]))
    reader.Update()
    losses = vtk_to_numpy(reader.GetOutput().GetPointData().GetArray("train_loss"))
    np.testing.assert_array_equal(losses, surface.metric().ravel())
    picture = image.imread(sorted((tmp_path / "extracts").glob("lit_*.png"))[-1])[..., :3]
    assert 0.05 < (picture.max(axis=-1) - picture.min(axis=-1) > 0.15).mean() < 0.9


@pytest.mark.slow
def test_a_pipeline_that_fails_does_not_harm_the_job(trained, tmp_path):
    needs_paraview()
    (tmp_path / "bad.py").write_text("# script-version: 2.0\nimport sys\nsys.stdout.flush()\nraise SystemExit(3)\n")
    done = run("compute", "--weights", trained / "final.pt", "--x=-1:1:3", "--y=-1:1:3", "--samples", "32", "-o", "s.h5",
               "--catalyst", "bad.py", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_surface(tmp_path / "s.h5").is_complete


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no such file"), ("import (", "no Python script"), ("from paraview.simple import *\n", "script-version")],
)
def test_what_is_no_exported_pipeline_is_refused_before_a_point_is_computed(trained, tmp_path, text, said):
    if text is not None:
        (tmp_path / "p.py").write_text(text)
    done = call("compute", "--weights", trained / "final.pt", "--x=-1:1:3", "-o", "s.h5", "--catalyst", "p.py", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "s.h5").exists()
