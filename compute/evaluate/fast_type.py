"""Whether a fast number type with a correction is faster than the wide one: found at a few points, on a part of the samples."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.evaluate.correction import Correction, Shift
from paraloss.compute.evaluate.estimator import with_smaller_batches
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.forward.precision import faster_precisions
from paraloss.height import OFFSET
from paraloss.log import logger
from paraloss.progress import Progress

SAMPLES = 2048  # of each split, on which types are compared
WORTH = 1.25  # a faster type must be that much faster to be taken
FEW = 100  # points; below, the comparison would cost more than it brings


def choose_fast_type(
    make: Callable[[str], Evaluator],
    device: torch.device,
    points: Sequence[np.ndarray],
    todo: int,
    bound: float,
    samples: int,
    shown: bool = False,
) -> tuple[str, dict[str, float]]:
    """Find the fastest type that pays after its correction to fp32; empty where none does.

    Args:
        make: precision -> evaluator of at most ``SAMPLES`` samples of each split.
        device: where it evaluates.
        points: coordinates to compare at.
        todo: number of points to evaluate; few of them are done in fp32 without a comparison.
        bound: of the standard error of the correction, as a share of |loss| + 0.1.
        samples: number of samples of the first split.
        shown: show progress on standard error.

    Returns:
        The type, and for each type tried the largest difference of a mean loss, as a share of |loss| + 0.1.
    """
    candidates = faster_precisions(device) if todo >= FEW else []
    differences: dict[str, float] = {}
    for precision in candidates:
        trial = _Trial(make(precision), make("fp32"), bound, samples)
        with Progress(f"comparing {precision} with fp32", len(points), shown=shown) as bar:
            for point in points:
                trial.at(point)
                bar.advance()
        differences[precision] = trial.difference
        words = f"{precision} differs from fp32 by up to {100 * trial.difference:.2g} % of (loss + 0.1) at {len(points)} points"
        if trial.gain >= WORTH:
            logger.info(f"precision: {words}; corrected by samples in fp32 it is {trial.gain:.1f} times as fast: used")
            return precision, differences
        logger.info(f"precision: {words}; corrected by samples in fp32 it is not faster here: not used")
    return "", differences


class _Trial:
    """Two evaluators of the same samples, compared point by point.

    Attributes:
        difference: largest difference of the mean losses, as a share of |loss| + 0.1.
    """

    def __init__(self, fast: Evaluator, wide: Evaluator, bound: float, samples: int) -> None:
        self._fast, self._wide, self._bound, self._samples = fast, wide, bound, samples
        self._name = next(iter(fast.samples))
        self._correction = Correction(fast, wide, seed=0)
        self._times: tuple[list[float], list[float]] = ([], [])
        self._needed: list[float] = []  # samples in the wide type, of all that the surface has
        self.difference = 0.0

    def at(self, point: np.ndarray) -> None:
        """Compare at one point."""
        fast = self._every(self._fast, point, self._times[0])
        wide = self._every(self._wide, point, self._times[1])
        if not bool(torch.isfinite(wide).all()):
            return
        known = self._correction.in_range(self._name, fast, None)
        mean = float(wide.mean())
        allowed = self._bound * (abs(mean) + OFFSET)
        self.difference = max(self.difference, abs(float(known[0].mean()) - mean) / (abs(mean) + OFFSET))
        self._needed.append(self._of_all(self._correction.shift(self._name, known[0], known, allowed), allowed))

    @property
    def gain(self) -> float:
        """How many times as fast a point is in the fast type with its correction as in the wide type."""
        fast, wide = (statistics.median(times[1:] or times) for times in self._times)  # the first is slower
        share = statistics.fmean(self._needed) / self._samples if self._needed else 1.0
        return wide / (fast + share * wide)

    def _every(self, evaluator: Evaluator, point: np.ndarray, times: list[float]) -> Tensor:
        for _ in range(1 if times else 2):
            began = time.perf_counter()
            losses, _ = with_smaller_batches(evaluator, lambda: evaluator.every_loss(point.tolist()))[self._name]
            losses = losses.cpu()
            times.append(time.perf_counter() - began)
        return losses

    def _of_all(self, shift: Shift, allowed: float) -> float:
        """The number of samples in the wide type, were there as many as the surface has."""
        here = self._fast.samples[self._name]
        if shift.samples >= here:
            return float(self._samples)
        # The square of the error is about in proportion to 1 / n - 1 / N.
        unit = shift.error**2 / (1 / shift.samples - 1 / here)
        return max(float(shift.samples), unit / (allowed**2 + unit / self._samples)) if unit > 0 else float(shift.samples)
