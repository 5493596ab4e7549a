"""The paper that a picture of surfaces is put on: cells with titles, the color scale, axis texts, a legend."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paraloss.converters import HeightMap
from paraloss.converters.colors import color_table
from paraloss.converters.scale import scale_ticks
from paraloss.look import Look

_DPI = 100


class Frame:
    """The picture's paper: a grid of cells with titles above, the color scale on the right, all by matplotlib."""

    def __init__(
        self,
        size: tuple[int, int],
        rows: int,
        columns: int,
        labels: Sequence[str],
        text: float,
        look: Look,
        transparent: bool,
        scalar_bar: bool,
    ) -> None:
        from matplotlib.figure import Figure

        self.size, self.rows, self.columns, self.look, self.transparent = size, rows, columns, look, transparent
        self.text = text
        width, height = size
        self.top = round(2.4 * text) if any(labels) else 0
        self.right = round(6.5 * text) if scalar_bar else 0
        self.cell = ((width - self.right) // columns, height // rows - self.top)
        self.figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        self.figure.patch.set_facecolor(look.background)
        for number, label in enumerate(labels):
            row, column = divmod(number, columns)
            x = (column + 0.5) * self.cell[0] / width
            y = 1 - (row * (self.cell[1] + self.top) + 0.6 * self.top) / height
            # A long title shrinks rather than runs into its neighbor; a letter is about half as wide as high.
            points = min(1.15 * text, self.cell[0] / max(1, 0.55 * len(label))) * 72 / _DPI
            self.figure.text(x, y, label, fontsize=points, color=look.text, ha="center", va="center", zorder=5)

    def fill(self, images: Sequence[np.ndarray | None]) -> None:
        """Put the cells' pictures in their places, instead of those there are."""
        self.figure.images.clear()
        for number, image in enumerate(images):
            if image is not None:
                row, column = divmod(number, self.columns)
                bottom = self.size[1] - (row + 1) * (self.cell[1] + self.top)
                self.figure.figimage(image, column * self.cell[0], bottom, zorder=0)

    def save(self, path: Path) -> None:
        face = "none" if self.transparent else self.look.background
        self.figure.savefig(path, dpi=_DPI, transparent=self.transparent, facecolor=face)

    def pixels(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def add_text(self, number: int, place: tuple[float, float], text: str, align: tuple[str, str], scale: float) -> None:
        """Text at ``place`` (pixels from the upper left corner of cell ``number``)."""
        row, column = divmod(number, self.columns)
        x = (column * self.cell[0] + place[0]) / self.size[0]
        y = 1 - (row * (self.cell[1] + self.top) + self.top + place[1]) / self.size[1]
        points = scale * self.text * 72 / _DPI
        self.figure.text(x, y, text, fontsize=points, color=self.look.text, ha=align[0], va=align[1], zorder=6)

    def add_note(self, note: str) -> None:
        """A remark in the lower left corner."""
        points = 0.7 * self.text * 72 / _DPI
        self.figure.text(0.008, 0.012, note, fontsize=points, color=self.look.text, alpha=0.75, zorder=6)

    def add_legend(self, labels: Sequence[str], colors: Sequence[tuple[float, float, float]]) -> None:
        """Which color is which surface, in the upper left corner."""
        points = 1.0 * self.text * 72 / _DPI
        for number, label in enumerate(labels):
            y = 1 - (1.2 + 1.7 * number) * self.text / self.size[1]
            color = colors[number % len(colors)]
            self.figure.text(0.012, y, "■ ", fontsize=points, color=color, va="center", zorder=6)
            offset = 1.6 * self.text / self.size[0]
            self.figure.text(0.012 + offset, y, label, fontsize=points, color=self.look.text, va="center", zorder=6)

    def add_scalar_bar(self, color_map: str, heights: HeightMap, low: float, high: float) -> None:
        """The color scale of ``heights`` on the right, with round ticks in the metric's own unit."""
        self.add_bar(color_map, scale_ticks(heights, low, high), low, high, heights.metric)

    def add_bar(self, color_map: str, ticks: Sequence[tuple[float, str]], low: float, high: float, metric: str) -> None:
        """A color scale from ``low`` to ``high`` with (place, text) ``ticks``."""
        width = self.size[0]
        points = 0.85 * self.text * 72 / _DPI
        axes = self.figure.add_axes(((width - self.right + 0.6 * self.text) / width, 0.16, 0.9 * self.text / width, 0.62))
        high = high if high > low else low + 1
        axes.imshow(color_table(color_map)[:, None, :], extent=(0, 1, low, high), origin="lower", aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([value for value, _ in ticks], [text for _, text in ticks], fontsize=points)
        axes.yaxis.tick_right()
        axes.tick_params(length=points * 0.4, width=points * 0.08, color=self.look.text, labelcolor=self.look.text)
        lines = textwrap.wrap(metric.replace("_", " "), 12) or [""]
        room = self.right - 0.8 * self.text  # a long word shrinks; a letter is about half as wide as high
        title = min(points, room / max(1, 0.56 * max(map(len, lines))) * 72 / _DPI)
        axes.set_title("\n".join(lines), fontsize=title, color=self.look.text, pad=points, loc="left")
        for spine in axes.spines.values():
            spine.set_linewidth(points * 0.05)
            spine.set_color(self.look.text)
