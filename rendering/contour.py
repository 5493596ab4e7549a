"""Surfaces seen from above with matplotlib: contour lines with labels, filled contours, heat maps; with the path on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters.colors import color_table
from paraloss.converters.composition import ColorScale, Composition
from paraloss.converters.cut import level_of, uncut_values
from paraloss.converters.grid import height_map, point_arrays
from paraloss.converters.paths import DrawnPath
from paraloss.converters.scale import level_text
from paraloss.height import to_log
from paraloss.look import LINE_INK
from paraloss.picture_options import GridOptions
from paraloss.print_size import PrintSize
from paraloss.rendering.figures import Letters, drawing, figure_size, marked, shown
from paraloss.surface import Surface
from paraloss.text import lines_of, printable
from paraloss.ways import way_in_words

Size = tuple[int, int]


def draw_contours(
    surfaces: Sequence[Surface],
    path: Path,
    composition: Composition,
    size: Size | None = None,
    printed: PrintSize | None = None,
) -> None:
    """Draw surfaces beside each other on one scale, as in Figure 5 and 9 of Li et al. 2018.

    Args:
        surfaces: the surfaces that ``composition`` was made for.
        path: ``.png``, ``.jpg``, ``.pdf`` or ``.svg``.
        composition: titles, levels and color scale; its style ``contour`` draws lines with labels in the metric's unit,
            ``filled`` areas between lines, ``heat`` one color per point.
        size: pixels. Default: 1220 per column, and as many in height as the axes need.
        printed: size in print, instead of ``size``.
    """
    with drawing(printed) as letters:
        figure = contour_figure(surfaces, composition, letters, size, printed)
        transparent = composition.picture.transparent
        figure.savefig(path, transparent=transparent, **marked(path.suffix, "picture"))


def contour_figure(
    surfaces: Sequence[Surface],
    composition: Composition,
    letters: Letters,
    size: Size | None = None,
    printed: PrintSize | None = None,
    make: Callable[..., Any] | None = None,
) -> Any:
    """The figure that ``draw_contours`` writes; ``make`` makes an empty one, matplotlib's ``Figure`` by default."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    picture, scale = composition.picture, composition.scale
    assert scale is not None
    layout = composition.layout
    rows, columns = layout.rows, layout.columns
    tallest = max(_proportion(surface) for surface in surfaces)
    usual = (1220 * columns + 220, (round(1100 * tallest) + 250) * rows)
    inches, dpi = figure_size(usual, size, printed)
    pad = 0.1 if printed is None else 0.03
    figure = (make or Figure)(figsize=inches, dpi=dpi, layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad))
    cells = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    axes = cells[: len(surfaces)]
    for spare in cells[len(surfaces) :]:
        spare.set_axis_off()
    across = max(8, int(0.8 * 72 * inches[0] / columns / (0.55 * letters.title)))
    drawn = [
        draw_on(axis, surface, composition, number, letters, across)
        for number, (axis, surface) in enumerate(zip(axes, surfaces, strict=True))
    ][-1]
    if picture.style != "contour" and picture.scalar_bar:
        bar = figure.colorbar(drawn, ax=cells, shrink=0.85, aspect=20 * rows)
        bar.set_ticks([value for value, _ in scale.ticks], labels=[text for _, text in scale.ticks])
        bar.set_label(scale.title)
    if letters.in_print:
        entries = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
        beside = max(1, len(entries)) if sum(map(len, entries)) < 12 * inches[0] else 3
        if entries:  # a legend among the lines would hide most of a small figure
            handles, texts = list(entries.values()), list(entries)
            figure.legend(handles, texts, loc="outside lower center", ncols=beside, frameon=False, fontsize=letters.legend)
    if composition.note:
        figure.supxlabel(composition.note, x=0.01, ha="left", fontsize=letters.legend)
    return figure


def _way(surface: Surface, axis: str) -> str:
    words = way_in_words(surface.provenance, axis)
    return shown(words) if words else axis


def draw_on(axis: Any, surface: Surface, composition: Composition, number: int, letters: Letters, across: int = 60) -> Any:
    """Draw surface ``number`` of a composition into matplotlib's axes, with its paths, title and names of the axes.

    Args:
        axis: the axes.
        surface: the surface.
        composition: decides what is drawn.
        number: its panel.
        letters: sizes of letters.
        across: letters that a line of the title holds.

    Returns:
        What a color bar of it needs, or None.
    """
    panel = composition.panels[number]
    drawn = _draw_panel(axis, surface, composition, panel.options, letters)
    _draw_paths(axis, surface, panel.paths, letters)
    if panel.paths and not letters.in_print:
        axis.legend(loc="best", fontsize=letters.legend, framealpha=0.8)
    _draw_ends(axis, surface, letters)
    axis.set_title(shown("\n".join(lines_of(panel.label, across))), fontsize=letters.title)
    if letters.in_print:
        axis.locator_params(nbins=5)
    axis.set_aspect("equal" if _proportion(surface) == _ratio(surface) else "auto")
    shares = _numbers(surface.provenance.get("explained_variance_ratio"))
    for place, name in enumerate("xy"):
        whose = "paths'" if surface.trajectories else "path's"
        share = f" ({100 * shares[place]:.0f} % of the {whose} variance)" if len(shares) > place else ""
        label = (
            f"{name}{share.replace(f'the {whose} ', '')}" if letters.in_print else f"step along {_way(surface, name)}{share}"
        )
        getattr(axis, f"set_{name}label")(label)
    return drawn


def _draw_panel(axis: Any, surface: Surface, composition: Composition, options: GridOptions, letters: Letters) -> Any:
    """Draw one surface; returns what a color bar needs."""
    style, scale = composition.picture.style, composition.scale
    assert scale is not None
    heights = height_map(surface, options)
    values = np.ma.masked_invalid(uncut_values(surface.metric(heights.metric), heights))
    by_height = scale.array == heights.array
    colored = values if by_height else np.ma.masked_invalid(point_arrays(surface, heights)[scale.array])
    levels = np.array(composition.levels)
    levels = to_log(levels, options.log_offset) if options.log else levels
    raw = dict(zip(levels.tolist(), composition.levels, strict=True))
    x, y, colors = surface.x, surface.y, _color_map(scale, style == "contour")
    inside = levels[(levels > values.min()) & (levels < values.max())]
    if style == "heat":
        colored = np.ma.masked_where(values > level_of(heights), colored)
        return axis.pcolormesh(x, y, colored, cmap=colors, vmin=scale.low, vmax=scale.high, shading="nearest")
    if style == "filled":
        drawn = axis.contourf(x, y, colored, np.linspace(scale.low, scale.high, 41), cmap=colors)
        if len(inside):
            axis.contour(x, y, values, levels, colors="white", linewidths=0.4, linestyles="solid", alpha=0.7)
        if values.max() > level_of(heights):
            _clip_at(drawn, axis, surface, values, level_of(heights))
        return drawn
    if not len(inside):
        return None
    drawn = axis.contour(x, y, values, levels, cmap=colors, vmin=scale.low, vmax=scale.high, linewidths=1.1 * letters.stroke)
    metric = f"lines: {printable(heights.metric.replace('_', ' '))}"  # filled plots name it at their scale
    axis.text(1.02, 0.5, metric, rotation=90, va="center", transform=axis.transAxes, fontsize=letters.legend)
    places = _label_places(drawn.allsegs, axis, letters.small)
    if places:
        axis.clabel(
            drawn, fontsize=letters.small, manual=places,
            fmt=lambda value: level_text(raw[min(raw, key=lambda level: abs(level - value))]),
        )  # fmt: skip
    return drawn


def _clip_at(drawn: Any, axis: Any, surface: Surface, values: np.ndarray, level: float) -> None:
    """Hide the part of ``drawn`` where ``values`` lie above ``level``."""
    below = axis.contourf(surface.x, surface.y, values, [float(values.min()) - 1.0, level])
    drawn.set_clip_path(below.get_paths()[0], axis.transData)
    below.remove()


def _label_places(lines: Sequence[Sequence[np.ndarray]], axis: Any, points: float) -> list[tuple[float, float]]:
    """A place on each line, far from the labels of other lines; a line that has no room for one goes without.

    Args:
        lines: (n, 2) places of the pieces of each level's lines.
        axis: the plot.
        points: size of the letters.
    """
    low, high = (np.array([limits[k] for limits in (axis.get_xlim(), axis.get_ylim())]) for k in (0, 1))
    inches = axis.get_figure().get_size_inches()[0] * axis.get_position().width
    apart = 2.2 * points / (72 * inches)  # of the width of the plot: a label of three letters, and a gap
    chosen: list[np.ndarray] = []
    for piece in sorted((piece for level in lines for piece in level if len(piece) > 1), key=len, reverse=True):
        shares = (piece - low) / (high - low)
        inside = shares[((shares > 0.07) & (shares < 0.93)).all(axis=1)]
        length = np.hypot(*np.diff(shares, axis=0).T).sum()
        inside = inside[:: max(1, len(inside) // 60)]
        if not len(inside) or length < 3 * apart:
            continue
        distances = np.full(len(inside), 1.0)
        for other in chosen:
            distances = np.minimum(distances, np.hypot(*(inside - other).T))
        # Where others leave room, in the middle of the line.
        middle = 1 - np.abs(np.linspace(-1, 1, len(inside)))
        best = int(np.argmax(np.minimum(distances, 3 * apart) + 0.5 * apart * middle))
        if distances[best] > apart:
            chosen.append(inside[best])
    return [tuple(low + place * (high - low)) for place in chosen]


def _color_map(scale: ColorScale, lines: bool) -> Any:
    """The scale's colors for matplotlib; darker for lines, which need more ink than areas: the map's middle is nearly white."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(color_table(scale.color_map) * (LINE_INK if lines else 1.0), scale.color_map)


def _numbers(record: object) -> list[float]:
    """The numbers of a list in a file's record; none if it is something else."""
    return [float(share) for share in record if isinstance(share, int | float)] if isinstance(record, list) else []


def _ratio(surface: Surface) -> float:
    assert surface.y is not None
    return float(np.ptp(surface.y) / np.ptp(surface.x))


def _proportion(surface: Surface) -> float:
    """Height over width of a panel: that of the axes, or 1 where equal units would make a strip."""
    return _ratio(surface) if 1 / 3 < _ratio(surface) < 1.5 else 1.0


def _draw_paths(axis: Any, surface: Surface, drawn: Sequence[DrawnPath], letters: Letters) -> None:
    """Draw optimizer paths, with the names of several runs in the legend."""
    paths = list(surface.paths.values())
    for one in drawn:
        x, y = (np.asarray(paths[one.number][name]) for name in "xy")
        color, style = (one.color, {"label": shown(one.label)}) if one.label else ("black", {})
        axis.plot(x, y, "-", color=color, linewidth=1.2 * letters.stroke, zorder=3, **style)
        axis.scatter(x, y, s=9 * letters.stroke**2, color=[color], zorder=4)
        axis.scatter(x[0], y[0], s=36 * letters.stroke**2, facecolor="white", edgecolor=[color], zorder=5)
        axis.scatter(x[-1], y[-1], s=70 * letters.stroke**2, marker="*", color=[color], zorder=5)
    if drawn:  # entries without places: the ends of all paths look alike but for the color
        axis.scatter([], [], s=36 * letters.stroke**2, facecolor="white", edgecolor="black", label="start")
        axis.scatter([], [], s=70 * letters.stroke**2, marker="*", color="black", label="end")


def _draw_ends(axis: Any, surface: Surface, letters: Letters) -> None:
    """Mark the checkpoints that span the plane, if its directions lead to checkpoints."""
    spans = [bool(direction.get("to")) for direction in surface.provenance.get("directions", []) if isinstance(direction, dict)]
    if not any(spans):
        return
    places = [(0.0, 0.0, "center"), *((k == 0, k == 1, f"{'xy'[k]} end") for k, leads in enumerate(spans[:2]) if leads)]
    for x, y, name in places:
        axis.plot(
            float(x), float(y), "o", markersize=6 * letters.stroke, markerfacecolor="white", markeredgecolor="black", zorder=5
        )
        axis.annotate(name, (float(x), float(y)), textcoords="offset points", xytext=(7, 5), fontsize=letters.legend, zorder=5)
