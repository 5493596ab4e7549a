"""Points recorded as one graph: on a fake of CUDA's graphs, against the same points without and a plain loop in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from fake_graph import FakeCudaGraphs
from torch import nn

from paraloss.compute import Evaluator, Split, load_criterion, load_model, random_direction
from paraloss.compute.evaluate.report import Report
from paraloss.compute.evaluate.tuning import find_batch_size

CRITERION = load_criterion("cross_entropy")[1]
POINTS = [(0.0, 0.0), (0.3, -0.2), (-0.5, 0.5), (1.0, 0.25), (0.1, 0.0), (-1.0, -1.0)]


@pytest.fixture
def fake(monkeypatch):
    return FakeCudaGraphs().install(monkeypatch)


def case(name="resnet20", samples=70):
    torch.manual_seed(0)
    model = load_model(name, (1, 8, 8), 10).train()
    model(torch.randn(64, 1, 8, 8))
    split = Split(torch.randn(samples, 1, 8, 8), torch.randint(0, 10, (samples,)))
    generator = torch.Generator().manual_seed(0)
    return model.eval(), split, [random_direction(model, generator) for _ in "xy"]


def plain_loss(model, directions, point, split):
    model = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for step, direction in zip(point, directions, strict=True):
                parameter += step * direction[name].double()
        return F.cross_entropy(model(split.inputs.double()), split.targets).item()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["resnet20", "mlp"])
def test_one_recording_gives_every_later_point_as_without_it(name, precision, fake):
    model, split, directions = case(name)
    recorded = Evaluator(model, CRITERION, {"train": split}, directions, batch_size=32, precision=precision)
    plain = Evaluator(model, CRITERION, {"train": split}, directions, batch_size=32, precision=precision)
    plain.records = False
    plain.use_batch_size(32)
    for point in POINTS:
        found = recorded(point)
        assert found == plain(point)
        assert found[0] == pytest.approx(plain_loss(model, directions, point, split), rel=1e-5 if precision == "fp32" else 0.05)
    assert (fake.recorded, fake.replayed) == (1, 7)  # three to compare, the third point again, three later ones
    assert recorded.points.recorded and not recorded.points.why_not
    assert not plain.points.recorded


def test_the_same_point_again_is_no_further_check(fake):
    model, split, directions = case("mlp")
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions)
    for _ in range(5):
        evaluator(POINTS[1])
    assert fake.recorded == 0


def test_recomputed_statistics_do_not_stand_in_the_way(fake):
    model, split, directions = case()
    given = (model, CRITERION, {"train": split}, directions)
    evaluator = Evaluator(*given, batch_size=32, bn_data=split)
    plain = Evaluator(*given, batch_size=32, bn_data=split)
    plain.records = False
    plain.use_batch_size(32)
    for point in POINTS:
        assert evaluator(point) == plain(point)


def test_metrics_that_need_the_model_find_it_at_the_point(fake):
    model, split, directions = case("mlp")
    given = {"batch_size": 32, "report": Report(measures=("grad_norm",))}
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, **given)
    plain = Evaluator(model, CRITERION, {"train": split}, directions, **given)
    plain.records = False
    plain.use_batch_size(32)
    for point in POINTS[:5]:
        assert evaluator(point) == pytest.approx(plain(point), rel=1e-6)
    assert fake.recorded == 1


def test_another_batch_size_is_recorded_again(fake):
    model, split, directions = case("mlp")
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, batch_size=32)
    expected = [evaluator(point)[0] for point in POINTS]
    assert evaluator.halve_batch()
    assert not evaluator.points.recorded
    assert [evaluator(point)[0] for point in POINTS] == pytest.approx(expected, rel=1e-6)
    assert fake.recorded == 2


class Reads(nn.Module):
    """Control flow that depends on data: the kernels differ from point to point."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        h = self.out(x.flatten(1))
        return h * 2 if float(h.mean()) > 0 else h


class Baked(nn.Module):
    """A Python number that comes from the weights by a way that no dispatcher sees."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        return self.out(x.flatten(1)) * float(self.out.weight.detach().numpy().sum())


@pytest.mark.parametrize("kind", [Reads, Baked])
def test_a_model_that_reads_numbers_back_runs_kernel_by_kernel_and_one_line_says_so(kind, fake, caplog):
    caplog.set_level("INFO", "paraloss")
    torch.manual_seed(0)
    model, (_, split, _) = kind(), case("mlp")
    directions = [random_direction(model, torch.Generator().manual_seed(0)) for _ in "xy"]
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions)
    for point in POINTS:
        assert evaluator(point)[0] == pytest.approx(plain_loss(model, directions, point, split), rel=1e-5)
    assert not evaluator.points.recorded
    assert caplog.text.count("without a CUDA graph") == 1
    assert ("waits" in evaluator.points.why_not) == (kind is Reads)
    assert ("differ" in evaluator.points.why_not) == (kind is Baked)


@pytest.mark.parametrize("fault", ["fails", "stale"])
def test_a_recording_that_fails_or_is_wrong_is_dropped(fault, fake, caplog):
    caplog.set_level("INFO", "paraloss")
    model, split, directions = case("mlp")
    setattr(fake, fault, True)
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions)
    for point in POINTS:
        assert evaluator(point)[0] == pytest.approx(plain_loss(model, directions, point, split), rel=1e-5)
    assert caplog.text.count("without a CUDA graph") == 1


@pytest.mark.parametrize("fault", ["fails", "stale", ""])
def test_what_follows_the_weights_is_right_at_the_point_where_recording_was_tried(fault, fake):
    """Recomputed statistics of another point would give another gradient."""
    model, split, directions = case()
    given = {"batch_size": 32, "bn_data": split, "report": Report(measures=("grad_norm",))}
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, **given)
    plain = Evaluator(model, CRITERION, {"train": split}, directions, **given)
    plain.records = False
    plain.use_batch_size(32)
    if fault:
        setattr(fake, fault, True)
    for point in POINTS[:4]:
        assert evaluator(point) == pytest.approx(plain(point), rel=1e-6)


def test_models_that_draw_numbers_are_not_recorded(fake):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(64, 10)

        def forward(self, x):
            h = self.out(x.flatten(1))
            return h + torch.randn_like(h)

    model, (_, split, _) = Noisy(), case("mlp")
    directions = [random_direction(model, torch.Generator().manual_seed(0)) for _ in "xy"]
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions)
    for point in POINTS:
        evaluator(point)
    assert fake.recorded == 0
    assert "random" in evaluator.points.why_not


def test_batch_sizes_are_compared_as_graphs(fake):
    model, split, directions = case("mlp")
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, batch_size=32)
    find_batch_size(evaluator, 0.05)
    assert fake.recorded == len({16, 32, 64, 70})
