"""Interpolate a surface more finely for a picture: bicubic splines through what was computed, on request, and marked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paraloss.errors import InputError
from paraloss.height import OFFSET, scale_of
from paraloss.surface import INTERPOLATED, NOT_FINITE, PENDING, Surface

_MOST, _MOST_FACTOR = 4_000_000, 1000  # points, times finer


def smoothed(
    surface: Surface, factor: int, *, metric: str | None = None, log: bool | None = None, offset: float = OFFSET
) -> Surface:
    """Interpolate ``factor`` times as many steps along each axis; computed points keep their values.

    Args:
        surface: two-dimensional and complete; points that are not finite keep a blank around them.
        factor: 2 or more; 1 returns the surface itself.
        metric: the one that is drawn as height. Default: as ``Surface.metric``.
        log: whether that one is drawn as ln(metric + offset). Default, and for all others: losses are.
        offset: number added before the logarithm, in the metric's unit.

    Returns:
        Metrics by bicubic splines on the scale that is drawn, see ``paraloss.height``; new points have the status 3,
        interpolated.

    Raises:
        InputError: a curve or a volume, too few points, pending points, or a result of more than four million points.
    """
    from scipy.interpolate import RectBivariateSpline

    if factor == 1:
        return surface
    if surface.y is None or surface.z is not None:
        raise InputError("{smooth} is for surfaces (two axes)", arguments=("smooth",))
    if factor < 1 or min(surface.shape) < 4:
        raise InputError(f"{{smooth}} {factor}: give 2 or more, and a surface of at least 4 x 4 points", arguments=("smooth",))
    if (surface.status == PENDING).any():
        raise InputError("the surface is not complete; finish it before smoothing it")
    if factor > _MOST_FACTOR:
        raise InputError(f"{{smooth}} {factor}: {_MOST_FACTOR:,} is the most", arguments=("smooth",))
    x, y = (fine_steps(axis, factor) for axis in (surface.x, surface.y))
    if len(x) * len(y) > _MOST:
        raise InputError(
            f"{{smooth}} {factor} would make {len(x)} x {len(y)} points; {_MOST:,} is the most", arguments=("smooth",)
        )
    metrics = {}
    for name, values in surface.metrics.items():
        known = np.isfinite(values)
        # Of heights, so that a spike does not ring through its neighbors.
        scale = scale_of(name, values, metric or surface.default_metric, log, offset)
        field = np.where(known, scale.heights(values), 0.0)
        if not known.all():
            field[~known] = field[known].max() if known.any() else 0.0
        fine = RectBivariateSpline(surface.y, surface.x, field)(y, x)
        # A spline overshoots: no value may exceed those that were computed around it.
        fine = np.clip(fine, *_around(field, factor))
        fine = scale.values(fine)
        fine[::factor, ::factor] = values
        fine[_near(~known, factor)] = np.nan
        metrics[name] = fine
    status = np.full((len(y), len(x)), INTERPOLATED, np.uint8)
    status[::factor, ::factor] = surface.status
    status[_near(surface.status == NOT_FINITE, factor)] = NOT_FINITE
    return replace(surface, x=x, y=y, metrics=metrics, status=status, provenance={**surface.provenance, "smoothed": factor})


def fine_steps(axis: np.ndarray, factor: int) -> np.ndarray:
    """The steps of an axis (n,), and ``factor`` - 1 more in each interval, evenly spaced within it: ((n - 1) factor + 1,)."""
    places = np.arange((len(axis) - 1) * factor + 1) / factor
    return np.asarray(np.interp(places, np.arange(len(axis)), axis))


def _around(field: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the smallest and largest of the sixteen computed values around each fine point."""
    from scipy.ndimage import maximum_filter, minimum_filter

    rows, columns = (np.minimum(np.arange((n - 1) * factor + 1) // factor, n - 2) for n in field.shape)
    # A 4 x 4 window from one before to two behind the cell's first corner.
    low = minimum_filter(field, 4, origin=-1, mode="nearest")[np.ix_(rows, columns)]
    high = maximum_filter(field, 4, origin=-1, mode="nearest")[np.ix_(rows, columns)]
    return low, high


def _near(blank: np.ndarray, factor: int) -> np.ndarray:
    """Mark the fine points in cells that touch a blank point."""
    cells = blank[:-1, :-1] | blank[1:, :-1] | blank[:-1, 1:] | blank[1:, 1:]
    near = np.zeros([(n - 1) * factor + 1 for n in blank.shape], bool)
    for j, i in np.argwhere(cells):
        near[j * factor : (j + 1) * factor + 1, i * factor : (i + 1) * factor + 1] = True
    near[::factor, ::factor] = blank
    return near
