"""Every way in which a point can be evaluated on a GPU, in every type, against float64 on the CPU."""

import pytest
import torch
from gpu_judge import BOUND, CRITERION, POINTS, assert_close, need, network, network_loss

import paraloss.compute.forward.batches as batches
from paraloss.compute import Evaluator

WAYS = ("eager", "fused", "graph", "compiled")


class Unfused(Evaluator):
    fuses, records = False, False


class Unrecorded(Evaluator):
    records = False


def evaluator_for(way, precision, device, **options):
    model, split, directions = network()
    kind = {"eager": Unfused, "fused": Unrecorded}.get(way, Evaluator)
    made = kind(model, CRITERION, {"train": split}, directions, device, batch_size=32, precision=precision, **options)
    if way == "compiled":
        assert made.compile(), "the forward pass was not compiled"
    return made


@pytest.mark.parametrize("where", ["resident", "streamed"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", BOUND)
def test_a_moved_point_equals_float64_on_the_cpu(precision, way, where, device, graphs, monkeypatch):
    need(precision, device)
    if where == "streamed":
        if device.type == "cpu":
            pytest.skip("a CPU has its data in memory")
        monkeypatch.setattr(batches, "free_bytes", lambda device: 1)
    if (device.type, way) == ("cpu", "compiled") and precision != "fp32":
        pytest.skip("compiling takes a minute on a CPU: once is enough")
    evaluator = evaluator_for(way, precision, device)
    assert evaluator.batches["train"].streamed is (where == "streamed")
    assert evaluator.folded == 21
    if device.type != "cpu" or precision == "fp32":  # a CPU has the operators in the types that its instructions have
        assert bool(evaluator.fused) is (way != "eager")
    for point in POINTS:  # 32 + 32 + 32 + 4 images
        loss, accuracy = evaluator(point)
        exact, right = network_loss(point)
        assert_close(loss, exact, network_loss(point, torch.float32)[0], precision)
        assert accuracy == pytest.approx(right, abs=1.01 if precision == "fp32" else 6)
    assert evaluator.points.recorded is (way in ("graph", "compiled") and where == "resident"), evaluator.points.why_not


@pytest.mark.parametrize("way", ["fused", "graph"])
@pytest.mark.parametrize("precision", BOUND)
def test_nothing_is_read_back_within_a_point(precision, way, device, graphs):
    need(precision, device)
    evaluator = evaluator_for(way, precision, device)
    for point in POINTS[:4]:
        evaluator(point)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        sums = evaluator.sums(POINTS[4])
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert_close(
        evaluator.metrics_of(sums)[0], *(network_loss(POINTS[4], t)[0] for t in (torch.float64, torch.float32)), precision
    )


@pytest.mark.parametrize("precision", BOUND)
def test_another_batch_size_changes_no_more_than_rounding(precision, device, graphs):
    need(precision, device)
    evaluator = evaluator_for("graph", precision, device)
    for size in (100, 7, 64):
        evaluator.use_batch_size(size)
        for point in POINTS:
            assert_close(evaluator(point)[0], *(network_loss(point, t)[0] for t in (torch.float64, torch.float32)), precision)


def test_a_point_is_the_same_after_others_were_visited(device, graphs):
    evaluator = evaluator_for("graph", "fp32", device)
    first = [evaluator(point)[0] for point in POINTS]
    again = [evaluator(point)[0] for point in reversed(POINTS)]
    assert again[::-1] == pytest.approx(first, rel=1e-6)
    far = evaluator((1e20, 1e20))[0]
    assert far != far or far > 1e30  # not a number, and not left behind in memory that the next point reads
    assert [evaluator(point)[0] for point in POINTS] == pytest.approx(first, rel=1e-6)
