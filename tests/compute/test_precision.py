"""Low precision, fused operators and compilation against fp64; what auto decides."""

import copy
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import with_statistics
from torch import nn

import paraloss.compute.forward.batches as batches
from paraloss.compute import Evaluator, Split, compute_surface, load_criterion, load_model, random_direction
from paraloss.compute.directions.between import direction_between
from paraloss.compute.evaluate.report import Report
from paraloss.compute.evaluate.tuning import check_points, choose_precision
from paraloss.compute.forward.precision import check_precision
from paraloss.errors import InputError

CRITERION = load_criterion("cross_entropy")[1]
LARGE = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("densenet121", "resnet18", "resnet50_noshort", "resnet56", "resnet56_noshort", "vgg9", "wrn56_2")
]
SMALL = ["resnet20", "resnet20_noshort", "mlp", "mixed", "loop"]
BOUND = {"fp32": 1e-5, "bf16": 0.05}


class Mixed(nn.Module):
    """Layers of every kind that folding and fusing must leave alone, between some that they may take."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 8, 3, padding="same"), nn.BatchNorm2d(8)
        self.conv2, self.group = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), nn.GroupNorm(2, 8)
        self.norm3, self.conv3 = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, stride=2, groups=2)  # pre-activation order
        self.shared = nn.Conv2d(8, 8, 1)
        self.layer, self.out = nn.LayerNorm(8), nn.Linear(8, 10)

    def forward(self, x):
        x = F.gelu(self.norm1(self.conv1(x)))
        x = F.relu(self.group(self.conv2(x))) + x
        x = self.conv3(F.relu(self.norm3(x)))
        x = F.relu(self.shared(x)) + torch.relu(self.shared(x) + x)
        return self.out(self.layer(x.mean(dim=(2, 3))))


class Loop(nn.Module):
    """Cannot be traced: the number of steps depends on the data."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x):
        h = self.norm(self.conv(x))
        for _ in range(1 + int(h.mean() > 1e9)):
            h = torch.relu(h)
        return self.out(h.mean(dim=(2, 3)))


def plain_loss(model, directions, point, split):
    return plain_losses(model, directions, point, split).mean().item()


def plain_losses(model, directions, point, split, dtype=torch.float64):
    model = copy.deepcopy(model).to(dtype).eval()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for step, direction in zip(point, directions, strict=True):
            for name, tensor in direction.items():
                tensors[name] += step * tensor.to(dtype)
        return F.cross_entropy(model(split.inputs.to(dtype)).double(), split.targets, reduction="none")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [*LARGE, *SMALL])
def test_every_model_agrees_with_float64_to_the_stated_error(name, precision, digits):
    torch.manual_seed(0)
    split = digits["train"].subset(100 if name in SMALL else 40)  # in batches of 32
    model = {"mixed": Mixed, "loop": Loop}[name]() if name in ("mixed", "loop") else load_model(name, (1, 8, 8), 10)
    model = with_statistics(model, split.inputs)
    generator = torch.Generator().manual_seed(0)
    directions = [random_direction(model, generator) for _ in "xy"]
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, batch_size=32, precision=precision)
    for point in ((0.0, 0.0), (0.3, -0.2), (-0.5, 0.5)):
        exact = plain_losses(model, directions, point, split)
        # Untrained deep chains multiply rounding: no fp32 can know a sample's loss better than the plain model does.
        plain = (plain_losses(model, directions, point, split, torch.float32) - exact).abs().mean().item()
        value = exact.mean().item()
        assert evaluator(point)[0] == pytest.approx(value, rel=BOUND[precision], abs=3 * plain)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_directions_agree_with_float64(precision, digits):
    split = digits["train"].subset(100)
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(with_statistics(load_model("resnet20", (1, 8, 8), 10), split.inputs))
    direction = direction_between(models[0], models[1].state_dict(), "states", "other")
    evaluator = Evaluator(models[0], CRITERION, {"train": split}, [direction], precision=precision)
    for x in (0.0, 0.4, 1.0):
        expected = plain_loss(models[0], [direction], (x,), split)
        assert evaluator((x,))[0] == pytest.approx(expected, rel=BOUND[precision])


def test_relus_are_fused_into_convolutions_with_and_without_an_addition(digits):
    model = load_model("resnet20", (1, 8, 8), 10).eval()
    evaluator = Evaluator(model, CRITERION, {"train": digits["test"]}, [])
    assert (evaluator.folded, evaluator.fused) == (21, 19)  # 19 convolutions before a ReLU, 2 in shortcuts


def test_only_chains_that_are_alone_are_fused(digits):
    torch.manual_seed(0)
    evaluator = Evaluator(Mixed().eval(), CRITERION, {"train": digits["test"]}, [])
    # relu(shared(x)) and relu(shared(x) + x); conv2 is circular and normalized by groups, conv1 goes through gelu.
    assert evaluator.fused == 2
    assert evaluator.folded == 1


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_losses(digits):
    torch.manual_seed(0)
    split = digits["test"].subset(100)
    model = with_statistics(load_model("mlp", (1, 8, 8), 10), split.inputs)
    evaluator = Evaluator(model, CRITERION, {"train": split}, [random_direction(model, torch.Generator())], batch_size=32)
    plain = [evaluator((x,)) for x in (0.0, 0.5)]
    assert evaluator.compile(), "torch.compile needs a C++ compiler"
    np.testing.assert_allclose([evaluator((x,)) for x in (0.0, 0.5)], plain, rtol=1e-5)


def test_auto_takes_the_faster_precision_only_within_the_bound(digits, caplog):
    split = digits["test"].subset(64)
    model = with_statistics(load_model("mlp", (1, 8, 8), 10), split.inputs)
    exact = Evaluator(model, CRITERION, {"train": split}, [])
    off_by = {"fp32": 0.0, "bf16": 0.004}

    class Rounded:
        metrics = exact.metrics

        def __init__(self, precision):
            self.precision = precision

        def sums(self, point):
            time.sleep(0.02 if self.precision == "fp32" else 0.002)
            return exact.sums([])

        def metrics_of(self, sums):
            return [value * (1 + off_by[self.precision]) for value in exact.metrics_of(sums)]

    import paraloss.compute.evaluate.tuning as tuning

    caplog.set_level("INFO", "paraloss")
    points = [np.zeros(0)] * 3
    original = tuning.faster_precisions
    tuning.faster_precisions = lambda device: ["bf16"]
    try:
        used, differences = choose_precision(Rounded, torch.device("cpu"), points, 1000, 0.01)
        assert used == "bf16"
        assert differences["bf16"] == pytest.approx(0.004)
        assert "0.4 %" in caplog.messages[-1]
        used, _ = choose_precision(Rounded, torch.device("cpu"), points, 1000, 0.001)
        assert used == "fp32"
        assert "not used" in caplog.messages[-1]
        assert choose_precision(Rounded, torch.device("cpu"), points, 10, 0.01) == ("fp32", {})
    finally:
        tuning.faster_precisions = original


def test_the_points_that_auto_compares_at_span_the_grid():
    grid = np.stack([c.ravel() for c in np.meshgrid(np.linspace(-1, 1, 51), np.linspace(-1, 1, 51))], axis=1)
    points = np.array(check_points(grid))
    assert len(points) == 9
    assert (points == [0, 0]).all(axis=1).any() and (points == [-1, -1]).all(axis=1).any()
    assert np.ptp(points, axis=0) == pytest.approx([2, 2], abs=0.6)


def test_the_precision_used_and_its_error_are_in_the_file(small_net, digits):
    split = Split(digits["test"].inputs, digits["test"].targets)
    surface = compute_surface(small_net, data={"train": split}, x=(-1, 1, 11), y=(-1, 1, 11), progress=False)
    used, differences = surface.provenance["precision"], surface.provenance["tuning"]["difference_from_fp32"]
    assert used == "fp32" or differences[used] <= 1e-3


def test_precisions_that_a_device_lacks_are_refused():
    with pytest.raises(InputError, match="NVIDIA"):
        check_precision("tf32", torch.device("cpu"))
    with pytest.raises(InputError, match="unknown precision 'fp8'"):
        check_precision("fp8", torch.device("cpu"))


def test_uint8_images_give_the_losses_of_the_normalized_ones(digits):
    torch.manual_seed(0)
    model = with_statistics(load_model("resnet20", (1, 8, 8), 10), digits["test"].inputs)
    raw = torch.randint(0, 256, (70, 1, 8, 8), dtype=torch.uint8)
    mean, deviation, targets = torch.full((1, 1, 1, 1), 120.0), torch.full((1, 1, 1, 1), 60.0), torch.randint(0, 10, (70,))
    kept = Evaluator(model, CRITERION, {"train": Split(raw, targets, (mean, deviation))}, [], batch_size=32)
    ready = Evaluator(model, CRITERION, {"train": Split((raw.float() - mean) / deviation, targets)}, [], batch_size=32)
    assert kept([]) == ready([])


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """A CPU that keeps its inputs ready, as a GPU with memory does."""
    monkeypatch.setattr(batches, "_keeps_ready", lambda inputs, dtype, device: True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_inputs_normalized_and_rounded_once_give_the_same_losses_to_the_bit(precision, digits, as_on_a_gpu, monkeypatch):
    torch.manual_seed(0)
    model = with_statistics(load_model("resnet20", (1, 8, 8), 10), digits["test"].inputs)
    raw, targets = torch.randint(0, 256, (70, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 10, (70,))
    split = Split(raw, targets, (torch.full((1, 1, 1, 1), 120.0), torch.full((1, 1, 1, 1), 60.0)))
    given = {"batch_size": 32, "precision": precision}
    once = Evaluator(model, CRITERION, {"train": split}, [], **given)
    inputs, _ = once.batches["train"].rows(0, 3)
    assert once.batches["train"].ready
    assert inputs.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    monkeypatch.setattr(batches, "_keeps_ready", lambda inputs, dtype, device: False)
    each = Evaluator(model, CRITERION, {"train": split}, [], **given)
    assert not each.batches["train"].ready
    assert once([]) == each([])


def test_inputs_that_something_else_reads_are_not_rounded(digits, as_on_a_gpu):
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Linear(64, 10)

        def forward(self, x):
            return self.out((torch.relu(self.norm(self.conv(x))) + x).flatten(1))

    model = with_statistics(Skips(), digits["test"].inputs)
    evaluator = Evaluator(model, CRITERION, {"train": digits["test"].subset(50)}, [], precision="bf16")
    assert evaluator.folded == 1
    assert evaluator.batches["train"].rows(0, 3)[0].dtype == torch.float32


def test_measures_get_their_inputs_as_they_are(digits, as_on_a_gpu):
    model = with_statistics(load_model("resnet20", (1, 8, 8), 10), digits["test"].inputs)
    split, report = digits["test"].subset(50), Report(measures=("grad_norm",))
    low, exact = (Evaluator(model, CRITERION, {"train": split}, [], precision=p, report=report) for p in ("bf16", "fp32"))
    assert low([])[-1] == pytest.approx(exact([])[-1], rel=1e-4)
