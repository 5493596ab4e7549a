"""Points that need more memory or a larger range than there is, and sizes of batches; on the CPU."""

from __future__ import annotations

import pytest
import torch

from paraloss.compute import Evaluator, load_criterion, load_model
from paraloss.compute.evaluate.estimator import with_smaller_batches
from paraloss.compute.evaluate.sample_losses import few_sizes
from paraloss.compute.forward.precision import faster_precisions
from paraloss.errors import InputError

CRITERION = load_criterion("cross_entropy")[1]


def evaluator(digits, **options):
    torch.manual_seed(0)
    model = load_model("mlp", (1, 8, 8), 10).eval()
    return Evaluator(model, CRITERION, {"train": digits["test"].subset(50)}, [], batch_size=16, **options)


def test_each_attempt_has_half_the_batch_and_no_exception_at_hand(digits):
    import sys

    made, seen = evaluator(digits), []

    def work():
        seen.append((made.batch_size, sys.exc_info()[0]))
        if made.batch_size > 4:
            raise torch.OutOfMemoryError
        return made.sums([])

    expected = evaluator(digits)([])
    assert made.metrics_of(with_smaller_batches(made, work)) == pytest.approx(expected, rel=1e-12)
    assert seen == [(16, None), (8, None), (4, None)]


def test_one_sample_that_does_not_fit_is_refused_in_one_line(digits):
    def work():
        raise torch.OutOfMemoryError

    with pytest.raises(InputError, match="at x=1: out of memory with 1 samples at once"):
        with_smaller_batches(evaluator(digits), work, "x=1")


def test_a_point_that_overflows_is_evaluated_by_the_wider_evaluator(digits):
    narrow, wide = evaluator(digits), evaluator(digits)
    expected = wide([])
    narrow.wider = lambda: wide
    assert narrow([]) == expected
    narrow.sums = lambda coordinates: torch.full_like(wide.sums([]), float("nan"))
    assert narrow([]) == expected


def test_samples_are_cut_into_batches_of_few_sizes():
    sizes = set()
    for samples in range(32, 5000, 32):
        found = list(few_sizes(samples, 2048))
        assert sum(found) == samples
        sizes |= set(found)
    assert len(sizes) <= 7


def test_on_a_gpu_the_type_of_smaller_rounding_comes_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert faster_precisions(torch.device("cuda", 0)) == ["fp16", "bf16", "tf32"]
