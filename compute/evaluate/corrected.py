"""All samples in a fast number type at each point, corrected to the mean of a wide one."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.evaluate.correction import NO_SHIFT, Correction, on_cpu
from paraloss.compute.evaluate.estimator import check_sample_losses, ignored
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.ranks.world import Record, World
from paraloss.height import OFFSET

_AIM = 0.75  # of the bound: samples are cheap here, and among thousands of points one is off by more than three errors


class CorrectedEvaluator:
    """Metrics from all samples in the type of ``evaluator``, as the wide type would give them, up to a stated error.

    Args:
        evaluator: evaluates all samples in the fast type.
        correction: evaluates a few in the wide one.
        steps: (points, directions) the coordinates of every grid point.
        bound: of the standard error, as a share of |loss| + 0.1, which is what is drawn.

    Attributes:
        metrics: ``<split>_loss``, ``<split>_loss_stderr`` (of the correction; for a drawn split of drawing, too) and, for
            classes, ``<split>_acc``.
        corrected: ``bound``; see ``Estimator``.

    Raises:
        InputError: the losses of single samples are not known or do not count alike.
    """

    def __init__(self, evaluator: Evaluator, correction: Correction, steps: np.ndarray, bound: float) -> None:
        check_sample_losses(evaluator)
        self.evaluator, self.correction, self.corrected, self._steps = evaluator, correction, bound, steps
        self._kinds = {
            name: ["loss", "loss_stderr", *(["acc"] if "acc" in kinds else [])] for name, kinds in evaluator.kinds.items()
        }
        self.metrics = [f"{name}_{kind}" for name, kinds in self._kinds.items() for kind in kinds]

    def prepare(self, world: World, shown: bool = False, record: Record = ignored) -> dict[int, list[float]]:
        """As ``Estimator``; nothing to prepare."""
        return {}

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``, in the order of ``metrics``."""
        every = self.evaluator.every_loss(self._steps[index].tolist())
        self.correction.move_to(self._steps[index])
        results: list[float] = []
        for name, (losses, hits) in every.items():
            losses, hits = self.correction.in_range(name, *on_cpu((losses, hits)))
            mean, shift = float(losses.mean()), NO_SHIFT
            if math.isfinite(mean):
                bound = _AIM * self.corrected * (abs(mean) + OFFSET)
                shift = self.correction.shift(name, losses, (losses, hits), bound)
            error = math.hypot(shift.error, self._error_of_drawing(name, losses))
            results += [mean + shift.loss, error]
            if hits is not None:
                results.append(100 * min(max(float(hits.mean()) + shift.hits, 0.0), 1.0))
        return results

    def _error_of_drawing(self, name: str, losses: Tensor) -> float:
        """Standard error of a drawn split's mean, as in ``metrics_of``; 0 for a whole split."""
        population, count = self.evaluator.report.population.get(name, 0), len(losses)
        if not population > count > 1:
            return 0.0
        return float(torch.std(losses) / math.sqrt(count)) * math.sqrt(1 - count / population)
