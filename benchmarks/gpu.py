"""One GPU in one command, under 8 minutes: ResNet-56 on 50,000 CIFAR-shaped images.

    python benchmarks/gpu.py [--images 50000] [--seconds 40] [--device cuda]

Prints, for each precision with and without compilation: points/s, images/s, the time of a full 51×51 surface, the share
of the memory-traffic limit and of the largest matrix-product rate, and the largest difference from float64 on the CPU
at 5 points (over the first 1,000 images).

The memory-traffic limit counts each activation once out and once in, in the precision's own size, with convolution, batch
norm and ReLU as one pass: what no arrangement of separate kernels can go below.
"""

from __future__ import annotations

import argparse
import copy
import time
from datetime import date

import torch
import torch.nn.functional as F
from limits import convolution_work, copy_bandwidth, gemm_rate
from torch import nn

from paraloss.compute import Evaluator, Split, load_criterion, load_model, random_direction
from paraloss.compute.evaluate.tuning import find_batch_size
from paraloss.compute.forward.precision import faster_precisions

CRITERION = load_criterion("cross_entropy")[1]
SIZES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}
TYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=40.0, help="for each precision, with and without compilation")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    model, split = _case(options.images)
    generator = torch.Generator().manual_seed(0)
    directions = [random_direction(model, generator) for _ in "xy"]
    work = convolution_work(model, split.normalize(split.inputs[:1]))
    numbers = _activations(model, split.normalize(split.inputs[:1]))
    bandwidth = copy_bandwidth(device.type)
    print(f"### {date.today().isoformat()}: {name}, torch {torch.__version__}, {options.images} images of 3×32×32\n")
    print(
        f"copy bandwidth {bandwidth / 1e9:.0f} GB/s; "
        f"{work / 1e6:.0f} MFLOP and {2 * numbers / 1e6:.2f} M numbers moved an image"
    )
    print(
        "\nResNet-56:\n\n"
        "| precision | compiled | batch | images/s | points/s | 51×51 | of memory limit | of GEMM | from fp64 |\n"
        + "|---" * 9
        + "|"
    )
    few = Split(split.inputs[:1000], split.targets[:1000], split.scale)
    points = [(0.0, 0.0), (0.1, 0.0), (0.0, -0.1), (0.05, 0.05), (-0.1, 0.1)]
    exact = [_float64(model, directions, point, few) for point in points]
    gemm = {precision: gemm_rate(TYPES[precision], device.type) for precision in ("fp32", "bf16")}
    for precision in ["fp32", *reversed(faster_precisions(device))]:
        check = Evaluator(model, CRITERION, {"train": few}, directions, device, precision=precision)
        off = max(abs(check(point)[0] / loss - 1) for point, loss in zip(points, exact, strict=True))
        evaluator = Evaluator(model, CRITERION, {"train": split}, directions, device, precision=precision)
        find_batch_size(evaluator, 4.0)
        for compiled in (False, True) if device.type == "cuda" else (False,):
            if compiled and not evaluator.compile():
                print(f"| {precision} | failed | | | | | | | |")
                continue
            evaluator(points[0])
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < options.seconds or done < 2:
                evaluator(points[done % 5])
                done += 1
            rate = done / (time.perf_counter() - began)
            images = rate * options.images
            floor = 2 * numbers * SIZES[precision] / bandwidth  # seconds an image
            limit = gemm["bf16" if precision == "bf16" else "fp32"]
            print(
                f"| {precision} | {'yes' if compiled else 'no'} | {evaluator.batch_size} | {images:.0f} | {rate:.2f} "
                f"| {2601 / rate / 60:.1f} min | {100 * images * floor:.0f} % "
                f"| {100 * images * work / limit:.0f} % | {off:.1e} |",
                flush=True,
            )


def _case(images: int) -> tuple[nn.Module, Split]:
    torch.manual_seed(0)
    model = load_model("resnet56", (3, 32, 32), 10)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
    mean, deviation = torch.full((1, 3, 1, 1), 120.0), torch.full((1, 3, 1, 1), 63.0)
    split = Split(pixels, torch.randint(0, 10, (images,)), (mean, deviation))
    with torch.no_grad():  # statistics of real activations
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        model.train()(split.normalize(pixels[:256]))
    return model.eval(), split


def _activations(model: nn.Module, sample: torch.Tensor) -> int:
    """Numbers that the convolutions put out for one sample."""
    count = 0

    def note(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal count
        count += output.numel()

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(sample)
    for hook in hooks:
        hook.remove()
    return count


def _float64(model: nn.Module, directions: list[dict[str, torch.Tensor]], point: tuple[float, float], split: Split) -> float:
    model = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for step, direction in zip(point, directions, strict=True):
                parameter += step * direction[name].double()
        inputs = split.normalize(split.inputs).double()
        outputs = torch.cat([model(part) for part in inputs.split(250)])
        return F.cross_entropy(outputs, split.targets).item()


if __name__ == "__main__":
    main()
