"""A surface between its points, for pictures: monotone interpolation, so that lines and rims of coarse grids have no kinks.

Along each axis cubic Hermite polynomials with limited slopes (Fritsch and Carlson 1980, "Monotone piecewise cubic
interpolation"): the result runs through every computed point, and between two points it stays between their values. No
minimum and no ridge appears that was not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paraloss.analysis.smoothing import fine_steps
from paraloss.height import OFFSET, MetricScale, scale_of
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.surface import INTERPOLATED, NOT_FINITE, PENDING, Surface

WANTED = 200
"""Points along an axis from which on lines look smooth in a picture."""


def finer(
    surface: Surface,
    infinite_is_high: bool = False,
    wanted: int = WANTED,
    *,
    metric: str | None = None,
    log: bool | None = None,
    offset: float = OFFSET,
) -> Surface:
    """Interpolate a coarse surface to about ``wanted`` points along each axis; computed points keep their values.

    Args:
        surface: two-dimensional.
        infinite_is_high: whether an infinite loss is drawn as one above the highest, as under an upper limit. Default: the
            cells around it are blank, as those around any point that is pending or not finite.
        wanted: number of points along an axis; one that has as many stays as it is.
        metric: the one that is drawn as height. Default: as ``Surface.metric``.
        log: whether that one is drawn as ln(metric + offset). Default, and for all others: losses are.
        offset: number added before the logarithm, in the metric's unit.

    Returns:
        Metrics interpolated along both axes on the scale that is drawn, the mean of both orders; the status of new points is 3
        (interpolated).
    """
    assert surface.y is not None
    factors = [max(1, -(-(wanted - 1) // (len(axis) - 1))) if len(axis) > 1 else 1 for axis in (surface.y, surface.x)]
    if factors == [1, 1]:
        return surface
    (down, right), axes = factors, (np.asarray(surface.y), surface.x)
    y, x = (fine_steps(axis, factor) for axis, factor in zip(axes, factors, strict=True))
    metrics, height = {}, metric or surface.default_metric
    for name, values in surface.metrics.items():
        scale = scale_of(name, values, height, log, offset)
        metrics[name] = _interpolated(values, axes, factors, scale, infinite_is_high)
    status = np.full((len(y), len(x)), INTERPOLATED, np.uint8)
    for kind in (NOT_FINITE, PENDING):
        status[_cells_at(surface.status == kind, factors)] = kind
    status[::down, ::right] = surface.status
    return replace(surface, x=x, y=y, metrics=metrics, status=status)


def drawn_finer(surfaces: Sequence[Surface], options: GridOptions, picture: PictureOptions) -> list[Surface]:
    """The surfaces as pictures draw them: ``finer``, but for heat maps, which show one color per computed point."""
    if picture.style == "heat":
        return list(surfaces)
    return [
        finer(surface, options.zmax is not None, metric=options.metric, log=options.log, offset=options.log_offset)
        if surface.y is not None and surface.z is None
        else surface
        for surface in surfaces
    ]


def _interpolated(
    values: np.ndarray, axes: tuple[np.ndarray, np.ndarray], factors: list[int], scale: MetricScale, infinite_is_high: bool
) -> np.ndarray:
    field = scale.heights(np.asarray(values, np.float64))
    finite = field[np.isfinite(field)]
    if infinite_is_high and finite.size:
        field = np.where(np.isposinf(field), finite.max() + max(float(np.ptp(finite)), 1.0), field)
    field = np.where(np.isfinite(field), field, np.nan)
    one = monotone(monotone(field, axes[0], factors[0]).T, axes[1], factors[1]).T
    other = monotone(monotone(field.T, axes[1], factors[1]).T, axes[0], factors[0])
    fine = scale.values(one / 2 + other / 2)
    known = values[np.isfinite(field) & np.isfinite(values)]
    if known.size and not (infinite_is_high and np.isposinf(values).any()):  # no rounding error beyond what was computed
        fine = np.where(np.isnan(fine), np.nan, np.clip(fine, known.min(), known.max()))
    fine[:: factors[0], :: factors[1]] = values
    return np.asarray(fine)


def monotone(values: np.ndarray, places: np.ndarray, factor: int) -> np.ndarray:
    """Interpolate along the first axis, ``factor`` times finer.

    Args:
        values: (n, ...) values; NaN where unknown.
        places: (n,) increasing.
        factor: number of parts of each interval.

    Returns:
        ((n - 1) factor + 1, ...); NaN between two points of which one is unknown.
    """
    if factor == 1:
        return values
    gaps = np.diff(places).reshape(-1, *[1] * (values.ndim - 1))
    rises = np.diff(values, axis=0)
    slopes = _slopes(rises / gaps, gaps)
    share = (np.arange(1, factor) / factor).reshape(1, -1, *[1] * (values.ndim - 1))
    low, high = values[:-1, None], values[1:, None]
    start, end = (slopes[:-1] * gaps)[:, None], (slopes[1:] * gaps)[:, None]
    rise = rises[:, None]
    # Hermite's cubic with these slopes, as the line between both points and what bends it.
    inner = low + rise * share + share * (1 - share) * ((start - rise) * (1 - share) - (end - rise) * share)
    fine = np.empty((len(rises), factor, *values.shape[1:]))
    fine[:, 0], fine[:, 1:] = values[:-1], np.clip(inner, np.fmin(low, high), np.fmax(low, high))
    return np.concatenate([fine.reshape(-1, *values.shape[1:]), values[-1:]])


def _slopes(steep: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Slopes at n points from those of the n - 1 intervals (NaN: unknown): of a parabola through three points, limited.

    Three times the smaller of both neighboring slopes at most, and zero where these have other signs.
    """
    edge = np.full((1, *steep.shape[1:]), np.nan)
    before, after = np.concatenate([edge, steep]), np.concatenate([steep, edge])
    wide = np.ones_like(gaps[:1])
    left, right = np.concatenate([wide, gaps]), np.concatenate([gaps, wide])
    with np.errstate(invalid="ignore", over="ignore"):
        parabola = (before * right + after * left) / (left + right)
        limit = 3 * np.minimum(np.abs(before), np.abs(after))
        slope = np.where(before * after > 0, np.sign(parabola) * np.minimum(np.abs(parabola), limit), 0.0)
        at_start = _limited(2 * after - np.concatenate([_known(slope, before, after)[1:], edge]), after)
        at_end = _limited(2 * before - np.concatenate([edge, _known(slope, before, after)[:-1]]), before)
    return np.where(np.isnan(before), at_start, np.where(np.isnan(after), at_end, slope))


def _known(slope: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The slope where both intervals beside a point are known, else that of the one that is."""
    return np.where(np.isnan(before), after, np.where(np.isnan(after), before, slope))


def _limited(slope: np.ndarray, steep: np.ndarray) -> np.ndarray:
    """A slope at the end of what is known, between none and three times that of the interval."""
    return np.asarray(np.clip(slope, np.minimum(0.0, 3 * steep), np.maximum(0.0, 3 * steep)))


def _cells_at(marked: np.ndarray, factors: list[int]) -> np.ndarray:
    """Mark the fine points inside the cells that touch a marked point."""
    cells = np.where(marked, np.nan, 0.0)
    for factor in factors:  # along one axis, then along the other
        cells = monotone(cells, np.arange(len(cells), dtype=float), factor).T
    return np.isnan(cells)
