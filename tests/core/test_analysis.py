"""Roughness, convexity and basin area against formulas."""

import numpy as np
import pytest
from conftest import surface_of

from paraloss.analysis import basin_area, convex_share, roughness


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
