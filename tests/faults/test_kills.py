"""A lean part of ``make attack``: every kind of job is killed and goes on to the undisturbed result, bit for bit."""

import kills
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", kills.JOBS)
def test_a_killed_job_goes_on_to_the_same_bits(name, tmp_path):
    tally = kills.attack(name, tmp_path, kills=2)
    assert tally.kills == 2
    assert tally.finished >= 1
    assert (tally.unequal, tally.failed, tally.left) == ([], [], set())
