"""Points only where the surface bends: the error of what is interpolated, and how much is saved."""

import numpy as np
import pytest

from paraloss.compute import compute_surface
from paraloss.compute.schedule.refinement import coarsest_level, interpolated, level_points, points_to_refine
from paraloss.surface import INTERPOLATED


def refined(loss, tolerance):
    """The whole loop on a formula: what was evaluated, and the filled grid."""
    known = np.zeros(loss.shape, bool)
    coarsest = coarsest_level(loss.shape)
    known.ravel()[level_points(loss.shape, coarsest)] = True
    for level in range(coarsest, 0, -1):
        known.ravel()[points_to_refine(np.where(known, loss, np.nan), known, level, tolerance)] = True
    heights = np.log(loss + 0.1)
    return known, interpolated(np.where(known, heights, 0), known, coarsest), heights


@pytest.mark.parametrize("shape", [(51, 51), (40, 97), (201,)])
def test_a_crease_is_followed_and_the_flat_is_left(shape):
    grids = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    loss = np.exp(4 * np.abs(grids[0] - 0.3)) + 0.001 * sum(grids)
    known, filled, heights = refined(loss, 0.01)
    assert known.mean() < 0.5
    np.testing.assert_array_equal(filled[known], heights[known])
    assert np.abs(filled - heights).max() < 0.03 * np.ptp(heights)


def test_noise_is_evaluated_everywhere():
    loss = 1 + np.random.default_rng(0).random((33, 33))
    known, _, _ = refined(loss, 0.01)
    assert known.mean() > 0.95


def test_a_line_in_height_is_interpolated_exactly():
    loss = np.exp(np.add.outer(np.linspace(0, 1, 33), np.linspace(0, 2, 21))) - 0.1
    known, filled, heights = refined(loss, 0.01)
    np.testing.assert_allclose(filled, heights, atol=1e-12)
    assert known.sum() == len(level_points(loss.shape, coarsest_level(loss.shape)))


def test_a_refined_surface_is_marked_and_a_run_without_refine_completes_it(small_net, digits, tmp_path):
    options = {"data": {"train": digits["test"].subset(40)}, "x": (-1, 1, 33), "y": (-1, 1, 29), "precision": "fp32"}
    exact = compute_surface(small_net, **options, progress=False)
    drawn = compute_surface(small_net, **options, refine=0.02, path=tmp_path / "s.h5", progress=False)
    filled = drawn.status == INTERPOLATED
    assert drawn.is_complete
    assert 0.1 < filled.mean() < 0.95
    np.testing.assert_array_equal(drawn.metric()[~filled], exact.metric()[~filled])
    heights = np.log(exact.metric() + 0.1)
    error = np.abs(np.log(drawn.metric() + 0.1) - heights)[filled].max()
    assert error < 0.06 * np.ptp(heights)
    complete = compute_surface(small_net, **options, path=tmp_path / "s.h5", progress=False)
    assert (complete.status == 1).all()
    np.testing.assert_array_equal(complete.metric(), exact.metric())
