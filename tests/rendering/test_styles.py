"""What a picture may show beside the surface: colors of another metric, lines, markers, axes, several surfaces; movies."""

import itertools
import subprocess
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
import pytest
import pyvista
from helpers import call, surface_of
from matplotlib import image
from scipy.ndimage import binary_dilation
from skimage.measure import label

from paraloss import Surface, render
from paraloss.converters import to_structured_grid
from paraloss.converters.finer import finer
from paraloss.converters.geometry import contour_lines, default_levels
from paraloss.errors import InputError
from paraloss.look import LOOKS
from paraloss.rendering import PictureOptions, make_movie


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)


def bowl(x, y):
    return 0.1 + 3 * x**2 + 8 * y**2


def picture(tmp_path, surfaces, size=(420, 320), **options):
    surfaces = [surfaces] if isinstance(surfaces, Surface) else surfaces
    labels = options.pop("labels", [""] * len(surfaces))
    return image.imread(render(surfaces, tmp_path / "p.png", size=size, labels=labels, **options))[..., :3]


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_has_its_background_and_shows_the_surface(look, tmp_path):
    drawn = picture(tmp_path, surface_of(bowl, 31, 31), look=look)
    np.testing.assert_allclose(drawn[2, 2], LOOKS[look].background, atol=0.01)
    assert (np.abs(drawn - drawn[2, 2]).max(axis=-1) > 0.1).mean() > 0.2


def test_clay_has_one_color_and_no_scale(tmp_path):
    drawn = picture(tmp_path, surface_of(bowl, 31, 31), look="clay")
    there = np.abs(drawn - drawn[2, 2]).max(axis=-1) > 0.1
    hue = (drawn[..., 0] - drawn[..., 2])[there] / drawn[..., 0][there]
    assert hue.std() < 0.04


def test_color_may_come_from_another_metric(tmp_path):
    surface = surface_of(bowl, 31, 31)
    x, _ = np.meshgrid(surface.x, surface.y)
    both = replace(surface, metrics={**surface.metrics, "train_acc": 50 + 40 * x})
    drawn = picture(tmp_path, both, view="top", color_by="train_acc", scalar_bar=False)
    columns = np.flatnonzero((drawn < 0.97).any(axis=(0, 2)))
    left, right = drawn[160, columns[0] + 30], drawn[160, columns[-1] - 30]
    assert left[2] > left[0] + 0.15
    assert right[0] > right[2] + 0.15


@pytest.mark.parametrize(
    "extra", [{"contours": 12}, {"floor": True}, {"minimum": True}, {"axes": True}, {"scalar_bar": False}, {"view": "corner"}]
)
def test_each_choice_changes_the_picture_and_nothing_touches_an_edge(extra, tmp_path):
    surface = surface_of(bowl, 31, 31)
    view = "top" if "minimum" in extra else "paper"  # the rim of a deep bowl hides its bottom from the side
    plain, other = picture(tmp_path, surface, view=view), picture(tmp_path, surface, **{"view": view, **extra})
    assert np.abs(plain - other).max() > 0.2
    ink = (other < 0.97).any(axis=-1)
    assert not (ink[0].any() or ink[-1].any() or ink[:, 0].any() or ink[:, -1].any())


def test_path_lies_on_the_surface_and_may_be_left_out(tmp_path):
    turn = np.linspace(0, 5, 12)
    path = {"x": 0.8 * np.cos(turn) * np.exp(-turn / 4), "y": 0.7 * np.sin(turn) * np.exp(-turn / 4)}
    surface = replace(surface_of(bowl, 41, 41), trajectory={**path, "loss": turn, "step": turn, "residual": turn})
    with_path, without = picture(tmp_path, surface), picture(tmp_path, surface, trajectory=False)
    changed = np.abs(with_path - without).max(axis=-1) > 0.2
    assert 0.002 < changed.mean() < 0.08
    from vtkmodules.util.numpy_support import vtk_to_numpy

    from paraloss.converters import to_structured_grid
    from paraloss.converters.geometry import height_at
    from paraloss.converters.paths import drape_trajectory

    grid = to_structured_grid(surface)
    points = vtk_to_numpy(drape_trajectory(grid, radius=1e-6).GetPoints().GetData()).astype(float)
    np.testing.assert_allclose(points[:, 2], height_at(grid, points[:, 0], points[:, 1]), atol=1e-4)
    assert len(points) > 16 * 12 * 2  # not only at the checkpoints


def test_many_surfaces_form_a_grid_and_a_row_is_asked_for(tmp_path):
    surfaces = [surface_of(lambda x, y, k=k: k + bowl(x, y), 9, 9) for k in range(4)]
    drawn = picture(tmp_path, surfaces, size=(600, 600), scalar_bar=False)
    ink = (drawn < 0.97).any(axis=-1)
    assert all(ink[r : r + 300, c : c + 300].mean() > 0.1 for r in (0, 300) for c in (0, 300))
    assert PictureOptions().shape(3) == (1, 3)
    assert PictureOptions().shape(5) == (2, 3)
    assert PictureOptions(columns=2).shape(6) == (3, 2)


def test_overlay_shows_both_surfaces_in_their_own_colors(tmp_path):
    low, high = surface_of(lambda x, y: 1 + 0 * x, 9, 9), surface_of(lambda x, y: 50 + 0 * x, 9, 9)
    drawn = picture(tmp_path, [low, high], overlay=True, labels=["low", "high"])
    assert ((drawn[..., 2] - drawn[..., 0]) > 0.15).sum() > 300
    assert ((drawn[..., 0] - drawn[..., 2]) > 0.15).sum() > 300


def test_difference_is_the_first_minus_the_second_and_needs_equal_steps():
    one, other = surface_of(bowl, 9, 7), surface_of(lambda x, y: 0.5 * bowl(x, y), 9, 7)
    np.testing.assert_allclose((one - other).metric(), 0.5 * one.metric())
    with pytest.raises(InputError, match="same steps"):
        one - surface_of(bowl, 7, 9)


def test_a_ratio_is_the_difference_of_the_heights_and_its_colors_are_even_on_both_sides(tmp_path):
    one, other = surface_of(lambda x, y: 0.9 + x * 0, 9, 7), surface_of(bowl, 9, 7)
    ratio = one.ratio(other)
    np.testing.assert_allclose(np.log(ratio.metric()), np.log(1.0) - np.log(other.metric() + 0.1))
    for name, surface in (("a", one), ("b", other)):
        surface.save(tmp_path / f"{name}.h5")
    done = call("render", tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "r.png", "--difference", "--style", "heat")
    assert done.returncode == 0, done.stderr
    seen = image.imread(tmp_path / "r.png")[..., :3]
    pale = np.abs(seen - 0.865).max(axis=-1) < 0.03  # where both are equal: loss 0.9 on the bowl
    assert pale.sum() > 50
    with pytest.raises(InputError, match="a loss that both"):
        replace(one, metrics={"a_acc": one.metric()}).ratio(replace(one, metrics={"a_acc": one.metric()}))


def test_contour_lines_are_whole_on_a_coarse_surface(tmp_path):
    """Steep valleys along both diagonals of the cells; a line that dives below the drawn triangles would come out in pieces."""
    surface = surface_of(lambda x, y: 1 + 8 * np.minimum(np.abs(x - y), np.abs(x + y)) + 2 * (x**2 + y**2), 13, 13)
    drawn = picture(tmp_path, surface, size=(1000, 1000), look="flat", contours=3, view="top", scalar_bar=False)
    dark = drawn.max(axis=-1) < 0.6
    pieces = np.bincount(label(binary_dilation(dark, iterations=2)).ravel())[1:]  # a line two pixels wide may flicker
    grid = to_structured_grid(finer(surface))  # what is drawn
    levels = default_levels(grid, 3)
    lines = pyvista.wrap(contour_lines(grid, levels)).clean().connectivity()
    assert (pieces > 100).sum() == len(np.unique(lines["RegionId"]))


def test_a_poster_too_large_to_be_supersampled_is_the_same_picture(tmp_path):
    surface, shown = surface_of(bowl, 9, 9), {"look": "flat", "axes": True, "floor": True, "contours": 5}
    large, small = (picture(tmp_path, surface, size=(width, width // 2), **shown) for width in (4400, 1100))
    large = large.reshape(550, 4, 1100, 4, -1).mean(axis=(1, 3))
    assert np.abs(large - small).mean() < 0.01


def test_a_picture_that_this_machine_cannot_draw_is_refused(tmp_path, monkeypatch):
    from paraloss.rendering import plotter

    monkeypatch.setattr(plotter.quiet_pyvista().Plotter, "screenshot", lambda self, **_: np.zeros((200, 300, 3), np.uint8))
    with pytest.raises(InputError, match=r"[0-9]+ x [0-9]+ pixels are more than this machine can draw; choose a smaller size"):
        picture(tmp_path, surface_of(bowl, 5, 5), size=(300, 200))
    assert not list(tmp_path.iterdir())


def test_smoothing_is_told_in_the_picture(tmp_path):
    surface_of(bowl, 9, 9).save(tmp_path / "s.h5")
    for name, extra in (("plain", []), ("fine", ["--smooth", "4"])):
        done = call("render", tmp_path / "s.h5", tmp_path / f"{name}.png", "--backend", "pyvista", "--size", "500x400", *extra)
        assert done.returncode == 0, done.stderr
    corner = [(image.imread(tmp_path / f"{name}.png")[380:, :120, :3] < 0.6).any() for name in ("plain", "fine")]
    assert corner == [False, True]


@pytest.mark.parametrize("kind", ["iso", "fog"])
def test_volume_shows_shells_or_fog(kind, tmp_path):
    axis = np.linspace(-1, 1, 15)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    values = 0.1 + 5 * (x**2 + y**2 + z**2)
    volume = Surface(axis, axis, {"train_loss": values}, np.ones(values.shape, np.uint8), z=axis)
    drawn = picture(tmp_path, volume, size=(500, 400), style=kind)
    blueness = drawn[..., 2] - drawn[..., 0]
    rows, columns = np.nonzero(blueness > 0.05)  # low loss: blue, in the middle
    assert len(rows) > 500
    assert abs(rows.mean() - 215) < 70
    assert abs(columns.mean() - 215) < 70


def frames_of(path, width, height):
    """(n, height, width, 3) in 0..1, decoded by ffmpeg itself."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3) / 255


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_orbit_turns_once_around_a_standing_scale(ending, tmp_path):
    path = make_movie([surface_of(bowl, 15, 15)], tmp_path / f"o{ending}", frames=6, fps=6, size=(320, 200), labels=["turn"])
    frames = frames_of(path, 320, 200)
    assert len(frames) == 6
    assert frames[0].shape == (200, 320, 3)
    assert all(np.abs(a[:, :260] - b[:, :260]).mean() > 0.003 for a, b in itertools.pairwise(frames))
    assert np.abs(frames[0][40:160, 290:] - frames[3][40:160, 290:]).mean() < 0.03
    for frame in frames:  # nothing is cropped while it turns
        ink = (frame < 0.9).any(axis=-1)
        assert not (ink[-1].any() or ink[:, 0].any())


def test_morph_flows_from_the_first_surface_to_the_last(tmp_path):
    low, high = surface_of(lambda x, y: 1 + x**2, 9, 9), surface_of(lambda x, y: 30 + x**2, 9, 9)
    path = make_movie([low, high], tmp_path / "m.mp4", kind="morph", frames=5, size=(320, 240))
    frames = frames_of(path, 320, 240)
    warmth = [(f[60:180, 60:220, 0] - f[60:180, 60:220, 2]).mean() for f in frames]
    assert warmth[0] < warmth[2] < warmth[-1]


def test_movies_refuse_what_does_not_fit_and_leave_nothing(tmp_path):
    one = surface_of(bowl, 5, 5)
    for surfaces, options, told in (
        ([one], {"kind": "morph"}, "two surfaces"),
        ([one, surface_of(bowl, 6, 5)], {"kind": "morph"}, "same steps"),
        ([one], {"kind": "walk"}, "trajectory"),
        ([one], {"kind": "flight"}, "unknown movie"),
        ([one], {"frames": 1}, "2 to 100,000"),
        ([one], {"size": (321, 200)}, "even"),
    ):
        with pytest.raises(InputError, match=told):
            make_movie(surfaces, tmp_path / "m.mp4", **options)
    with pytest.raises(InputError, match=r"movies end in"):
        make_movie([one], tmp_path / "m.avi")
    assert not list(tmp_path.iterdir())


def test_histograms_tell_the_norm_of_the_weights(tmp_path, trained):
    done = call("histogram", trained / "epoch_000.pt", trained / "final.pt", tmp_path / "w.svg")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w.svg").stat().st_size > 5000
    done = call("histogram", trained / "final.pt", tmp_path / "w.png", "--label", "a", "--label", "b")
    assert done.returncode == 2
    assert "2 labels for 1" in done.stderr


def test_checkpoints_that_span_a_plane_are_marked_from_above(tmp_path):
    plain = surface_of(bowl, 21, 21)
    spanned = replace(plain, provenance={"directions": [{"to": "a", "type": "states"}, {"to": "b", "type": "states"}]})
    pictures = [picture(tmp_path, surface, size=(500, 500), style="heat") for surface in (plain, spanned)]
    changed = np.argwhere(np.abs(pictures[0] - pictures[1]).max(axis=-1) > 0.3)
    assert len(changed) > 60
    assert np.ptp(changed[:, 0]) > 100  # the center, one above it, one to the right
    assert np.ptp(changed[:, 1]) > 100
