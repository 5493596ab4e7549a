"""Histograms of the weights of checkpoints, as in figure 2 of Li et al. 2018: what batch size and weight decay do to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paraloss.errors import InputError
from paraloss.files import check_output
from paraloss.print_size import PrintSize
from paraloss.rendering.curve import COLORS
from paraloss.rendering.figures import drawing, figure_size, legend_below, plain_powers, save_figure, shown
from paraloss.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_histograms(
    weights: Sequence[Mapping[str, np.ndarray]],
    path: Path,
    labels: Sequence[str],
    bins: int = 200,
    size: tuple[int, int] | None = None,
    printed: PrintSize | None = None,
) -> None:
    """Draw the distribution of all weights of dimension > 1 of each network, with their Euclidean norm in the legend.

    Args:
        weights: parameter name -> array, one mapping per network.
        path: ``.png``, ``.pdf`` or ``.svg``; it appears complete or not at all.
        labels: one per network.
        bins: number of bins, 200 by default, between the thousandth and the last thousandth of all values together.
        size: pixels at 200 dots per inch; 1600×1000 by default.
        printed: size in print, instead of ``size``.

    Raises:
        InputError: a network without such weights, or a folder that does not exist.
    """
    from matplotlib.figure import Figure

    check_output(path)
    values = []
    for one, label in zip(weights, labels, strict=True):
        flat = [np.asarray(array, float).ravel() for array in one.values() if array.ndim > 1]
        if not flat:
            raise InputError(f"{label}: holds no weights of two dimensions or more")
        values.append(np.concatenate(flat))
    low, high = np.quantile(np.concatenate(values), [0.001, 0.999])
    edges = np.linspace(low, high, bins + 1).tolist()
    with drawing(printed) as letters:
        inches, dpi = ((size[0] / 200, size[1] / 200), 200.0) if size else figure_size((1600, 1000), None, printed)
        figure = Figure(figsize=inches, dpi=dpi, layout="constrained")
        _draw(figure.add_subplot(), values, edges, labels)
        if letters.in_print:
            plain_powers(figure.axes[0], letters)
        legend_below(figure, figure.axes[0].get_legend_handles_labels()[0], letters)
        save_figure(figure, path, "histogram")


def _draw(axes: Axes, values: Sequence[np.ndarray], edges: Sequence[float], labels: Sequence[str]) -> None:
    for number, (flat_values, label) in enumerate(zip(values, labels, strict=True)):
        entry = f"{shown(printable(label))}: norm {np.linalg.norm(flat_values):.3g}, standard deviation {flat_values.std():.2g}"
        axes.hist(
            flat_values, edges, density=True, histtype="stepfilled", alpha=0.35, color=COLORS[number % len(COLORS)], label=entry
        )
        axes.hist(flat_values, edges, density=True, histtype="step", linewidth=1.0, color=COLORS[number % len(COLORS)])
    axes.set_yscale("log")
    axes.set_xlabel("weight")
    axes.set_ylabel("density")
    axes.grid(alpha=0.25)
