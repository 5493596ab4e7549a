"""From losses to heights: what counts as a loss, and ln(loss + offset), decided in one place for every picture and number.

A loss is drawn as ln(loss + 0.1), the scale of Li et al. 2018. Losses at or below -0.1 (the negative log-likelihoods of
flows and Gaussians) have no such logarithm. Then the offset grows until the smallest loss has the height of a loss of zero:
ln(loss - smallest + 0.1). No finite loss is left out, and ``MetricScale.note`` says what was done.

Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

OFFSET = 0.1
"""Added to a loss before the logarithm. Source: Li et al. 2018, their VTP conversion."""

_FINEST = 1e-9  # an offset below this share of the smallest loss would be lost to rounding
_HUGE = 1e300  # a sum of two numbers beyond this may overflow


def is_loss(metric: str) -> bool:
    """Whether a metric is a loss, which is drawn on a logarithmic scale: not a spread, an error or a difference of one."""
    return "loss" in metric and not metric.endswith(("_stderr", "_std", "_difference"))


def default_metric(metrics: Iterable[str]) -> str | None:
    """The metric that is shown when none is named: the training loss, else the first loss, else the first; None of none."""
    names = list(metrics)
    losses = [name for name in names if name.endswith(("_loss", "_loss_difference", "_loss_ratio"))]
    return "train_loss" if "train_loss" in losses else next(iter(losses or names), None)


@dataclass(frozen=True)
class MetricScale:
    """The scale on which values of a metric become heights.

    Attributes:
        log: heights are ln(value + offset), else the values themselves.
        offset: what is added before the logarithm, in the metric's unit.
        lowest: the smallest value, where the offset was enlarged on its account; else None.
    """

    log: bool
    offset: float = OFFSET
    lowest: float | None = None

    def heights(self, values: np.ndarray) -> np.ndarray:
        """Heights of ``values``, float64 of the same shape; NaN where there is no height, infinity stays."""
        values = np.asarray(values, np.float64)
        return to_log(values, self.offset) if self.log else values

    def values(self, heights: np.ndarray) -> np.ndarray:
        """The values at ``heights``: the inverse of ``heights``."""
        return from_log(heights, self.offset) if self.log else np.asarray(heights, np.float64)

    @property
    def note(self) -> str:
        """What a picture or a table must say about this scale; empty for the usual one."""
        if self.lowest is None:
            return ""
        return f"heights are ln(loss + {self.offset:.4g}), because losses reach {self.lowest:.4g}"


def metric_scale(values: Iterable[np.ndarray] | np.ndarray, log: bool = True, offset: float = OFFSET) -> MetricScale:
    """Choose the scale for values that share a picture or a number.

    Args:
        values: arrays of any shapes, or one array; what is not finite does not count. (smallest, largest) is enough.
        log: False: the values are their own heights.
        offset: wanted before the logarithm, zero or above. Enlarged where a finite value is at or below ``-offset``.
    """
    if not log:
        return MetricScale(False, offset)
    arrays = [values] if isinstance(values, np.ndarray) else values
    lows = [low for low, _ in map(finite_range, arrays) if np.isfinite(low)]
    smallest = min(lows, default=None)
    if smallest is None or smallest > -offset:
        return MetricScale(True, offset)
    return MetricScale(True, max(offset if offset > 0 else OFFSET, _FINEST * abs(smallest)) - smallest, smallest)


def scale_of(
    metric: str, values: np.ndarray, drawn: str | None = None, log: bool | None = None, offset: float = OFFSET
) -> MetricScale:
    """The scale of one of a surface's metrics.

    Args:
        metric: its name.
        values: its values.
        drawn: the metric to which ``log`` applies.
        log: whether that one is drawn as ln(metric + offset). Default, and for all others: losses are.
        offset: number added before the logarithm, in the metric's unit.
    """
    return metric_scale(values, log=log if log is not None and metric == drawn else is_loss(metric), offset=offset)


def finite_range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest finite value; (NaN, NaN) when there is none."""
    values = np.asarray(values)
    if not values.size:
        return float("nan"), float("nan")
    low, high = float(values.min()), float(values.max())
    if np.isfinite(low) and np.isfinite(high):  # NaN would have come through
        return low, high
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (float("nan"), float("nan"))


def to_log(values: np.ndarray, offset: float = OFFSET) -> np.ndarray:
    """ln(values + offset); NaN where that is not a number. Infinity stays."""
    logs = np.array(values, np.float64)  # the one copy; all else happens in it
    huge = abs(offset) > _HUGE
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if huge:
            logs /= 2
        logs += offset / 2 if huge else offset
        np.log(logs, out=logs)
        if huge:
            logs += np.log(2.0)
    logs[np.isneginf(logs)] = np.nan
    return logs


def from_log(heights: np.ndarray, offset: float = OFFSET) -> np.ndarray:
    """exp(heights) - offset: the inverse of ``to_log``."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(heights) - offset)


def log_field(values: np.ndarray, offset: float = OFFSET) -> np.ndarray:
    """The heights of ``values`` on their own logarithmic scale, NaN where not finite: the field whose shape is analyzed."""
    field = metric_scale(np.asarray(values), offset=offset).heights(values)
    return np.where(np.isfinite(field), field, np.nan)
