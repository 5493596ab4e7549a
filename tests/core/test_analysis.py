"""Roughness, convexity and basin area against formulas."""

import numpy as np
import pytest
from helpers import surface_of

from paraloss.analysis.numbers import basin_area, convex_share, measures, rise_within, roughness, why_not_comparable


def test_a_bowl_is_convex_and_a_saddle_is_not():
    assert convex_share(surface_of(lambda x, y: x**2 + y**2, 11, 11).metric()) == 1.0
    assert convex_share(surface_of(lambda x, y: x**2 - y**2, 11, 11).metric()) == 0.0


def test_roughness_of_an_exponential_ramp_is_zero_and_of_a_parabola_is_its_second_difference():
    assert roughness(surface_of(lambda x, y: np.exp(x + y) - 0.1, 9, 9).metric()) == pytest.approx(0, abs=1e-12)
    h = 0.25
    parabola = surface_of(lambda x, y: np.exp(x**2 + y**2) - 0.1, 9, 9).metric()
    assert roughness(parabola) == pytest.approx(2 * h**2)


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


def test_surfaces_of_other_steps_or_directions_are_not_compared():
    from dataclasses import replace

    def with_norm(norm, seed=1, half=1.0):
        surface = surface_of(lambda x, y: 1 + x**2 + y**2, 5, 5, half)
        return replace(surface, provenance={"directions": [{"norm": norm, "seed": seed}] * 2, "criterion": "mse"})

    assert why_not_comparable([with_norm("filter"), with_norm("filter", seed=2)]) == ""
    assert "other steps" in why_not_comparable([with_norm("filter"), with_norm("filter", half=0.5)])
    assert "normalized otherwise" in why_not_comparable([with_norm("filter"), with_norm("layer")])
    assert "not normalized to the weights" in why_not_comparable([with_norm("none"), with_norm("none")])
