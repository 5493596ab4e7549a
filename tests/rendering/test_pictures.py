"""Pictures without a display: what is where, on which scale, and nothing cropped."""

import numpy as np
import pytest
from helpers import surface_of
from matplotlib import image

from paraloss import Surface, render
from paraloss.camera import camera_for
from paraloss.converters import GridOptions
from paraloss.converters.scale import scale_ticks, shared_heights
from paraloss.errors import InputError
from paraloss.look import CAMERAS, VIEW_ANGLE


def pixels(path):
    return image.imread(path)[..., :3]


def drawn(picture):
    """Where a pixel is not the white background."""
    return (picture < 0.97).any(axis=-1)


def bowl(x, y):
    return 0.1 + 3 * x**2 + 8 * y**2


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)


def test_a_bowl_fills_the_frame_and_touches_no_edge(tmp_path):
    path = render([surface_of(bowl, 31, 21)], tmp_path / "s.png", size=(640, 400), scalar_bar=False, labels=[""])
    mask = drawn(pixels(path))
    assert mask.shape == (400, 640)
    assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    assert max(np.ptp(np.flatnonzero(mask.any(axis=0))) / 640, np.ptp(np.flatnonzero(mask.any(axis=1))) / 400) > 0.85


def test_x_and_y_are_not_swapped_in_the_picture(tmp_path):
    """Seen from the top, a loss that rises along x is blue on the left and red on the right."""
    surface = surface_of(lambda x, y: 10 + 4 * x + 0.1 * y, 7, 4)
    picture = pixels(render([surface], tmp_path / "s.png", view="top", size=(400, 400), scalar_bar=False, labels=[""]))
    rows, columns = np.nonzero(drawn(picture))
    middle = picture[int(rows.mean())]
    left, right = middle[columns.min() + 20], middle[columns.max() - 20]
    assert left[2] > left[0] + 0.2
    assert right[0] > right[2] + 0.2


def test_several_surfaces_share_one_scale(tmp_path):
    low, high = surface_of(lambda x, y: 1 + 0 * x + x**2, 9, 9), surface_of(lambda x, y: 100 + x**2, 9, 9)
    path = render([low, high], tmp_path / "s.png", view="top", size=(800, 400), scalar_bar=False, labels=["", ""])
    picture = pixels(path)
    left, right = picture[200, 200], picture[200, 600]
    assert left[2] > left[0] + 0.2
    assert right[0] > right[2] + 0.2


def test_labels_and_scale_change_the_picture(tmp_path):
    surface = surface_of(bowl, 9, 9)
    plain = pixels(render([surface], tmp_path / "a.png", size=(640, 400), scalar_bar=False, labels=[""]))
    told = pixels(render([surface], tmp_path / "b.png", size=(640, 400), labels=["a network"]))
    assert drawn(told)[:30].any()
    assert not drawn(plain)[:4].any()
    assert drawn(told)[100:300, 600:].any()


def test_a_transparent_background_is_transparent(tmp_path):
    picture = image.imread(render([surface_of(bowl, 9, 9)], tmp_path / "s.png", size=(300, 200), transparent=True))
    assert picture[0, 0, 3] == 0
    assert picture[100, 140, 3] == 1


def test_a_partial_surface_draws_what_is_there(tmp_path):
    full = surface_of(bowl, 21, 21)
    values, status = full.metric().copy(), full.status.copy()
    values[:, 10:], status[:, 10:] = np.nan, 0
    part = Surface(full.x, full.y, {"train_loss": values}, status)
    areas = [
        drawn(pixels(render([s], tmp_path / "s.png", view="top", size=(300, 300), scalar_bar=False, labels=[""])))
        for s in (full, part)
    ]
    ratio = np.ptp(np.flatnonzero(areas[1].any(axis=0))) / np.ptp(np.flatnonzero(areas[1].any(axis=1)))
    assert ratio == pytest.approx(0.45, abs=0.04)  # 10 of 21 columns: 0.9 wide, 2 high


@pytest.mark.parametrize("view", CAMERAS)
def test_the_camera_shows_every_point(view):
    points = np.random.default_rng(0).uniform((-1, -3, 0), (2, 1, 5), (200, 3))
    position, aim, up = camera_for(points, view, aspect=1.6)
    forward = (aim - position) / np.linalg.norm(aim - position)
    right = np.cross(forward, up)
    offsets = points - position
    depth = offsets @ forward
    limit = np.tan(np.radians(VIEW_ANGLE / 2))
    vertical, horizontal = np.abs(offsets @ up / depth) / limit, np.abs(offsets @ right / depth) / limit / 1.6
    assert max(vertical.max(), horizontal.max()) == pytest.approx(0.96, abs=0.02)


def test_ticks_are_round_losses_at_their_place_on_the_log_scale():
    heights = shared_heights([surface_of(lambda x, y: 10 ** (2 * x), 9, 9)], GridOptions())[0]
    ticks = scale_ticks(heights, *heights.value_range)
    assert 3 <= len(ticks) <= 8
    for value, text in ticks:
        assert value == pytest.approx(np.log(float(text) + 0.1))


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_curves_become_a_plot(tmp_path, ending):
    x = np.linspace(-1, 1, 21)
    curve = Surface(x, None, {"train_loss": 0.1 + x**2, "train_acc": 100 - 50 * x**2}, np.ones(21, np.uint8))
    path = render([curve, curve], tmp_path / f"c{ending}", labels=["a", "b"])
    assert path.stat().st_size > 5000


def test_what_cannot_be_drawn_is_named_and_leaves_no_file(tmp_path):
    surface = surface_of(bowl, 4, 4)
    empty = Surface(surface.x, surface.y, {"train_loss": np.full((4, 4), np.nan)}, np.zeros((4, 4), np.uint8))
    curve = Surface(surface.x, None, {"train_loss": np.arange(4.0)}, np.ones(4, np.uint8))
    for surfaces, options, told in (
        ([empty], {}, "nothing to draw"),
        ([surface, curve], {}, "cannot share"),
        ([surface], {"view": "side"}, "unknown view"),
        ([surface], {"color_map": "jet"}, "unknown color map"),
        ([surface], {"metric": "test_acc"}, "no metric"),
    ):
        with pytest.raises(InputError, match=told):
            render(surfaces, tmp_path / "s.png", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("style", ["contour", "filled", "heat"])
def test_pictures_from_above_show_x_to_the_right_and_y_up(style, tmp_path):
    surface = surface_of(lambda x, y: np.exp(2 * x + 4 * y), 21, 11)
    render([surface], tmp_path / "s.png", style=style, size=(600, 600))
    picture = image.imread(tmp_path / "s.png")[..., :3]
    drawn = (picture[..., 0] - picture[..., 2]) * (np.abs(picture - picture.mean(axis=-1, keepdims=True)).max(axis=-1) > 0.1)
    rows, columns = np.nonzero(np.abs(drawn) > 0.2)
    red, blue = drawn[rows, columns] > 0, drawn[rows, columns] < 0
    assert red.sum() > 100 and blue.sum() > 100
    left = columns < 480  # the scale lies to the right of it
    assert rows[red & left].mean() < rows[blue & left].mean()  # larger losses above
    assert not (picture[:2] < 0.97).any()


def test_unknown_styles_and_impossible_formats_are_refused(tmp_path):
    surface = surface_of(lambda x, y: x + y + 3)
    with pytest.raises(InputError, match="unknown style 'sketch'"):
        render([surface], tmp_path / "s.png", style="sketch")
    with pytest.raises(InputError, match="lit surfaces are drawn as"):
        render([surface], tmp_path / "s.pdf", style="lit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("azimuth", "elevation", "direction"),
    [
        (0, 0, (0, -1, 0)),
        (90, 0, (1, 0, 0)),
        (180, 45, (0, 0.5**0.5, 0.5**0.5)),
        (0, 90, (0, 0, 1)),
        (-90, 30, (-(0.75**0.5), 0, 0.5)),
    ],
)
def test_azimuth_and_elevation_are_the_directions_that_they_say(azimuth, elevation, direction):
    from paraloss.converters.composition import compose
    from paraloss.picture_options import PictureOptions

    composition = compose(
        [surface_of(lambda x, y: x**2 + y**2, 7, 7)], picture=PictureOptions(azimuth=azimuth, elevation=elevation)
    )
    camera = composition.camera
    towards = np.subtract(camera.position, camera.aim)
    np.testing.assert_allclose(towards / np.linalg.norm(towards), direction, atol=1e-9)
    assert abs(np.dot(camera.up, direction)) < 1e-9 and np.linalg.norm(camera.up) == pytest.approx(1)


def test_what_is_not_given_of_a_direction_is_kept_of_the_view():
    from paraloss.look import CAMERAS
    from paraloss.picture_options import PictureOptions

    x, y, z = PictureOptions(view="corner", azimuth=0).camera.position
    a, b, c = CAMERAS["corner"].position
    assert x == pytest.approx(0, abs=1e-12) and z / -y == pytest.approx(c / np.hypot(a, b))
    for wrong in ({"azimuth": 400.0}, {"elevation": 91.0}):
        with pytest.raises(InputError, match="must lie between"):
            PictureOptions(**wrong)
