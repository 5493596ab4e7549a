"""What ``benchmarks/gpu.py`` measures: ResNet-56 on CIFAR-shaped images, its plain loop in float64, and its limits."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraloss.compute import Evaluator, Split, load_criterion, load_model, random_direction
from paraloss.compute.directions.random import Direction

CRITERION = load_criterion("cross_entropy")[1]
POINTS = ((0.05, 0.05), (-0.1, 0.1), (0.1, 0.0), (0.02, -0.06), (0.0, -0.1))  # the first three are warm-up
CHECKED = POINTS[3:]
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


class Eager(Evaluator):
    """Convolution, bias, addition and ReLU apart, kernel by kernel."""

    fuses, records = False, False


class Fused(Evaluator):
    """As one where that is faster, kernel by kernel."""

    records = False


WAYS: dict[str, type[Evaluator]] = {"eager": Eager, "fused": Fused, "graph": Evaluator}


def make_case(images: int, name: str = "resnet56") -> tuple[nn.Module, Split, list[Direction]]:
    """(model, split, directions): random pixels, batch-norm statistics of real activations."""
    torch.manual_seed(0)
    model = load_model(name, (3, 32, 32), 10)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
    mean, deviation = torch.full((1, 3, 1, 1), 127.5), torch.full((1, 3, 1, 1), 73.6)
    split = Split(pixels, torch.randint(0, 10, (images,)), (mean, deviation))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        model.train()(split.normalize(pixels[:256]))
    generator = torch.Generator().manual_seed(0)
    return model.eval(), split, [random_direction(model, generator) for _ in "xy"]


def float64_loss(
    model: nn.Module, directions: list[Direction], point: tuple[float, float], split: Split, device: str, batch: int = 500
) -> float:
    """The mean loss by a plain loop in float64 on ``device``."""
    model = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for step, direction in zip(point, directions, strict=True):
                parameter += step * direction[name].double()
        model.to(device)
        total = 0.0
        for inputs, targets in zip(split.inputs.split(batch), split.targets.split(batch), strict=True):
            outputs = model(split.normalize(inputs.to(device)).double())
            total += F.cross_entropy(outputs, targets.to(device), reduction="sum").item()
    return total / len(split)


def numbers_moved(model: nn.Module, sample: Tensor) -> int:
    """Numbers read and written for one sample if convolution, bias, shortcut and ReLU are one pass over memory."""
    count = 0

    def note(name: str, inputs: Tensor, output: Tensor) -> None:
        nonlocal count
        count += inputs.numel() + output.numel() * (2 if name.endswith("conv2") else 1)  # a block's last reads its shortcut

    hooks = [
        module.register_forward_hook(lambda _, given, output, name=name: note(name, given[0], output))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model(sample)
    for hook in hooks:
        hook.remove()
    return count
