"""Backward passes on a GPU: gradient norm, Hessian, training; the CPU's numbers, fp32 without TF32, few waits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import POINT, images, net, on_both
from fake_cuda import DEVICE
from helpers import call
from torch import nn

from paraloss.compute import load_criterion, train
from paraloss.compute.evaluate import curvature
from paraloss.compute.evaluate.report import Report
from paraloss.compute.forward.precision import arithmetic


@pytest.fixture
def tf32_wanted():
    """A user has set torch's new switches, after which the old ones raise."""
    owners = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [owner.fp32_precision for owner in owners]
    for owner in owners:
        owner.fp32_precision = "tf32"
    yield
    for owner, value in zip(owners, before, strict=True):
        owner.fp32_precision = value


SHAPE, CLASSES = (1, 5, 5), 2


def paired(outputs, targets):
    """The sum and the count, both on the device."""
    return nn.functional.cross_entropy(outputs, targets, reduction="sum"), (targets >= 0).sum()


def convolved():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, CLASSES)
    return net(nn.Sequential(*layers))


def few(samples):
    return images(samples, SHAPE, as_bytes=False, classes=CLASSES)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_norm_of_the_gradient_is_that_of_the_cpu_and_read_back_once(gpu, tf32_wanted, precision):
    expected, evaluator = on_both(
        convolved(),
        few(12),
        load_criterion(paired)[1],
        precision=precision,
        batch_size=4,
        report=Report(measures=("grad_norm",)),
    )
    gpu.record.clear()
    found = evaluator(POINT)
    assert found[-1] == pytest.approx(expected[-1], rel=1e-4)
    assert sum(gpu.record.waits.values()) == 2, dict(gpu.record.waits)  # the sums, and the norm
    assert {tf32 for _, kind, tf32 in gpu.record.products if kind == "float32"} == {False}


def test_the_ends_of_the_hessian_are_those_of_the_cpu_and_a_product_waits_for_no_batch(gpu, tf32_wanted, monkeypatch):
    counted = []
    monkeypatch.setattr(curvature.Hessian, "_count", lambda self, products: counted.append(products))
    waits = []
    for size in (12, 6):
        expected, evaluator = on_both(convolved(), few(12), batch_size=size, report=Report(measures=("hessian",)))
        counted.clear()
        gpu.record.clear()
        assert evaluator(POINT) == pytest.approx(expected, rel=1e-3, abs=1e-4)
        assert not [key for key in gpu.record.products if key[2]]
        waits.append(sum(gpu.record.waits.values()) / sum(counted))
    assert waits[1] == pytest.approx(waits[0], rel=0.1)


def test_the_spectrum_is_in_fp32(gpu, tf32_wanted, tmp_path):
    model, split = convolved(), few(4)
    np.savez(tmp_path / "d.npz", inputs=split.inputs.numpy(), targets=split.targets.numpy())
    made = "nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)"
    (tmp_path / "own.py").write_text(f"from torch import nn\ndef make():\n    return nn.Sequential({made})\n")
    torch.save(model.state_dict(), tmp_path / "m.pt")
    words = ["--weights", "m.pt", "--model", "own.py:make", "--data", "npz:d.npz", "--top", "1", "--no-density"]
    gpu.record.clear()
    done = call("hessian", *words, "--device", "cuda", "-o", "e.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cuda:0 (fake H100), fp32" in done.stderr
    assert gpu.record.products
    assert not [key for key in gpu.record.products if key[2]]


def test_the_users_switches_are_put_back(gpu, tf32_wanted):
    owners = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    for precision, value in (("fp32", "ieee"), ("tf32", "tf32")):
        with arithmetic(DEVICE, precision, False):
            assert [owner.fp32_precision for owner in owners] == [value] * 2
        assert [owner.fp32_precision for owner in owners] == ["tf32"] * 2


def split_of(samples):
    inputs = few(samples)
    return {"train": inputs, "test": inputs.rows(slice(0, 5))}


@pytest.mark.parametrize(("recipe", "precision"), [("li2018", "fp32"), ("cifar", "bf16")])
def test_training_on_auto_goes_where_the_cpu_goes_in_fp32_and_no_step_waits(
    gpu, tf32_wanted, recipe, precision, tmp_path, caplog
):
    caplog.set_level("INFO", "paraloss")
    waits, given = [], {"epochs": 1, "lr": 0.05, "batch_size": 4, "recipe": recipe, "precision": precision, "progress": False}
    for samples in (8, 20):
        kept = {}
        for device in ("cpu", "auto"):
            gpu.record.clear()
            folder = tmp_path / f"{device}{samples}"
            kept[device] = torch.load(train(convolved(), split_of(samples), folder, device=device, **given))["state_dict"]
        waits.append(
            sum(number for (_, place), number in gpu.record.waits.items() if "training" in place or "recipes" in place)
        )
        for name, tensor in kept["cpu"].items():
            torch.testing.assert_close(kept["auto"][name], tensor, rtol=0.05, atol=1e-4 if precision == "fp32" else 0.02)
        kinds = {(kind, tf32) for _, kind, tf32 in gpu.record.products}
        assert kinds == {("float32", False)} | ({("bfloat16", False)} if precision == "bf16" else set())
    assert waits[0] == waits[1]
    assert f"training on cuda:0 (fake H100) in {precision}, 4 samples a step" in caplog.text
