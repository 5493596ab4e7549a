"""Points of a real surface four ways, side by side: ResNet-56 on CIFAR-10, in ``make bench`` where data and weights are there.

    python benchmarks/real.py --weights final.pt [--model resnet56] [--data cifar10] [--samples 10000,50000] [--points 9]

The ways: the reference's loop, fp32, the default (two number types where the hardware has a faster one) and that with
--rtol 0.01. Each point is evaluated in turn by all of them; ratios are of the summed times. What a sampled surface pays once,
its anchors, is timed on some of them and spread over all points; --level says which of ``anchor_levels`` they are (a job
chooses, by the number of samples). Errors are against fp32 on all samples. --errors leaves out
the reference's loop, so that many points can be taken, and gives ratios to fp32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from limits import convolution_work, gemm_rate
from reference_loop import Images, losses

from paraloss.compute import Evaluator, SurfaceOptions, apply_checkpoint, load_checkpoint, load_criterion, load_data, load_model
from paraloss.compute.directions.random import random_direction
from paraloss.compute.evaluate.anchors import anchor_levels
from paraloss.compute.evaluate.corrected import CorrectedEvaluator
from paraloss.compute.evaluate.correction import Correction
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.forward.precision import faster_precisions
from paraloss.compute.inputs.split import Split
from paraloss.compute.ranks.world import World
from paraloss.height import OFFSET

CRITERION = load_criterion("cross_entropy")[1]
SIDE, RTOL, BOUND = 51, 0.01, SurfaceOptions().precision_bound
AXIS = np.linspace(-1, 1, SIDE)
STEPS = np.stack([c.ravel() for c in np.meshgrid(AXIS, AXIS)], axis=1)
Directions = list[dict[str, torch.Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="resnet56")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--samples", default="10000,50000")
    parser.add_argument("--points", type=int, default=9)
    parser.add_argument(
        "--level", type=int, choices=(0, 1, 2), default=2, help="of anchors, 0 for the fewest (default: %(default)s)"
    )
    parser.add_argument("--errors", action="store_true", help="without the reference's loop")
    options = parser.parse_args()
    data = load_data(options.data)["train"]
    model = load_model(options.model, tuple(data.inputs.shape[1:]), int(data.targets.max()) + 1)
    apply_checkpoint(model, load_checkpoint(options.weights)[0], options.weights)
    model.eval()
    generator = torch.Generator().manual_seed(123)
    directions = [random_direction(model, generator) for _ in "xy"]
    spread = np.random.default_rng(0).choice(len(STEPS), options.points - 1, replace=False)
    points = [SIDE * (SIDE // 2) + SIDE // 2, *spread.tolist()]
    print(f"### {date.today().isoformat()}: {options.model} on {options.data}, {torch.get_num_threads()} threads\n")
    fast = next(iter(faster_precisions(torch.device("cpu"))), "")
    limit = gemm_rate(torch.bfloat16 if fast == "bf16" else torch.float32)
    work = convolution_work(model, data.normalize(data.inputs[:1]))
    slowest = "fp32" if options.errors else "reference loop"
    print(f"| N | way | s a point | × {slowest} | 51×51 | images/s | share of GEMM | off, % of (loss + 0.1) | ±2 errors |")
    print("|---" * 9 + "|")
    for count in map(int, options.samples.split(",")):
        _compare(model, directions, data.subset(count), fast, points, work / limit, slowest, options.level)


def _compare(
    model: torch.nn.Module,
    directions: Directions,
    split: Split,
    fast: str,
    points: list[int],
    per_image: float,
    slowest: str,
    level: int,
) -> None:
    """Print the rows of one number of samples.

    Args:
        per_image: seconds that an image takes at the limit.
        slowest: the way that ratios are taken to, the first that is run.
        level: of the anchors.
    """

    def make(precision: str) -> Evaluator:
        return Evaluator(model, CRITERION, {"train": split}, directions, precision=precision)

    exact = make("fp32")
    low = make(fast or "fp32")
    correction = Correction(low, make("fp32"), 0) if fast else None
    default = CorrectedEvaluator(low, correction, STEPS, BOUND) if correction else None
    sampled, once = _sampled(make, fast, points, level)
    images = _images(split) if slowest == "reference loop" else None
    ways = {
        "reference loop": lambda index: [losses(model, images, directions, [STEPS[index].tolist()])[0], 0.0],
        "fp32": lambda index: [exact(STEPS[index].tolist())[0], 0.0],
        f"default: {fast} + fp32" if default else "default: fp32": default or (lambda i: [exact(STEPS[i].tolist())[0], 0.0]),
        f"--rtol {RTOL:g}": sampled,
    }
    if slowest != "reference loop":
        del ways["reference loop"]
    found: dict[str, list[list[float]]] = {way: [] for way in ways}
    times = dict.fromkeys(ways, 0.0)
    for index in points:
        for way, evaluate in ways.items():
            began = time.perf_counter()
            found[way].append(list(evaluate(index)))  # type: ignore[operator]
            times[way] += time.perf_counter() - began
    truth = np.array([values[0] for values in found["fp32"]])
    for way in ways:
        a_point = times[way] / len(points) + (once if way.startswith("--rtol") else 0.0)
        values = np.array([values[:2] for values in found[way]])
        off, inside = np.abs(values[:, 0] - truth), (np.abs(values[:, 0] - truth) <= 2 * values[:, 1] + 1e-6 * truth).mean()
        rate = len(split) / a_point
        print(
            f"| {len(split):,} | {way} | {a_point:.3g} | {times[slowest] / len(points) / a_point:.1f} "
            f"| {a_point * SIDE**2 / 3600:.2f} h | {rate:.0f} | {100 * rate * per_image:.0f} % "
            f"| {100 * (off / (truth + OFFSET)).max():.2g} | {f'{100 * inside:.0f} %' if values[:, 1].any() else '–'} |",
            flush=True,
        )


def _sampled(make: Callable[[str], Evaluator], fast: str, points: list[int], level: int) -> tuple[SampledEvaluator, float]:
    """The estimator with the anchors that ``points`` need, and the seconds a point that all anchors of a surface take."""
    anchors = anchor_levels((SIDE, SIDE))[level]
    whole = SampledEvaluator(make(fast or "fp32"), (SIDE, SIDE), STEPS, RTOL, anchors=anchors)
    wanted = whole.anchors[np.unique(np.concatenate([whole.nearest(index) for index in points]))]
    evaluator = make(fast or "fp32")
    correction = Correction(evaluator, make("fp32"), 0) if fast else None
    sampled = SampledEvaluator(evaluator, (SIDE, SIDE), STEPS, RTOL, correction=correction, anchors=wanted)
    began = time.perf_counter()
    sampled.prepare(World())
    return sampled, (time.perf_counter() - began) / len(wanted) * len(whole.anchors) / SIDE**2


def _images(split: Split) -> Images:
    assert split.scale is not None
    return Images(split.inputs, split.targets, *split.scale)


if __name__ == "__main__":
    main()
