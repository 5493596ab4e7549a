"""The camera that nobody chose sees what matters; what is hidden all the same shines through; two surfaces in one place."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from browsing import opened_page, shot
from helpers import needs_paraview, surface_of
from matplotlib import image

from paraloss import render
from paraloss.converters.composition import compose
from paraloss.look import CAMERAS, MARK_COLOR, OVERLAY_COLORS
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.rendering import write_page

PLAIN = GridOptions(log=False, height_scale=1.0)


def valley(x, y):
    """A valley behind a wall that the usual camera looks at from outside."""
    return 0.2 * x**2 + np.where(y < -0.2, 4 * (y + 0.2) ** 2, (y + 0.2) ** 2)


def bowl(x, y):
    return 0.25 * (x**2 + y**2)


def is_hidden(f, place, eye):
    """Whether f(x, y), the height itself, lies between a place on it and the eye; by a walk along the line of sight."""
    for share in np.linspace(0.002, 1, 4000):
        x, y, z = (1 - share) * np.array(place) + share * np.array(eye)
        if max(abs(x), abs(y)) > 1:
            return False
        if f(x, y) > z + 0.004:
            return True
    return False


def minimum_of(surface):
    row, column = np.unravel_index(surface.metric().argmin(), surface.shape)
    return surface.x[column], surface.y[row], surface.metric().min()


def test_the_chosen_camera_sees_the_minimum_and_the_usual_one_does_not():
    surface = surface_of(valley, 41, 41)
    usual = compose([surface], PLAIN, PictureOptions(view="paper"))
    chosen = compose([surface], PLAIN)
    assert is_hidden(valley, minimum_of(surface), usual.camera.position)
    assert not is_hidden(valley, minimum_of(surface), chosen.camera.position)
    assert abs(chosen.picture.azimuth) < 80  # x runs to the right


def test_a_path_behind_a_ridge_is_seen():
    def ridge(x, y):
        return 0.3 * (x**2 + y**2) + 0.9 * np.exp(-((x - 0.35) ** 2 + (y + 0.45) ** 2) / 0.06)

    t = np.linspace(0, 1, 9)
    path = {"x": -0.1 - 0.5 * t, "y": 0.1 + 0.4 * t, "loss": t, "step": t, "residual": t}
    surface = surface_of(ridge, 41, 41).with_paths({"": path})
    camera = compose([surface], PLAIN).camera
    seen = [not is_hidden(ridge, (x, y, ridge(x, y)), camera.position) for x, y in zip(path["x"], path["y"], strict=True)]
    assert np.mean(seen) > 0.85


def test_the_usual_camera_stays_where_it_sees_all_and_where_it_was_asked_for():
    shallow, deep = surface_of(bowl, 21, 21), surface_of(valley, 21, 21)
    assert compose([shallow], PLAIN).picture == PictureOptions(view="paper")
    for asked in (PictureOptions(view="corner"), PictureOptions(azimuth=10), PictureOptions(elevation=20)):
        assert compose([deep], PLAIN, asked).picture == asked
        assert compose([deep], PLAIN, asked).picture.camera == asked.camera
    assert PictureOptions().camera == CAMERAS["paper"]


def test_surfaces_with_holes_and_without_a_basin_have_a_camera_too():
    holes = surface_of(valley, 21, 21)
    holes.metrics["train_loss"][3:9, 3:9] = np.nan
    flat = surface_of(lambda x, y: 1 + 0 * x, 5, 7)
    narrow = surface_of(lambda x, y: x**2 + y**2, 2, 2)
    for surface in (holes, flat, narrow):
        assert np.isfinite(compose([surface]).camera.position).all()


def gold(pixels):
    """Number of pixels about the color of a mark, in full or seen through blue or gray."""
    return int(((pixels[..., 0] - pixels[..., 2] > 0.12) & (pixels[..., 1] - pixels[..., 2] > 0.05)).sum())


def drawn(path, surface, **options):
    """A picture in gray, so that whatever is yellow is a mark."""
    render([surface], path, options=PLAIN, color_map="gray", scalar_bar=False, labels=[""], size=(500, 400), **options)
    return image.imread(path)[..., :3]


@pytest.mark.parametrize("backend", ["pyvista", pytest.param("paraview", marks=[pytest.mark.slow, pytest.mark.paraview])])
def test_a_hidden_minimum_shines_through(tmp_path, backend):
    if backend == "paraview":
        needs_paraview()
    hidden = {"azimuth": 0, "elevation": 20, "backend": backend}
    without = drawn(tmp_path / "a.png", surface_of(valley, 41, 41), **hidden)
    through = drawn(tmp_path / "b.png", surface_of(valley, 41, 41), minimum=True, **hidden)
    assert gold(without) == 0 and gold(through) > 15
    seen = drawn(tmp_path / "c.png", surface_of(valley, 41, 41), minimum=True, backend=backend)
    strength = [float((p[..., 0] - p[..., 2]).max()) for p in (through, seen)]
    assert strength[0] < 0.8 * strength[1]  # pale where it is hidden


@pytest.mark.slow
def test_the_page_marks_the_minimum_and_lets_it_and_the_paths_shine_through(tmp_path, browser):
    t = np.linspace(0, 1, 9)
    path = {"x": -0.6 + 0.5 * t, "y": -0.2 + 0 * t, "loss": t, "step": t, "residual": t}
    surface = surface_of(valley, 41, 41).with_paths({"SGD": path, "Adam": {**path, "x": 0.6 - 0.5 * t}})
    options = {"options": PLAIN, "azimuth": 0, "elevation": 20, "color_map": "gray"}
    counts = []
    for number, shown in enumerate((surface.with_paths({}), surface)):
        file = write_page([shown], tmp_path / f"{number}.html", ["s"], minimum=bool(number), **options)
        page = opened_page(browser, f"file://{file}")
        counts.append(gold(shot(page, tmp_path / f"{number}.png")[100:640, 300:860]))
        assert page.complaints == []
    assert counts[0] == 0 and counts[1] > 150  # the mark and the orange path, behind the wall


def test_in_one_place_the_lowest_surface_is_solid_and_lines_have_the_surfaces_colors(tmp_path):
    low, high = surface_of(bowl, 21, 21), surface_of(lambda x, y: 1 + bowl(x, y), 21, 21)
    composition = compose([high, low], PLAIN, PictureOptions(overlay=True, minimum=True))
    above, below = composition.panels
    assert (below.opacity, above.opacity < 1) == (1, True)
    assert [panel.color for panel in composition.panels] == list(OVERLAY_COLORS[:2])
    assert [panel.minimum.color for panel in composition.panels] == list(OVERLAY_COLORS[:2])
    for panel in composition.panels:
        assert all(dark < bright for dark, bright in zip(panel.line, panel.color, strict=True))
    assert len(composition.levels) == 10
    assert compose([low, high], PLAIN, PictureOptions(overlay=True, contours=0)).levels == ()
    assert compose([low], PLAIN, PictureOptions(minimum=True)).panels[0].minimum.color == MARK_COLOR


def test_colors_in_one_place_differ_for_readers_without_red_or_green():
    """Lightness alone and the blue-yellow axis tell neighbors apart."""
    for one, other in pairwise(OVERLAY_COLORS):
        assert abs(one[2] - other[2]) > 0.2 or abs(sum(one) - sum(other)) > 0.5


def test_a_composition_with_marks_travels_as_json():
    from paraloss.converters.composition_json import from_json, to_json

    composition = replace(compose([surface_of(valley, 9, 9)], PLAIN, PictureOptions(minimum=True)), axes=None)
    assert from_json(to_json(composition)) == composition
