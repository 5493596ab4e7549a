"""Titles tell surfaces apart by what their files record."""

from dataclasses import replace

import pytest
from helpers import surface_of

from paraloss.rendering import default_labels

PLAIN = surface_of(lambda x, y: x**2 + y**2, 3, 3)
SMALL = {"model": "r", "trained": {"batch_size": 128, "lr": 0.1, "test_acc": 90.0}}
LARGE = {"model": "r", "trained": {"batch_size": 8192, "lr": 0.1, "test_acc": 80.5}}
NARROW = {"model": "r", "model_args": {"width": 2, "depth": 9}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([{"model": "a"}], ["a"]),
        ([{"model": "a"}, {"model": "b"}], ["a", "b"]),
        ([NARROW, {**NARROW, "model_args": {"width": 4, "depth": 9}}], ["width 2", "width 4"]),
        ([SMALL, LARGE], ["batch size 128, test accuracy 90.0 %", "batch size 8192, test accuracy 80.5 %"]),
        ([{"model": "r", "checkpoint": "a.pt"}, {"model": "r", "checkpoint": "b\x1b.pt"}], ["a.pt", "b\\x1b.pt"]),
        ([{"model": "r"}, {"model": "r"}], ["first", "second"]),
        ([{"model": "r", "trained": "junk", "model_args": 3}, {"model": "r", "checkpoint": ["odd"]}], ["", "['odd']"]),
    ],
)
def test_only_what_differs_is_in_the_titles(facts, expected):
    surfaces = [replace(PLAIN, provenance=one) for one in facts]
    assert default_labels(surfaces, ["first", "second"][: len(surfaces)]) == expected
