"""The paper that a picture of surfaces is put on: cells with titles, color scale, axis labels, legend, note."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paraloss.converters.colors import color_table
from paraloss.converters.composition import ColorScale, Composition, Tick
from paraloss.converters.layout import Layout, has_scale
from paraloss.look import Color, Look
from paraloss.rendering.figures import marked, shown
from paraloss.text import lines_of

_DPI = 100


class Paper:
    """A grid of cells with titles above them, drawn by matplotlib.

    Args:
        layout: where the cells are.
        labels: one title per cell.
        look: background and color of letters.
        transparent: without a background.
    """

    def __init__(self, layout: Layout, labels: Sequence[str], look: Look, transparent: bool) -> None:
        from matplotlib.figure import Figure

        self.layout, self.look, self.transparent = layout, look, transparent
        self.size, self.cell, self.top, self.right, self.text = (
            layout.size, layout.cell, layout.top, layout.right, layout.text,
        )  # fmt: skip
        self.columns = layout.columns
        width, height = layout.size
        self.figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        self.figure.patch.set_facecolor(look.background)
        for number, label in enumerate(labels):
            row, column = divmod(number, layout.columns)
            x = (column + 0.5) * self.cell[0] / width
            y = 1 - (row * (self.cell[1] + self.top) + 0.6 * self.top) / height
            label, points = self._title(label)
            self.figure.text(x, y, shown(label), fontsize=points, color=look.text, ha="center", va="center", zorder=5)

    def _title(self, label: str) -> tuple[str, float]:
        """A cell's title and the size of its letters: a long one shrinks rather than runs into its neighbor.

        Letters that cannot shrink further take two lines; a letter is about half as wide as high.
        """
        height = 1.15 * self.text
        if self.layout.least:
            for height in (1.15 * self.text, self.text, self.layout.least):
                lines = lines_of(label, max(8, int(self.cell[0] / (0.55 * height))))
                if len(lines) <= 2:
                    break
            label = "\n".join(lines[:2]) + "…" * (len(lines) > 2)
        longest = max(1, *map(len, label.split("\n")))
        return label, self._points(min(height, self.cell[0] / (0.55 * longest)))

    def _points(self, height: float) -> float:
        """Size of letters of this height in pixels, as matplotlib takes it; not below the layout's smallest."""
        return max(height, self.layout.least) * 72 / _DPI

    def _apart(self, scale: ColorScale, tall: float, letter: float) -> list[Tick]:
        """The ticks of a scale, of ``tall`` pixels, without those whose text would overlap the next higher one.

        Letters that shrink with the picture leave all of them apart.
        """
        kept: list[Tick] = []
        for value, text in reversed(scale.ticks):
            gap = (kept[-1][0] - value) / (scale.high - scale.low) * tall if kept else letter * 2
            if not self.layout.least or gap > 1.15 * letter:
                kept.append((value, text))
        return kept[::-1]

    def fill(self, images: Sequence[np.ndarray | None]) -> None:
        """Put the pictures of the cells in their places; replaces earlier ones."""
        self.figure.images.clear()
        for number, image in enumerate(images):
            if image is not None:
                row, column = divmod(number, self.columns)
                bottom = self.size[1] - (row + 1) * (self.cell[1] + self.top)
                self.figure.figimage(image, column * self.cell[0], bottom, zorder=0)

    def save(self, path: Path, dots_per_inch: int = _DPI) -> None:
        """Write the picture; the file records ``dots_per_inch``, which gives its size in print."""
        face = "none" if self.transparent else self.look.background
        options = marked(path.suffix, "picture")
        options["pil_kwargs"] = {**options.get("pil_kwargs", {}), "dpi": (dots_per_inch, dots_per_inch)}
        self.figure.savefig(path, dpi=_DPI, transparent=self.transparent, facecolor=face, **options)

    def pixels(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def add_text(self, number: int, place: tuple[float, float], text: str, align: tuple[str, str], scale: float) -> None:
        """Write text at ``place`` (pixels from the upper left corner of cell ``number``)."""
        row, column = divmod(number, self.columns)
        x = (column * self.cell[0] + place[0]) / self.size[0]
        y = 1 - (row * (self.cell[1] + self.top) + self.top + place[1]) / self.size[1]
        points = self._points(scale * self.text)
        self.figure.text(x, y, text, fontsize=points, color=self.look.text, ha=align[0], va=align[1], zorder=6)

    def add_note(self, note: str) -> None:
        """Write a remark in the lower left corner."""
        points = self._points(0.7 * self.text)
        self.figure.text(0.008, 0.012, note, fontsize=points, color=self.look.text, alpha=0.75, zorder=6)

    def add_legend(self, entries: Sequence[tuple[str, Color]], cell: int = 0) -> None:
        """Write which color is which surface or path, in the upper left corner of a cell; long legends shrink."""
        if not entries:
            return
        row, column = divmod(cell, self.columns)
        text = min(self.text, self.cell[1] / (1.2 + 1.7 * len(entries)))
        left, top = column * self.cell[0] / self.size[0] + 0.012, row * (self.cell[1] + self.top) + self.top
        for number, (label, color) in enumerate(entries):
            y = 1 - (top + (1.2 + 1.7 * number) * text) / self.size[1]
            points = self._points(text)
            self.figure.text(left, y, "■ ", fontsize=points, color=color, va="center", zorder=6)
            offset = 1.6 * text / self.size[0]
            self.figure.text(left + offset, y, shown(label), fontsize=points, color=self.look.text, va="center", zorder=6)

    def add_bar(self, scale: ColorScale) -> None:
        """Draw a color scale on the right."""
        width = self.size[0]
        points = self._points(0.85 * self.text)
        axes = self.figure.add_axes(((width - self.right + 0.6 * self.text) / width, 0.16, 0.9 * self.text / width, 0.62))
        axes.imshow(
            color_table(scale.color_map)[:, None, :], extent=(0, 1, scale.low, scale.high), origin="lower", aspect="auto"
        )
        axes.set_xticks([])
        ticks = self._apart(scale, 0.62 * self.size[1], points * _DPI / 72)
        axes.set_yticks([value for value, _ in ticks], [text for _, text in ticks], fontsize=points)
        axes.yaxis.tick_right()
        axes.tick_params(length=points * 0.4, width=points * 0.08, color=self.look.text, labelcolor=self.look.text)
        lines = textwrap.wrap(scale.title, 12) or [""]
        room = self.right - 0.8 * self.text  # a long word shrinks; a letter is about half as wide as high
        title = min(points, self._points(room / max(1, 0.56 * max(map(len, lines)))))
        axes.set_title("\n".join(lines), fontsize=title, color=self.look.text, pad=points, loc="left")
        for spine in axes.spines.values():
            spine.set_linewidth(points * 0.05)
            spine.set_color(self.look.text)


class Frame(Paper):
    """The paper of a composition of surfaces, with its titles, scale, legend and note."""

    def __init__(self, composition: Composition) -> None:
        picture, labels = composition.picture, [panel.label for panel in composition.panels]
        super().__init__(composition.layout, [""] if picture.overlay else labels, composition.look, picture.transparent)
        if composition.scale is not None and has_scale(picture):
            self.add_bar(composition.scale)
        if picture.overlay:
            surfaces = [(panel.label, panel.color or composition.look.text) for panel in composition.panels]
            self.add_legend([*surfaces, *(entry for panel in composition.panels for entry in panel.legend)])
        else:
            for number, panel in enumerate(composition.panels):
                self.add_legend(panel.legend, number)
        if composition.note:
            self.add_note(composition.note)
