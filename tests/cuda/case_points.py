"""A point on a GPU: the CPU's numbers, no wait for the device, few kernels, the right layout, type and place in memory."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from cases import CLOSE, CRITERION, POINT, images, net, on_both, two_directions
from fake_cuda import DEVICE, Cuda, FakeCuda
from torch import nn

from paraloss.compute import Evaluator, load_criterion


def numbers(evaluator, fake):
    """The metrics at the point, which is evaluated without a wait."""
    fake.record.clear()
    sums = evaluator.sums(POINT)
    assert not fake.record.waits, dict(fake.record.waits)
    return evaluator.metrics_of(sums)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_point_has_the_cpus_loss_and_waits_for_nothing(gpu, precision, as_bytes):
    expected, evaluator = on_both(net(), images(as_bytes=as_bytes), precision=precision, batch_size=16)
    assert evaluator.folded == 2
    found = numbers(evaluator, gpu)
    assert found[0] == pytest.approx(expected[0], rel=CLOSE[precision])
    assert {(kind, tf32) for kind, _, tf32 in gpu.record.products if kind == "convolution"} == {
        ("convolution", precision == "tf32")
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_images_and_weights_are_in_channels_last_and_aligned(gpu, precision):
    expected, evaluator = on_both(net(), images(), precision=precision)
    assert numbers(evaluator, gpu)[0] == pytest.approx(expected[0], rel=CLOSE[precision])
    assert gpu.record.layouts
    assert not {layouts for layouts in gpu.record.layouts if {"NCHW", "strided"} & set(layouts)}
    assert gpu.record.misaligned == 0


def test_odd_linear_layers_are_aligned(gpu):
    model = net(nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 65), nn.ReLU(), nn.Linear(65, 10)))
    expected, evaluator = on_both(model, images(20, (1, 8, 8), as_bytes=False))
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-6)
    assert gpu.record.misaligned == 0
    places = [p.storage_offset() * p.element_size() for p in evaluator.model.parameters()]
    assert [place % 256 for place in places] == [0] * len(places)


def test_moving_and_folding_takes_few_kernels_however_deep_the_model(gpu):
    _, evaluator = on_both(net("resnet20"), images(8), precision="bf16")
    assert evaluator.folded == 21
    gpu.record.clear()
    evaluator.move_to(POINT)
    assert sum(gpu.record.kernels.values()) <= 12, dict(gpu.record.kernels)


def test_streamed_data_do_not_wait_either():
    with FakeCuda(free=10_000) as fake:
        expected, evaluator = on_both(net(), images(), batch_size=16)
        assert evaluator.batches["train"].streamed
        assert numbers(evaluator, fake) == pytest.approx(expected, rel=1e-5)


def test_recomputed_statistics_are_in_fp32_and_do_not_wait(gpu):
    for as_bytes in (True, False):
        split = images(as_bytes=as_bytes)
        expected, evaluator = on_both(net(), split, precision="fp32", bn_data=split, batch_size=16)
        assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-4)
        assert not [key for key in gpu.record.products if key[2]]


class Scaled(nn.Module):
    """A user's criterion with a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.linspace(0.5, 1.5, 10))

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none") * self.weight[targets]


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.linspace(0.5, 2, 10)),
        nn.CrossEntropyLoss(weight=torch.linspace(0.5, 2, 10), reduction="none"),
        Scaled(),
        functools.partial(nn.functional.cross_entropy, weight=torch.linspace(0.5, 2, 10), reduction="none"),
    ],
    ids=["weights", "weights-none", "own-buffer", "partial"],
)
def test_a_criterions_own_tensors_move_along(gpu, loss):
    expected, evaluator = on_both(net("mlp"), images(), criterion=load_criterion(loss)[1], batch_size=16)
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-5)


class Views(nn.Module):
    """Looks at the memory of its weights, which must stay as it was."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3)) + self.conv.weight.view(10, -1).sum(1)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
        self.out.weight = self.embed.weight
        self.norm = nn.LayerNorm(8)
        self.register_buffer("table", torch.arange(4.0), persistent=False)

    def forward(self, x):
        return self.out(self.norm(self.embed(x)).mean(1) + self.table.sum())


def strided_net():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    model[1].weight = nn.Parameter(torch.randn(192, 10).t() / 10)
    return model


@pytest.mark.parametrize(
    "model",
    [
        Views(),
        strided_net(),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.LayerNorm(288), nn.Linear(288, 10)),
        nn.Sequential(
            nn.Unflatten(2, (2, 4)), nn.Conv3d(3, 8, 2), nn.BatchNorm3d(8), nn.ReLU(), nn.Flatten(), nn.Linear(168, 10)
        ),
    ],
    ids=["views", "strided", "group-and-layer-norm", "volumes"],
)
def test_models_of_other_kinds(gpu, model):
    expected, evaluator = on_both(net(model), images(), batch_size=16)
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-4)


def test_a_model_of_tokens_with_tied_weights(gpu):
    generator = torch.Generator().manual_seed(0)
    split = images(20)
    split = type(split)(torch.randint(0, 10, (20, 5), generator=generator), split.targets)
    expected, evaluator = on_both(net(Tied()), split, batch_size=8)
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-5)


def test_directions_and_models_that_are_on_the_gpu_already(gpu):
    model, split = net(), images()
    directions = two_directions(model)
    expected, _ = on_both(model, split, directions=directions)
    there = [{name: part.to(DEVICE) for name, part in direction.items()} for direction in directions]
    evaluator = Evaluator(model.to(DEVICE), CRITERION, {"train": split}, there, DEVICE)
    assert all(isinstance(parameter, Cuda) for parameter in evaluator.model.parameters())
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-5)


def test_samples_of_a_point(gpu):
    expected, evaluator = on_both(net(), images(), batch_size=16)
    evaluator.move_to(POINT)
    gpu.record.clear()
    losses, right = evaluator.sample_losses("train", 0, 40)
    assert not gpu.record.waits, dict(gpu.record.waits)
    assert losses.device == right.device == DEVICE
    assert float(losses.mean()) == pytest.approx(expected[0], rel=1e-5)


def test_halving_the_batch_copies_no_data(gpu):
    expected, evaluator = on_both(net("mlp"), images(), batch_size=16)
    gpu.record.clear()
    assert evaluator.halve_batch()
    assert not gpu.record.waits, dict(gpu.record.waits)
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("freezes", [True, False])
def test_a_compiler_that_freezes_the_weights_is_found_out_at_moved_points(gpu, freezes, monkeypatch, caplog):
    monkeypatch.setattr(torch, "compile", lambda module, **options: Frozen(module) if freezes else module)
    expected, evaluator = on_both(net("mlp"), images(), batch_size=16)
    assert evaluator.compile() is not freezes
    assert ("outputs differ" in caplog.text) is freezes
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-5)


class Frozen:
    """A module with the weights of its first call."""

    def __init__(self, module):
        self.module, self.kept = module, None

    def __call__(self, inputs):
        self.kept = self.kept or copy.deepcopy(self.module)
        return self.kept(inputs)


def test_a_compiler_that_fails_is_named_and_done_without(gpu, monkeypatch, caplog):
    def fails(module, **options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fails)
    expected, evaluator = on_both(net("mlp"), images(), batch_size=16)
    assert not evaluator.compile()
    assert "torch.compile failed (no C++ compiler)" in caplog.text
    assert numbers(evaluator, gpu) == pytest.approx(expected, rel=1e-5)
