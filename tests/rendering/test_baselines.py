"""Pictures against those that a person looked at and committed in ``tests/baselines``.

After a wanted change of the look: ``pytest --write-baselines tests/rendering/test_baselines.py``, look at each, commit.
"""

from pathlib import Path

import numpy as np
import pytest
from helpers import needs_paraview, run
from matplotlib import image
from skimage.metrics import structural_similarity

from paraloss import Surface
from paraloss.look import LOOKS

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
_ALIKE = 0.97  # another build of the software renderer moves edges by a part of a pixel


def rough() -> Surface:
    """A basin with ripples, a ridge and a path into it; steps and sizes differ along x and y."""
    x, y = np.linspace(-1, 1, 61), np.linspace(-0.8, 0.8, 49)
    a, b = np.meshgrid(x, y)
    loss = 0.05 + 3 * a**2 + 7 * (b + 0.1) ** 2 + 0.6 * np.sin(7 * a) ** 2 * np.cos(6 * b) ** 2 + 2 * np.abs(a - b) ** 3
    turn = np.linspace(0, 4, 25)
    places = {"x": 0.85 * np.exp(-turn) * np.cos(turn), "y": -0.1 + 0.8 * np.exp(-turn) * np.sin(turn)}
    path = {**places, "loss": turn, "step": turn, "residual": turn}
    return Surface(x, y, {"train_loss": loss}, np.ones(loss.shape, np.uint8), trajectory=path)


PICTURES = [
    *((f"{look}_pyvista", ["--backend", "pyvista", "--look", look]) for look in LOOKS),
    ("everything_pyvista", ["--backend", "pyvista", "--axes", "--floor", "--contours", "10", "--minimum"]),
    ("contours_pyvista", ["--backend", "pyvista", "--contours", "12", "--no-trajectory"]),
    ("filled", ["--style", "filled"]),
    pytest.param("paper_paraview", ["--backend", "paraview"], marks=pytest.mark.paraview),
    pytest.param("dark_paraview", ["--backend", "paraview", "--look", "dark", "--contours", "12"], marks=pytest.mark.paraview),
]


@pytest.mark.parametrize(("name", "options"), PICTURES)
def test_the_picture_is_the_one_that_was_looked_at(name, options, tmp_path, request):
    if name.endswith("_paraview"):
        needs_paraview()
    rough().save(tmp_path / "s.h5")
    drawn, kept = tmp_path / f"{name}.png", BASELINES / f"{name}.png"
    done = run("render", tmp_path / "s.h5", drawn, "--size", "640x400", "--label", "a basin", *options)
    assert done.returncode == 0, done.stderr
    if request.config.getoption("--write-baselines"):
        BASELINES.mkdir(exist_ok=True)
        kept.write_bytes(drawn.read_bytes())
    now, then = (image.imread(path)[..., :3] for path in (drawn, kept))
    assert now.shape == then.shape
    assert structural_similarity(now, then, channel_axis=-1, data_range=1.0) > _ALIKE
    assert np.abs(now - then).mean() < 0.01
