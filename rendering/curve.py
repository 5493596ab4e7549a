"""Curves (1D surfaces) with matplotlib: loss on the left axis, accuracy on the right, as in Li et al. 2018, figure 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.errors import InputError
from paraloss.height import OFFSET
from paraloss.picture_options import GridOptions
from paraloss.print_size import PrintSize
from paraloss.rendering.figures import Letters, drawing, figure_size, legend_below, marked, plain_powers, shown
from paraloss.surface import Surface
from paraloss.ways import way_in_words

COLORS = ("#1f4e9c", "#b5321e", "#2d7d46", "#7a4ea3", "#c77700", "#3a8f9e")
_STYLES = {"train": "-", "test": "--"}


def draw_curves(
    surfaces: Sequence[Surface],
    path: Path,
    labels: Sequence[str],
    options: GridOptions,
    transparent: bool = False,
    size: tuple[int, int] | None = None,
    printed: PrintSize | None = None,
) -> None:
    """Plot the losses of one or more curves, logarithmic unless ``options.log`` is False, and their accuracies.

    Args:
        surfaces: curves; pending points are left out.
        path: ``.png``, ``.jpg``, ``.pdf`` or ``.svg``.
        labels: one legend entry per curve.
        options: ``metric`` restricts the plot to one metric; ``zmin`` and ``zmax`` are the ends of the loss axis.
        transparent: without a background.
        size: pixels. Default: 1600×1000.
        printed: size in print, instead of ``size``.
    """
    with drawing(printed) as letters:
        inches, dpi = figure_size((1600, 1000), size, printed)
        figure = curve_figure(surfaces, labels, options, letters, inches, dpi)
        figure.savefig(path, transparent=transparent, **marked(path.suffix, "picture"))


def curve_figure(
    surfaces: Sequence[Surface],
    labels: Sequence[str],
    options: GridOptions,
    letters: Letters,
    inches: tuple[float, float],
    dpi: float,
    make: Callable[..., Any] | None = None,
) -> Any:
    """The figure that ``draw_curves`` writes; ``make`` makes an empty one, matplotlib's ``Figure`` by default."""
    from matplotlib.figure import Figure

    figure = (make or Figure)(figsize=inches, dpi=dpi, layout="constrained")
    lines = draw_on(figure.add_subplot(), surfaces, labels, options, letters)
    legend_below(figure, lines, letters, columns=2)
    return figure


def draw_on(left: Any, surfaces: Sequence[Surface], labels: Sequence[str], options: GridOptions, letters: Letters) -> list[Any]:
    """Draw losses into matplotlib's axes and accuracies into a second axis on their right; returns the lines, losses first."""
    from matplotlib import colormaps

    right = None
    losses: list[Any] = []
    accuracies: list[Any] = []
    for number, (surface, label) in enumerate(zip(surfaces, labels, strict=True)):
        names = [options.metric] if options.metric else [n for n in surface.metrics if n.endswith(("_loss", "_acc"))]
        for name in names:
            values = np.where(np.isfinite(surface.metric(name)), surface.metric(name), np.nan)
            style = _STYLES.get(name.split("_")[0], ":")
            color = COLORS[number] if len(surfaces) <= len(COLORS) else colormaps["turbo"]((number + 0.5) / len(surfaces))
            entry = ", ".join(part for part in (shown(label) if len(surfaces) > 1 else "", name.replace("_", " ")) if part)
            if name.endswith("_acc"):
                right = right or left.twinx()
                accuracies += right.plot(surface.x, values, style, color=color, alpha=0.45, label=entry)
            else:
                losses += left.plot(surface.x, values, style, color=color, linewidth=1.8, label=entry)
    heights = [np.asarray(line.get_ydata(), float) for line in losses]
    if losses and not any(np.isfinite(values).any() for values in heights):
        raise InputError("nothing to draw: no loss of a curve is finite")
    if options.log is not False and all((values > 0).any() for values in heights):
        if any((values < 0).any() for values in heights):  # a logarithmic axis would leave them out
            left.set_yscale("symlog", linthresh=options.log_offset or OFFSET)
        else:
            left.set_yscale("log")
    if letters.in_print and left.get_yscale() != "linear":
        plain_powers(left, letters)
    left.set_ylim(bottom=options.zmin, top=options.zmax)
    between = any("connected" in surface.provenance for surface in surfaces)
    ways = {way_in_words(surface.provenance, "x") for surface in surfaces}
    step = f"step along {ways.pop() or 'the direction'}" if len(ways) == 1 else "step along the direction"
    left.set_xlabel("way from one model to the other" if between else shown(step))
    left.set_ylabel((options.metric or "loss").replace("_", " "))
    left.grid(alpha=0.25)
    left.margins(x=0)
    if right is not None:
        right.set_ylabel("accuracy (%), pale")
        right.set_ylim(0, 101)
    if len(surfaces) == 1 and labels[0]:
        left.set_title(shown(labels[0]), fontsize=letters.title)
    return losses + accuracies
