"""Settings found by measuring: the precision that may be trusted, and the batch size that is fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from paraloss.compute.evaluate.estimator import with_smaller_batches
from paraloss.compute.evaluate.fast_type import FEW, WORTH
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.forward.compiling import may_pay
from paraloss.compute.forward.precision import faster_precisions
from paraloss.log import logger
from paraloss.progress import Progress

_CLEAR = 1.5  # ratios of times between 1 / _CLEAR and _CLEAR of WORTH are measured again
_ROUNDS = 3
_GPU_SIZES = (256, 512, 1024, 2048, 4096, 8192)  # small ones may stay in the GPU's cache once a graph launches them


def choose_precision(
    make: Callable[[str], PointEvaluator],
    device: torch.device,
    points: Sequence[np.ndarray],
    todo: int,
    bound: float,
    without: Sequence[str] = (),
    shown: bool = False,
) -> tuple[str, dict[str, float]]:
    """The fastest precision whose losses stay within ``bound`` of those in fp32, without a correction.

    Args:
        make: precision -> evaluator of a part of the samples, or of all.
        device: where it evaluates.
        points: coordinates to compare at.
        todo: number of points to evaluate; few of them are done in fp32 without a check.
        bound: largest relative difference of any loss at any of ``points`` that is accepted.
        without: precisions that are not considered.
        shown: show progress on standard error.

    Returns:
        The precision, and the largest relative difference found for each that was tried.
    """
    candidates = [name for name in faster_precisions(device) if name not in without] if todo >= FEW else []
    if not candidates:
        return "fp32", {}
    differences: dict[str, float] = {}
    reference, seconds = _losses(make("fp32"), points, "evaluating a few points in fp32", shown)
    for precision in candidates:
        losses, faster = _losses(make(precision), points, f"evaluating a few points in {precision}", shown)
        finite = np.isfinite(reference)
        relative = np.abs(losses - reference)[finite] / np.maximum(np.abs(reference[finite]), 1e-300)
        difference = float(relative.max()) if finite.any() else 0.0
        differences[precision] = difference
        same_blanks = bool((np.isfinite(losses) == finite).all())
        found = f"{precision} differs from fp32 by up to {100 * difference:.2g} % at {len(points)} points"
        if not same_blanks or not difference <= bound:
            logger.info(f"precision: {found}, more than {100 * bound:.2g} %: not used (precision {precision} would)")
        elif (gain := _gain(make, precision, points, seconds, faster)) < WORTH:
            logger.info(f"precision: {found}, but is not faster here: not used")
        else:
            logger.info(f"precision: {found}, and is {gain:.1f} times as fast: used")
            return precision, differences
    return "fp32", differences


def check_points(steps: np.ndarray, number: int = 9) -> list[np.ndarray]:
    """Up to ``number`` of the (points, directions) ``steps``: the one nearest to the center, the first, the last, and
    others spread evenly over the grid.
    """
    middle = int(np.abs(steps).sum(axis=1).argmin())
    spread = np.linspace(0, len(steps) - 1, number - 1).round().astype(int)
    return [steps[index] for index in dict.fromkeys([middle, *spread.tolist()])]


def choose_batch_size(evaluator: PointEvaluator, points: int) -> int:
    """Probe the batch size when the work is long enough to repay the second that the probe takes."""
    if evaluator.batch_bound:  # values that depend on the size of the batches must not be a matter of timing
        return evaluator.batch_size
    rows = sum(evaluator.samples.values())
    first = with_smaller_batches(evaluator, lambda: evaluator.seconds_per_batch(evaluator.batch_size, 0.0))
    seconds = first * points * rows / evaluator.batch_size
    return find_batch_size(evaluator) if seconds > 30 else evaluator.batch_size


def find_batch_size(evaluator: PointEvaluator, seconds: float = 1.0) -> int:
    """Time a few sizes around the default for about ``seconds`` in all, use the fastest, and return it."""
    rows, size = max(evaluator.samples.values()), evaluator.batch_size
    others = [size // 2, size, size * 2, size * 4] if evaluator.device.type == "cpu" else [size, *_GPU_SIZES]
    sizes = sorted({min(other, rows) for other in others if other})
    best, best_rate = size, 0.0
    for other in sizes if len(sizes) > 1 else []:
        try:
            rate = other / evaluator.seconds_per_batch(other, seconds / len(sizes))
        except torch.OutOfMemoryError:
            break
        if rate > 1.03 * best_rate:  # a larger batch must earn its memory
            best, best_rate = other, rate
    evaluator.use_batch_size(best)
    return best


def worth_compiling(evaluator: PointEvaluator, points: int) -> bool:
    """Whether ``torch.compile`` saves more than it costs over the next ``points`` points; compiles if it does."""
    if evaluator.device.type != "cuda":  # the fused operators have the gain already, see docs/performance.md
        return False
    before = with_smaller_batches(evaluator, lambda: evaluator.seconds_per_batch(evaluator.batch_size, 0.3))
    batches = sum(len(batch) for batch in evaluator.batches.values())
    if not may_pay(before * batches * points) or not evaluator.compile():
        return False
    evaluator.compiled = evaluator.seconds_per_batch(evaluator.batch_size, 0.3) < 0.97 * before
    return evaluator.compiled


def _gain(
    make: Callable[[str], PointEvaluator], precision: str, points: Sequence[np.ndarray], seconds: float, faster: float
) -> float:
    """How many times as fast ``precision`` is; near the decision both are timed in turn until the machine's noise evens out."""
    for _ in range(_ROUNDS):
        if not WORTH / _CLEAR < seconds / faster < WORTH * _CLEAR:
            break
        seconds = min(seconds, _losses(make("fp32"), points)[1])
        faster = min(faster, _losses(make(precision), points)[1])
    return seconds / faster


def _losses(
    evaluator: PointEvaluator, points: Sequence[np.ndarray], title: str = "", shown: bool = False
) -> tuple[np.ndarray, float]:
    """Losses at ``points``, and the shortest time per point, excluding the first."""
    rows, times = [], []
    with Progress(title, len(points), shown=shown) as bar:
        for point in points:
            began = time.perf_counter()
            rows.append(evaluator.metrics_of(with_smaller_batches(evaluator, partial(evaluator.sums, point.tolist()))))
            times.append(time.perf_counter() - began)
            bar.advance()
    columns = [k for k, name in enumerate(evaluator.metrics) if name.endswith("_loss")]
    return np.array(rows)[:, columns], min(times[1:] or times)
