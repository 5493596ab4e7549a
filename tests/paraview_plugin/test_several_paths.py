"""``paraloss project A B C`` in ParaView: each run's path in its own color, at the places that the file holds."""

import h5py
import numpy as np
import pytest
import torch
from helpers import call, needs_paraview
from matplotlib import image
from test_plugin import HOUSE, pvpython, render
from torch import nn

from paraloss.look import PATH_COLORS

pytestmark = pytest.mark.paraview
RUNS = {"sgd": (torch.optim.SGD, 0.5, 9), "adam": (torch.optim.Adam, 0.1, 6), "rmsprop": (torch.optim.RMSprop, 0.05, 7)}
NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))

def data():
    inputs = torch.randn(40, 2, generator=torch.Generator().manual_seed(5))
    return inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()
"""
LOOK = f"""
sys.path.insert(0, {str(HOUSE / "state_files")!r})
import scene
drawn = scene.draw("lit_surface", [sys.argv[1]], scene.Wanted(size=(640, 400)))
for (name, _), source in GetSources().items():
    if source.GetXMLName() not in ("OptimizerTrajectory", "TextSource"):
        continue
    display = GetRepresentation(source, drawn.views[0])
    facts = dict(name=name, visible=display.Visibility)
    if source.GetXMLName() == "TextSource":
        tell(kind="text", text=source.Text, color=list(display.Color), **facts)
        continue
    source.UpdatePipeline()
    steps = source.PointData["step"].GetRange()
    grid = servermanager.Fetch(source)
    points = vtk_to_numpy(grid.GetPoints().GetData()).tolist()
    tell(kind="tube", path=source.Path, color=list(display.DiffuseColor), array=list(display.ColorArrayName), steps=steps,
         points=points, **facts)
"""


@pytest.fixture(scope="module")
def projected(tmp_path_factory):
    """A file of the command itself: three runs of real training from one start, a checkpoint per step."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "net.py").write_text(NET)
    scope = {}
    exec(NET, scope)
    inputs, targets = scope["data"]()
    for name, (optimizer, rate, steps) in RUNS.items():
        (folder / name).mkdir()
        model = scope["net"]()
        stepper = optimizer(model.parameters(), lr=rate)
        for step in range(steps):
            torch.save(model.state_dict(), folder / name / f"ckpt_{step}.pt")
            stepper.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            stepper.step()
    own = ["--model", "net.py:net", "--data", "net.py:data", "--points", "9"]
    done = call("project", *RUNS, *own, "-o", "paths.h5", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "paths.h5"


@pytest.fixture(autouse=True)
def _paraview():
    needs_paraview()


def paths_of(path):
    """The projected checkpoints of each run, by plain reading."""
    with h5py.File(path) as file:
        return [{key: values[()] for key, values in group.items()} for _, group in sorted(file["trajectories"].items())]


def test_each_run_has_its_color_its_name_and_its_own_places(projected, tmp_path):
    told, output = pvpython(LOOK, projected, folder=tmp_path)
    tubes = {fact["path"]: fact for fact in told if fact["kind"] == "tube"}
    texts = {fact["text"]: fact for fact in told if fact["kind"] == "text"}
    assert sorted(tubes) == [0, 1, 2] and sorted(texts) == sorted(RUNS), output
    assert all(fact["visible"] for fact in told)
    for number, (name, path) in enumerate(zip(RUNS, paths_of(projected), strict=True)):
        tube = tubes[number]
        assert tube["name"] == f"paths.h5 path of {name}"
        assert tube["color"] == pytest.approx(PATH_COLORS[number]) and tube["array"][-1] == ""
        assert texts[name]["color"] == pytest.approx(PATH_COLORS[number])
        assert tube["steps"] == pytest.approx([path["step"][0], path["step"][-1]])
        near = np.array(tube["points"])[:, :2]
        for x, y in zip(path["x"], path["y"], strict=True):  # the tube runs past every checkpoint
            assert np.hypot(*(near - [x, y]).T).min() < 0.03 * np.ptp(near, axis=0).max() + 1e-6
    assert len({tuple(fact["color"]) for fact in tubes.values()}) == 3


def test_the_picture_holds_the_three_colors(projected, tmp_path):
    """Hues of the lit tubes, whose brightness the light changes: pixels along each color's own ray, beside the names."""
    done = render(projected, "-o", tmp_path / "with.png", "--trajectory", "--view", "top", "--size", "640x400")
    assert (tmp_path / "with.png").exists(), done.stdout + done.stderr
    pixels = image.imread(tmp_path / "with.png")[..., :3]
    names = np.zeros(pixels.shape[:2], bool)
    names[:100, :140] = True
    for color in np.array(PATH_COLORS[:3]):
        exact = np.abs(pixels - color).max(axis=-1) < 0.08
        assert (exact & names).sum() > 8  # a name, which no light changes
        cosine = (pixels @ color) / (np.linalg.norm(pixels, axis=-1) * np.linalg.norm(color) + 1e-9)
        assert ((cosine > 0.995) & ~names & (np.ptp(pixels, axis=-1) > 0.25)).sum() > 25
