"""Roughness, convexity and basin area against formulas."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import call, surface_of

from paraloss.analysis import envelope
from paraloss.analysis.envelope import quasiconvex_envelope
from paraloss.analysis.numbers import (
    basin_area,
    convex_share,
    measures,
    rise_within,
    roughness,
    second_difference,
    why_not_comparable,
)


def test_a_bowl_is_convex_and_a_saddle_is_not():
    assert convex_share(surface_of(lambda x, y: x**2 + y**2, 11, 11).metric()) == 1.0
    assert convex_share(surface_of(lambda x, y: x**2 - y**2, 11, 11).metric()) == 0.0


def test_second_difference_of_an_exponential_ramp_is_zero_and_of_a_parabola_is_its_own():
    assert second_difference(surface_of(lambda x, y: np.exp(x + y) - 0.1, 9, 9).metric()) == pytest.approx(0, abs=1e-12)
    h = 0.25
    parabola = surface_of(lambda x, y: np.exp(x**2 + y**2) - 0.1, 9, 9).metric()
    assert second_difference(parabola) == pytest.approx(2 * h**2)


def test_a_bowl_has_no_roughness_however_deep_narrow_turned_or_bent():
    for depth in (1e-4, 1.0, 1e6):
        bowl = surface_of(lambda x, y, depth=depth: depth * ((x - 0.2) ** 2 + 30 * (x / 3 + y) ** 2) ** 0.3, 21, 17)
        assert roughness(bowl) == pytest.approx(0, abs=1e-12)


def test_roughness_is_the_mean_height_above_the_bowl():
    """A disc of 41 points, 0.3 high, on one side of a bowl along x: below it the bowl goes on."""

    def disc(x, y):
        return np.exp(np.abs(x) + 0.3 * (np.hypot(x - 0.6, y) < 0.15 + 1e-9)) - 0.1

    surface = surface_of(disc, 41, 41)
    share = (np.add.outer(surface.y**2, (surface.x - 0.6) ** 2) < (0.15 + 1e-9) ** 2).mean()
    assert roughness(surface) == pytest.approx(0.3 * share, rel=0.5)
    assert roughness(surface_of(disc, 81, 81)) == pytest.approx(roughness(surface), rel=0.1)


@pytest.mark.parametrize("hole", [False, True])
def test_the_envelope_is_the_lowest_level_whose_hull_holds_the_point(hole):
    """Judge: the point is a convex combination of points below the level, found by a linear program."""
    from scipy.optimize import linprog

    random = np.random.default_rng(4)
    x, y = np.sort(random.uniform(-1, 1, 6)), np.sort(random.uniform(-1, 1, 5))
    heights = random.normal(size=(5, 6))
    if hole:
        heights[1, 2], heights[0, 0] = np.nan, np.inf
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    found = quasiconvex_envelope(heights, x, y).ravel()
    for place, height, lowest in zip(places, heights.ravel(), found, strict=True):
        expected = height if np.isfinite(height) else np.inf
        for level in np.unique(heights[np.isfinite(heights)]):
            low = places[heights.ravel() <= level]
            conditions, sums = np.vstack([low.T, np.ones(len(low))]), np.append(place, 1.0)
            if linprog(np.zeros(len(low)), A_eq=conditions, b_eq=sums, method="highs").status == 0:
                expected = min(expected, level)
                break
        assert lowest == expected


def test_the_envelope_of_more_heights_than_levels_is_within_the_distance_of_two_levels(monkeypatch):
    x = np.linspace(-1, 1, 41)
    heights = np.add.outer(2 * x**2, x**2) + 0.2 * np.random.default_rng(0).random((41, 41))
    exact = quasiconvex_envelope(heights, x, x)
    monkeypatch.setattr(envelope, "_MOST_LEVELS", 100)
    coarse = quasiconvex_envelope(heights, x, x)
    distance = np.diff(np.quantile(heights, np.linspace(0, 1, 100))).max()
    assert (coarse <= heights).all()
    assert (coarse >= exact).all()
    assert (coarse - exact).max() <= distance


def test_basin_area_of_a_cone_is_that_of_its_disc_and_leaves_out_other_basins():
    radius = 0.5

    def two_basins(x, y):
        return np.minimum(np.hypot(x, y) / radius, np.hypot(x - 0.9, y - 0.9) / radius)

    cone = surface_of(lambda x, y: np.hypot(x, y) / radius, 201, 201)
    assert basin_area(cone) == pytest.approx(np.pi * radius**2 / 4, rel=0.02)
    narrow = surface_of(lambda x, y: two_basins(x, y), 201, 201)
    assert basin_area(narrow, rise=0.5) == pytest.approx(np.pi * (radius / 2) ** 2 / 4, rel=0.03)


def test_rises_of_a_cone_are_its_height_at_the_radius_and_two_thirds_of_it():
    cone = surface_of(lambda x, y: 1 + 4 * np.hypot(x, y), 401, 401)
    worst, mean = rise_within(cone, 0.5)
    assert worst == pytest.approx(2.0, rel=1e-3)
    assert mean == pytest.approx(4 * 0.5 * 2 / 3, rel=0.01)  # the mean distance from the center of a disc is 2r/3


def test_measures_tell_where_the_minimum_is():
    found = measures(surface_of(lambda x, y: 2 + (x - 0.5) ** 2 + (y + 0.25) ** 2, 9, 9))
    assert (found["minimum_x"], found["minimum_y"], found["minimum"]) == (0.5, -0.25, 2.0)
    assert found["center"] == pytest.approx(2.3125)
    assert found["convex_share"] == 1.0


def test_nothing_is_measured_from_a_center_that_is_not_on_the_grid(tmp_path):
    even, far = surface_of(lambda x, y: 1 + x**2 + y**2, 4, 5), surface_of(lambda x, y: 1 + x**2 + y**2, 5, 5)
    far = replace(far, x=far.x + 3)
    for surface in (even, far):
        found = measures(surface)
        assert all(np.isnan(found[name]) for name in ("center", "worst_rise", "mean_rise", "basin_area"))
        assert found["minimum"] == surface.metric().min() and np.isfinite(found["roughness"])
    even.save(tmp_path / "even.h5")
    done = call("analyze", tmp_path / "even.h5")
    assert done.returncode == 0 and "the checkpoint itself, is none of its points" in done.stdout
    table = json.loads(call("analyze", tmp_path / "even.h5", "--json").stdout)
    assert table["surfaces"][str(tmp_path / "even.h5")]["center"] is None and len(table["no_center"]) == 1


def test_a_center_that_is_not_finite_has_no_basin():
    for lost in (np.nan, np.inf):
        surface = surface_of(lambda x, y, lost=lost: np.where((x == 0) & (y == 0), lost, 1.0), 5, 5)
        found = measures(surface)
        assert np.isnan([found[name] for name in ("worst_rise", "mean_rise", "basin_area")]).all()


def test_points_at_the_radius_count_on_axes_of_single_precision():
    surface = surface_of(lambda x, y: x**2 + y**2, 7, 7, 0.3)
    rounded = replace(surface, x=surface.x.astype(np.float32), y=surface.y.astype(np.float32))
    for one in (surface, rounded):
        assert rise_within(one, 0.1) == pytest.approx((0.01, 0.008), rel=1e-5)


def test_surfaces_of_other_steps_or_directions_are_not_compared():
    def with_norm(norm, seed=1, half=1.0):
        surface = surface_of(lambda x, y: 1 + x**2 + y**2, 5, 5, half)
        return replace(surface, provenance={"directions": [{"norm": norm, "seed": seed}] * 2, "criterion": "mse"})

    assert why_not_comparable([with_norm("filter"), with_norm("filter", seed=2)]) == ""
    assert "other steps" in why_not_comparable([with_norm("filter"), with_norm("filter", half=0.5)])
    assert "normalized otherwise" in why_not_comparable([with_norm("filter"), with_norm("layer")])
    assert "not normalized to the weights" in why_not_comparable([with_norm("none"), with_norm("none")])
