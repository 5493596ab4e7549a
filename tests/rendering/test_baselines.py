"""Pictures against those that a person looked at and committed in ``tests/baselines``.

After a wanted change of the look: ``pytest --write-baselines tests/rendering/test_baselines.py``, look at each, commit.
"""

from pathlib import Path

import numpy as np
import pytest
from baseline import assert_alike
from helpers import call, needs_paraview
from matplotlib import image

from paraloss import Surface
from paraloss.look import LOOKS

BASELINES = Path(__file__).resolve().parent.parent / "baselines"


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
    done = call("render", tmp_path / "s.h5", drawn, "--size", "640x400", "--label", "a basin", *options)
    assert done.returncode == 0, done.stderr
    if request.config.getoption("--write-baselines"):
        BASELINES.mkdir(exist_ok=True)
        kept.write_bytes(drawn.read_bytes())
    assert_alike(drawn, kept, name)


def test_pictures_that_differ_are_laid_side_by_side_in_a_page_that_the_message_names(tmp_path):
    kept = BASELINES / "paper_pyvista.png"
    picture, report = image.imread(kept)[..., :3], tmp_path / "report"
    drawn = {"same": picture, "shifted": np.roll(picture, 9, axis=1), "cut": picture[:, :300]}
    for name, values in drawn.items():
        image.imsave(tmp_path / f"{name}.png", values)
    assert_alike(tmp_path / "same.png", kept, "a", report)
    assert not report.exists()
    with pytest.raises(AssertionError, match=rf"^a: likeness 0\.\d+ .*; see {report}/index\.html$"):
        assert_alike(tmp_path / "shifted.png", kept, "a", report)
    with pytest.raises(AssertionError, match=r"^b: is 300×400 pixels, 640×400 before"):
        assert_alike(tmp_path / "cut.png", kept, "b", report)
    assert sorted(path.name for path in (report / "a").glob("*.png")) == ["difference.png", "now.png", "then.png"]
    np.testing.assert_array_equal(image.imread(report / "a" / "now.png")[..., :3], drawn["shifted"])
    changed = image.imread(report / "a" / "difference.png")[..., :3].max(axis=-1) > 0.1
    np.testing.assert_array_equal(changed, 4 * np.abs(drawn["shifted"] - picture).max(axis=-1) > 0.1)
    page = (report / "index.html").read_text()
    assert [page.count(f'src="a/{kind}.png"') for kind in ("now", "then", "difference")] == [1, 1, 1]
    assert page.count("<h2>") == 2
    assert_alike(kept, kept, "a", report)  # mended: it leaves the page
    assert "<h2>a</h2>" not in (report / "index.html").read_text()
