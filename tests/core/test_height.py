"""From losses to heights: the usual logarithm, and no finite loss left out where losses are negative."""

import numpy as np
import pytest

from paraloss.height import MetricScale, default_metric, from_log, is_loss, log_field, metric_scale, to_log


def test_positive_losses_have_the_logarithm_of_li_et_al():
    values = np.array([0.0, 0.4, 99.9, np.nan, np.inf])
    scale = metric_scale(values)
    assert scale == MetricScale(True, 0.1, None)
    np.testing.assert_allclose(scale.heights(values), [np.log(0.1), np.log(0.5), np.log(100), np.nan, np.inf])
    assert scale.note == ""


def test_losses_between_minus_the_offset_and_zero_need_no_shift():
    assert metric_scale(np.array([-0.09, 3.0])).offset == 0.1


@pytest.mark.parametrize("smallest", [-0.1, -3.0, -1e6, -1e17, -1e305, -1.7e308])
def test_every_finite_loss_has_a_finite_height_that_grows_with_it_and_leads_back(smallest):
    values = np.array([smallest, smallest / 2, 0.0, 1.0, max(2.0, abs(smallest))])
    scale = metric_scale(values)
    heights = scale.heights(values)
    assert np.isfinite(heights).all()
    assert (np.diff(heights) >= 0).all()
    assert heights[0] < heights[1] < heights[-1]
    assert f"{smallest:.4g}" in scale.note
    if abs(smallest) < 1e300:
        np.testing.assert_allclose(scale.values(heights), values, atol=1e-8 * abs(smallest))


def test_the_smallest_of_negative_losses_has_the_height_of_a_loss_of_zero():
    first, second = np.array([-3.0, 2.0]), np.array([-1.0, np.nan])
    scale = metric_scale([first, second])
    assert scale.heights(first)[0] == pytest.approx(np.log(0.1))
    assert scale.heights(second)[0] == pytest.approx(np.log(2.1))


def test_without_a_logarithm_and_without_a_value_nothing_is_shifted():
    assert metric_scale(np.array([-3.0]), log=False).heights(np.array([-3.0]))[0] == -3.0
    assert metric_scale(np.array([np.nan, -np.inf])) == MetricScale(True, 0.1, None)
    assert metric_scale(np.array([0.0, 1.0]), offset=0.0).heights(np.array([0.0]))[0] == pytest.approx(np.log(0.1))


def test_to_log_is_not_a_number_where_there_is_none_and_from_log_is_its_inverse():
    np.testing.assert_array_equal(to_log(np.array([-0.1, -1.0])), [np.nan, np.nan])
    values = np.linspace(0, 50, 7)
    np.testing.assert_allclose(from_log(to_log(values, 0.3), 0.3), values, atol=1e-12)


def test_the_analyzed_field_blanks_infinity_and_keeps_negative_losses():
    np.testing.assert_allclose(log_field(np.array([-3.0, np.inf, 0.0])), [np.log(0.1), np.nan, np.log(3.1)])


def test_what_counts_as_a_loss():
    names = ["train_loss", "test_loss_min", "train_loss_ratio", "train_loss_std", "test_loss_stderr", "train_loss_difference"]
    assert [is_loss(name) for name in (*names, "train_acc")] == [True, True, True, False, False, False, False]
    assert default_metric(["train_acc", "test_loss", "train_loss"]) == "train_loss"
    assert default_metric(["train_acc", "test_loss"]) == "test_loss"
    assert default_metric(["acc"]) == "acc"
    assert default_metric([]) is None
