"""What every test here compares with: a plain loop in float64 on the CPU, over the user's own model."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from helpers import with_statistics

from paraloss.compute import Split, load_criterion, load_model, random_direction
from paraloss.compute.forward.precision import check_precision
from paraloss.errors import InputError

CRITERION = load_criterion("cross_entropy")[1]
POINTS = ((0.0, 0.0), (0.3, -0.2), (-0.5, 0.5), (0.6, 0.1), (-0.1, -0.4))  # the last two after three moves
BOUND = {"fp32": 1e-5, "tf32": 1e-2, "fp16": 2e-2, "bf16": 0.1}  # relative, of a loss


@functools.lru_cache(maxsize=1)
def network():
    """(model, split, directions): a residual network with statistics of real activations, and 100 images."""
    torch.manual_seed(0)
    model = load_model("resnet20", (3, 16, 16), 10)
    pixels = torch.randint(0, 256, (100, 3, 16, 16), dtype=torch.uint8)
    split = Split(pixels, torch.randint(0, 10, (100,)), (torch.full((1, 3, 1, 1), 127.5), torch.full((1, 3, 1, 1), 73.6)))
    with_statistics(model, split.normalize(pixels))
    generator = torch.Generator().manual_seed(0)
    return model, split, [random_direction(model, generator) for _ in "xy"]


def moved(model, directions, point, dtype=torch.float64):
    """A copy at theta + x d + y e, moved by hand."""
    model = copy.deepcopy(model).cpu().to(dtype).eval()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for step, direction in zip(point, directions, strict=True):
            for name, part in direction.items():
                tensors[name] += step * part.to(dtype)
    return model


def numbers(split, dtype=torch.float64):
    """The inputs as the model gets them."""
    return split.normalize(split.inputs).to(dtype)


@functools.cache
def network_loss(point, dtype=torch.float64):
    """(loss, accuracy) of ``network`` at a point."""
    model, split, directions = network()
    with torch.no_grad():
        outputs = moved(model, directions, point, dtype)(numbers(split, dtype)).double()
    return F.cross_entropy(outputs, split.targets).item(), 100 * (outputs.argmax(1) == split.targets).double().mean().item()


def assert_close(found, exact, plain, precision="fp32"):
    """``found`` is ``exact`` within the type's bound, or within five times what float32 on the CPU (``plain``) is off by."""
    assert found == pytest.approx(exact, rel=max(BOUND[precision], 5 * abs(plain / exact - 1)))


def need(precision, device):
    try:
        check_precision(precision, device)
    except InputError as error:
        pytest.skip(str(error))
    if precision == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip("this GPU has no TF32")
