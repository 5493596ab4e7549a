"""The Hessian's spectrum with matplotlib: density on a logarithmic axis, leading eigenvalues as ticks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paraloss.rendering.figures import drawing, save_figure, shown


def draw_spectrum(eigenvalues: np.ndarray, grid: np.ndarray, density: np.ndarray, path: Path, label: str = "") -> None:
    """Draw into ``path`` (``.png``, ``.pdf`` or ``.svg``), as in figure 1 of Ghorbani et al. 2019 (arXiv 1901.10159).

    Args:
        eigenvalues: (k,) leading eigenvalues.
        grid: (m,) eigenvalues at which the density is given.
        density: (m,) share of eigenvalues per unit.
        path: the picture.
        label: title.
    """
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(8, 4.5), dpi=200, layout="constrained")
        axes = figure.add_subplot()
        top = float(density.max())
        axes.fill_between(grid, np.maximum(density, 1e-7 * top), 1e-7 * top, color="#1f4e9c", alpha=0.35, linewidth=0)
        axes.plot(grid, np.maximum(density, 1e-7 * top), color="#1f4e9c", linewidth=1.2, label="density of all eigenvalues")
        axes.vlines(
            eigenvalues, 1e-7 * top, 1e-6 * top, color="#b5321e", linewidth=1.2, label=f"the {len(eigenvalues)} largest"
        )
        axes.set_yscale("log")
        axes.set_ylim(1e-7 * top, 3 * top)
        axes.set_xlabel("eigenvalue of the Hessian of the mean loss")
        axes.set_ylabel("density")
        axes.set_title(shown(label), fontsize=11)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)
        save_figure(figure, path, "spectrum")
