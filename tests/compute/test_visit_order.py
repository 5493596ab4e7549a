import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paraloss.compute.schedule.visit_order import coarse_to_fine


@given(st.lists(st.integers(1, 17), min_size=1, max_size=2))
def test_every_point_is_visited_once(shape):
    assert sorted(coarse_to_fine(shape)) == list(range(int(np.prod(shape))))


def test_the_center_comes_first_and_five_percent_span_the_whole_surface():
    order = coarse_to_fine((51, 51))
    assert order[0] == 25 * 51 + 25
    rows, columns = np.unravel_index(order[: int(0.05 * 51 * 51)], (51, 51))
    for positions in (rows, columns):
        assert np.ptp(positions) >= 48
        assert np.diff(np.unique(positions)).max() <= 8
