"""One scale for several surfaces, and round numbers on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paraloss.converters.grid import HeightMap, blank_cells, height_map, usual_scale
from paraloss.errors import InputError
from paraloss.height import MetricScale, is_loss, metric_scale, to_log
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface


def picture_scale(surfaces: Sequence[Surface], options: GridOptions, color_by: str | None = None) -> MetricScale:
    """Choose the scale of all losses in a picture: heights and colors of every surface have one offset.

    Args:
        surfaces: surfaces of the picture.
        options: options of heights.
        color_by: metric that gives the color, if it is another one.

    Raises:
        InputError: no such metric.
    """
    metric = options.metric or surfaces[0].default_metric
    log = is_loss(metric) if options.log is None else options.log
    low, high = (bound if limit is None else limit for limit, bound in ((options.zmin, -np.inf), (options.zmax, np.inf)))
    drawn = [np.clip(surface.metric(metric).astype(float), low, high) for surface in surfaces] if log else []
    if color_by is not None and is_loss(color_by):
        drawn += [surface.metric(color_by).astype(float) for surface in surfaces]
    return metric_scale(drawn, bool(drawn), options.log_offset)


def shared_heights(surfaces: Sequence[Surface], options: GridOptions, lit: bool = True) -> list[HeightMap]:
    """Height maps of one metric with one scale and one base, so that equal heights are equal losses.

    Args:
        surfaces: two-dimensional surfaces.
        options: options of heights.
        lit: whether areas are drawn: four neighboring points must be known.

    Raises:
        InputError: no surface, a curve, or no evaluated point.
    """
    for surface in surfaces:
        if surface.y is None:
            raise InputError("a curve (1D) has no lit surface; compute it with --y")
    options = replace(options, metric=options.metric or surfaces[0].default_metric)
    if options.log_offset >= 0:
        options = replace(options, log_offset=picture_scale(surfaces, options).offset)
    maps = [height_map(surface, options) for surface in surfaces]
    for surface, heights in zip(surfaces, maps, strict=True):
        if heights.blank.all():
            done = int((surface.status != 0).sum())
            raise InputError(f"nothing to draw: {done} of {surface.status.size} points are evaluated, none is finite")
        if lit and surface.z is None and blank_cells(heights.blank).all():
            raise InputError("nothing to draw: no four neighboring points have a finite value")
    low, high = joint_range(maps)
    if options.height_scale is not None:
        return maps
    width = max(float(np.ptp(axis)) for surface in surfaces for axis in (surface.x, surface.y) if axis is not None)
    scale = usual_scale(width, low, high)
    return [replace(heights, base=low, scale=scale) for heights in maps]


def joint_range(maps: Sequence[HeightMap]) -> tuple[float, float]:
    """Smallest and largest value drawn in any of the surfaces."""
    ranges = [heights.value_range for heights in maps]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def color_range(maps: Sequence[HeightMap]) -> tuple[float, float]:
    """The ends of the color scale: those of ``joint_range``, or for differences and ratios as far on both sides of "equal"."""
    return color_ends(*joint_range(maps), maps[0].metric)


def color_ends(low: float, high: float, metric: str) -> tuple[float, float]:
    """The same for a range on the drawn scale, where a difference and the logarithm of a ratio are zero for equal surfaces."""
    if not metric.endswith(("_loss_ratio", "_difference")):
        return low, high
    farthest = max(abs(low), abs(high)) or 1.0
    return -farthest, farthest


def nonempty(low: float, high: float) -> tuple[float, float]:
    """The range itself, or one of length 1 above ``low`` if it is empty: a flat surface has a color, too."""
    return low, high if high > low else low + 1.0


def drawn_value(heights: HeightMap, value: float) -> float:
    """A value of the metric on the scale that ``heights`` are drawn on; NaN below the logarithm's domain."""
    return float(to_log(np.array(value), heights.options.log_offset)) if heights.is_log else value


def even_levels(heights: HeightMap, low: float, high: float, number: int) -> tuple[float, ...]:
    """``number`` contour levels in the metric's unit, evenly spaced in height between two drawn values."""
    steps = np.linspace(low, high, number + 2)[1:-1]
    return tuple(float(step) for step in (np.exp(steps) - heights.options.log_offset if heights.is_log else steps))


def round_levels(heights: HeightMap, low: float, high: float) -> tuple[float, ...]:
    """Contour levels that are round in the metric's unit, between two drawn values.

    On a logarithmic scale 1, 2 and 5 times powers of ten, more or fewer of them for at most 14; else even steps.
    """
    offset = heights.options.log_offset
    if heights.is_log and _reaches_below_zero(low, offset):
        return tuple(value for value in _excess_steps(low, high, offset, 12) if low < drawn_value(heights, value) < high)
    if heights.is_log:
        powers = 10.0 ** np.arange(-6, 9)
        powers = powers[powers >= (0.1 * offset if np.exp(high) > 3 * offset else 0)]
        for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            raw = np.sort(np.outer(powers, factors).ravel())
            drawn = np.log(raw + offset)
            inside = (drawn > low) & (drawn < high)
            raw, drawn = raw[inside], drawn[inside]
            # The scale is linear below the offset: levels there would crowd.
            raw = raw[np.diff(drawn, prepend=-np.inf) > 0.02 * (high - low)]
            if len(raw) <= 14:
                break
        if len(raw) >= 2:
            return tuple(raw.tolist())
    levels = _even_steps(low, high, 10) or [(low + high) / 2]
    return tuple(float(np.exp(level) - offset) if heights.is_log else level for level in levels)


def level_text(value: float) -> str:
    """Three digits, never in powers of ten: 1000, not 1e+03."""
    return f"{float(f'{value:.3g}'):g}"


def _even_steps(low: float, high: float, number: int) -> list[float]:
    """Multiples of a round step strictly between ``low`` and ``high``, about ``number`` of them."""
    wanted = (high - low) / number
    power = 10.0 ** np.floor(np.log10(wanted))
    step = power * next((m for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if power * m >= wanted * (1 - 1e-10)), 10)
    values = np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step
    return [float(value) for value in values if low < value < high]


def scale_ticks(heights: HeightMap, low: float, high: float) -> list[tuple[float, str]]:
    """``ticks_between`` for the scale that ``heights`` are drawn on."""
    return ticks_between(low, high, heights.is_log, heights.options.log_offset)


def ticks_between(low: float, high: float, log: bool, offset: float = 0.1, number: int = 6) -> list[tuple[float, str]]:
    """Round numbers in the metric's own unit within low..high of the drawn scale: (value on that scale, its text).

    Args:
        low: lower end, on the drawn scale.
        high: upper end, on the drawn scale.
        log: whether the drawn scale is ln(metric + offset).
        offset: number added before the logarithm.
        number: approximate number of ticks; on a log scale they follow 1, 2, 5, 10 … or 1, 3, 10 … or powers of ten.
    """
    if not log:
        step = 10 ** np.floor(np.log10((high - low) / number)) if high > low else 1.0
        step *= next((m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= number), 10)
        values = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        return [(float(value), f"{value + 0.0:.6g}") for value in np.where(np.abs(values) < step / 1e6, 0.0, values)]
    if _reaches_below_zero(low, offset):
        return [(float(to_log(np.array(value), offset)), f"{value:.6g}") for value in _excess_steps(low, high, offset, number)]
    decades = range(-12, 40)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        values = np.array([m * 10.0**d for d in decades for m in mantissas])
        drawn = to_log(values, offset)
        inside = (drawn >= low) & (drawn <= high) & (values >= offset / 5)
        if inside.sum() <= number + 1:
            break
    chosen = list(zip(drawn[inside], values[inside], strict=True))
    stride = max(1, -(-len(chosen) // (number + 1)))
    return [(float(value), f"{tick:.6g}") for value, tick in chosen[::stride]]


def _reaches_below_zero(low: float, offset: float) -> bool:
    """Whether the lower end of a drawn logarithmic scale is a negative value of the metric."""
    return bool(np.exp(low) < offset * (1 - 1e-9))


def _excess_steps(low: float, high: float, offset: float, number: int) -> list[float]:
    """Values of the metric about evenly spaced in height, rounded to one digit of their distance from ``-offset``.

    Where losses are negative, 1, 2 and 5 times powers of ten crowd at one end of the scale.
    """
    found: dict[float, None] = {}
    for step in np.linspace(low, high, number + 2)[1:-1]:
        unit = 10.0 ** np.floor(step / np.log(10.0))
        value = float(np.round((np.exp(step) - offset) / unit) * unit) + 0.0
        if low <= float(to_log(np.array(value), offset)) <= high:
            found[value] = None
    return list(found)
