"""Surfaces seen from above with matplotlib: contour lines with labels, filled contours, heat maps; with the path on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paraloss.converters import GridOptions
from paraloss.converters.colors import color_table
from paraloss.converters.scale import color_ends
from paraloss.errors import InputError
from paraloss.height import is_loss
from paraloss.look import COLOR_MAPS
from paraloss.surface import Surface

STYLES = ("contour", "filled", "heat")
_DPI = 200


def draw_contours(
    surfaces: Sequence[Surface],
    path: Path,
    labels: Sequence[str],
    options: GridOptions,
    style: str = "contour",
    color_map: str = "cool-to-warm",
    transparent: bool = False,
    size: tuple[int, int] | None = None,
    shape: tuple[int, int] | None = None,
) -> None:
    """Draw surfaces beside each other on one scale, as in Figure 5 and 9 of Li et al. 2018.

    Args:
        surfaces: two-dimensional.
        path: ``.png``, ``.jpg``, ``.pdf`` or ``.svg``.
        labels: a title for each.
        options: metric, logarithm, offset and clip, as for heights.
        style: ``contour`` (lines with labels in the metric's unit), ``filled`` or ``heat``.
        color_map: as in ``render``.
        transparent: no background.
        size: pixels.
        shape: (rows, columns); all in one row by default.

    Raises:
        InputError: unknown style or color map, or no finite value.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if style not in STYLES:
        raise InputError(f"unknown style '{style}'; there are lit, {', '.join(STYLES)}")
    if color_map not in COLOR_MAPS:
        raise InputError(f"unknown color map '{color_map}'; there are {', '.join(COLOR_MAPS)}")
    # Thin lines need more ink than areas: the middle of the map is nearly white.
    colors = ListedColormap(color_table(color_map) * (0.72 if style == "contour" else 1.0), color_map)
    fields = [_field(surface, options) for surface in surfaces]
    finite = np.concatenate([values[np.isfinite(values)] for values in fields])
    if not finite.size:
        raise InputError("no point of the surface has a finite value")
    low, high = color_ends(float(finite.min()), float(finite.max()), options.metric or surfaces[0].default_metric)
    if not low < high:  # a flat surface has a color, too
        low, high = low - 0.5, high + 0.5
    log = _is_log(surfaces[0], options)
    levels = _levels(low, high, log, options.log_offset)
    tallest = max(_proportion(surface) for surface in surfaces)
    rows, columns = shape or (1, len(surfaces))
    usual = (1220 * columns + 220, (round(1100 * tallest) + 250) * rows)
    width, height = size or usual
    dpi = _DPI * min(1.0, width / usual[0], height / usual[1])  # letters shrink with the picture
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    cells = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    axes = cells[: len(surfaces)]
    for spare in cells[len(surfaces) :]:
        spare.set_axis_off()
    for axis, surface, values, label in zip(axes, surfaces, fields, labels, strict=True):
        masked = np.ma.masked_invalid(values)
        if style == "heat":
            drawn = axis.pcolormesh(surface.x, surface.y, masked, cmap=colors, vmin=low, vmax=high, shading="nearest")
        elif style == "filled":
            drawn = axis.contourf(surface.x, surface.y, masked, np.linspace(low, high, 41), cmap=colors)
            axis.contour(surface.x, surface.y, masked, levels, colors="white", linewidths=0.4, linestyles="solid", alpha=0.7)
        else:
            drawn = axis.contour(surface.x, surface.y, masked, levels, cmap=colors, vmin=low, vmax=high, linewidths=1.1)
            axis.clabel(drawn, fontsize=7, fmt=lambda value: _number(_raw(value, log, options.log_offset)))
        _draw_path(axis, surface)
        _draw_ends(axis, surface)
        axis.set_title(label, fontsize=11)
        axis.set_aspect("equal" if _proportion(surface) == _ratio(surface) else "auto")
        shares = _numbers(surface.provenance.get("explained_variance_ratio"))
        for number, name in enumerate("xy"):
            share = f" ({100 * shares[number]:.0f} % of the path's variance)" if len(shares) > number else ""
            getattr(axis, f"set_{name}label")(f"step along {name}{share}")
    if style != "contour":
        bar = figure.colorbar(drawn, ax=cells, shrink=0.85, aspect=20 * rows)
        bar.set_ticks(levels.tolist(), labels=[_number(_raw(value, log, options.log_offset)) for value in levels])
        bar.set_label((options.metric or surfaces[0].default_metric).replace("_", " "))
    figure.savefig(path, transparent=transparent)


def _numbers(told: object) -> list[float]:
    """What a file from elsewhere says, where it is a list of numbers."""
    return [float(share) for share in told if isinstance(share, int | float)] if isinstance(told, list) else []


def _field(surface: Surface, options: GridOptions) -> np.ndarray:
    values = surface.metric(options.metric).astype(float)
    values = np.clip(values, options.zmin, options.zmax) if (options.zmin, options.zmax) != (None, None) else values
    with np.errstate(invalid="ignore", divide="ignore"):
        field = np.log(values + options.log_offset) if _is_log(surface, options) else values
    return np.where(np.isfinite(field), field, np.nan)


def _is_log(surface: Surface, options: GridOptions) -> bool:
    return options.log if options.log is not None else is_loss(options.metric or surface.default_metric)


def _levels(low: float, high: float, log: bool, offset: float) -> np.ndarray:
    """Round numbers of the metric itself: 1, 2 and 5 times powers of ten on a logarithmic scale, else even steps."""
    from matplotlib.ticker import MaxNLocator

    if log:
        powers = 10.0 ** np.arange(-6, 9)
        powers = powers[powers >= (0.1 * offset if np.exp(high) > 3 * offset else 0)]
        for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            raw = np.sort(np.outer(powers, factors).ravel())
            levels = np.log(raw + offset)
            levels = levels[(levels > low) & (levels < high)]
            # The scale is linear below the offset: levels there would crowd.
            gaps = np.diff(levels, prepend=-np.inf)
            levels = levels[gaps > 0.02 * (high - low)]
            if len(levels) <= 14:
                break
        if len(levels) >= 2:
            return np.asarray(levels)
    levels = np.array(MaxNLocator(10).tick_values(low, high))
    inside = levels[(levels > low) & (levels < high)]
    return inside if len(inside) else np.array([(low + high) / 2])


def _raw(value: float, log: bool, offset: float) -> float:
    return float(np.exp(value) - offset) if log else float(value)


def _number(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"  # 1000, not 1e+03


def _ratio(surface: Surface) -> float:
    assert surface.y is not None
    return float(np.ptp(surface.y) / np.ptp(surface.x))


def _proportion(surface: Surface) -> float:
    """Height over width of a panel: that of the axes, or 1 where equal units would make a strip."""
    return _ratio(surface) if 1 / 3 < _ratio(surface) < 1.5 else 1.0


def _draw_path(axis, surface: Surface) -> None:  # type: ignore[no-untyped-def]
    path = surface.trajectory
    if path is None:
        return
    x, y = np.asarray(path["x"]), np.asarray(path["y"])
    axis.plot(x, y, "-", color="black", linewidth=1.2, zorder=3)
    axis.scatter(x, y, s=9, color="black", zorder=4)
    axis.scatter(x[0], y[0], s=36, facecolor="white", edgecolor="black", zorder=5, label="start")
    axis.scatter(x[-1], y[-1], s=70, marker="*", color="black", zorder=5, label="end")
    axis.legend(loc="best", fontsize=8, framealpha=0.8)


def _draw_ends(axis, surface: Surface) -> None:  # type: ignore[no-untyped-def]
    """The checkpoints that span the plane, where its directions lead to checkpoints."""
    spans = [bool(direction.get("to")) for direction in surface.provenance.get("directions", []) if isinstance(direction, dict)]
    if not any(spans):
        return
    places = [(0.0, 0.0, "center"), *((k == 0, k == 1, f"{'xy'[k]} end") for k, leads in enumerate(spans[:2]) if leads)]
    for x, y, name in places:
        axis.plot(float(x), float(y), "o", markersize=6, markerfacecolor="white", markeredgecolor="black", zorder=5)
        axis.annotate(name, (float(x), float(y)), textcoords="offset points", xytext=(7, 5), fontsize=8, zorder=5)
