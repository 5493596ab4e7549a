"""Pictures between the computed points: monotone, through every point, without kinks."""

import numpy as np
import pytest
from helpers import surface_of

from paraloss import Surface
from paraloss.converters.finer import finer, monotone
from paraloss.surface import DONE, INTERPOLATED, PENDING


def rough(nx=9, ny=7, seed=3):
    values = np.exp(np.random.default_rng(seed).normal(size=(ny, nx)) * 3)
    x, y = np.sort(np.random.default_rng(1).uniform(-1, 1, nx)), np.linspace(-1, 1, ny)
    return Surface(x, y, {"train_loss": values, "train_acc": np.random.default_rng(2).uniform(0, 100, (ny, nx))})


def test_every_computed_point_keeps_its_value_and_none_between_leaves_its_cell():
    surface = rough()
    fine = finer(surface, wanted=33)
    for name, values in surface.metrics.items():
        down, right = (fine.shape[0] - 1) // 6, (fine.shape[1] - 1) // 8
        np.testing.assert_array_equal(fine.metrics[name][::down, ::right], values)
        for j in range(6):
            for i in range(8):
                corners = values[j : j + 2, i : i + 2]
                cell = fine.metrics[name][j * down : (j + 1) * down + 1, i * right : (i + 1) * right + 1]
                assert cell.min() >= corners.min() * (1 - 1e-12) and cell.max() <= corners.max() * (1 + 1e-12)
        assert fine.metrics[name].min() == values.min()
    np.testing.assert_array_equal(fine.x[::right], surface.x)
    assert (fine.status == DONE).sum() == 63
    assert (fine.status == INTERPOLATED).sum() == fine.status.size - 63


def test_scipys_monotone_cubic_lies_close_and_smooth_functions_are_met_better_than_by_lines():
    from scipy.interpolate import PchipInterpolator

    places = np.array([0.0, 0.3, 0.5, 1.1, 1.4, 2.0, 2.1])
    values = np.random.default_rng(0).normal(size=7)
    fine = np.interp(np.arange(61) / 10, np.arange(7), places)
    ours, theirs = monotone(values, places, 10), PchipInterpolator(places, values)(fine)
    assert np.abs(ours - theirs).max() < 0.12 * np.ptp(values)
    bowl = surface_of(lambda x, y: np.exp(1 + x**2 + 0.5 * y**2 + 0.3 * x * y), 13, 13)
    found = finer(bowl, wanted=49)
    x, y = np.meshgrid(found.x, found.y)
    height = np.log(found.metric() + 0.1)
    right = np.log(np.exp(1 + x**2 + 0.5 * y**2 + 0.3 * x * y) + 0.1)
    lines = np.log(bowl.metric() + 0.1)
    lines = np.array([np.interp(found.x, bowl.x, row) for row in lines])
    lines = np.array([np.interp(found.y, bowl.y, column) for column in lines.T]).T
    assert np.abs(height - right).mean() < 0.25 * np.abs(lines - right).mean()


@pytest.mark.parametrize(("log", "offset"), [(None, 0.1), (True, 3.0), (True, 1e-3), (False, 0.1)])
def test_what_is_a_straight_line_as_drawn_stays_one(log, offset):
    axis = np.linspace(-1, 1, 5)
    drawn = np.broadcast_to(2 + axis, (5, 5)) + axis[:, None] / 2
    values = drawn if log is False else np.exp(drawn) - offset
    others = {"test_loss": np.exp(drawn) - offset, "train_acc": drawn}
    fine = finer(Surface(axis, axis, {"train_loss": values, **others}), wanted=33, log=log, offset=offset)
    found = fine.metric() if log is False else np.log(fine.metric() + offset)
    for heights in (found, np.log(fine.metrics["test_loss"] + offset), fine.metrics["train_acc"]):
        np.testing.assert_allclose(heights, 2 + fine.x + fine.y[:, None] / 2, rtol=1e-12)


def test_slopes_do_not_jump_where_cells_meet():
    values = rough(9, 7).metric()
    axis = np.linspace(-1, 1, 7)
    for factor in (64, 128):
        fine = np.log(monotone(np.log(values), axis, factor) - np.log(values).min() + 1)
        steps = np.diff(fine, axis=0) * factor
        jumps = np.abs(np.diff(steps, axis=0))
        assert jumps[factor - 1 :: factor].max() < 30 / factor * np.abs(steps).max()


def test_cells_around_what_is_not_known_are_blank_and_others_are_not():
    surface = surface_of(lambda x, y: 1 + x**2 + y**2, 7, 6)
    values, status = surface.metric().copy(), surface.status.copy()
    values[2, 3], status[2, 3] = np.nan, PENDING
    values[5, 6], status[5, 6] = np.inf, 2
    fine = finer(Surface(surface.x, surface.y, {"train_loss": values}, status), wanted=25)
    known = np.ones(fine.shape, bool)
    known[5 * 1 + 1 : 5 * 3, 4 * 2 + 1 : 4 * 4] = False
    known[5 * 4 + 1 :, 4 * 5 + 1 :] = False
    np.testing.assert_array_equal(np.isfinite(fine.metric()), known)
    assert (fine.status[~known & (fine.y[:, None] < 0.6)] == PENDING).all()
    high = finer(Surface(surface.x, surface.y, {"train_loss": values}, status), infinite_is_high=True, wanted=25)
    assert np.isposinf(high.metric()[-1, -1]) and np.isfinite(high.metric()[-2, -2])


@pytest.mark.parametrize(("nx", "ny"), [(2, 2), (2, 9), (3, 400), (500, 300)])
def test_any_grid_is_made_fine_enough_and_a_fine_one_stays(nx, ny):
    surface = surface_of(lambda x, y: 1 + x**2 + y**2, nx, ny)
    fine = finer(surface)
    assert min(fine.shape) >= min(200, 200)
    assert (fine is surface) == (min(nx, ny) >= 200)
    assert np.isfinite(fine.metric()).all()
