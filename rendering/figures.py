"""Figures of matplotlib into files: complete or absent, and marked so that the same command may replace them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraloss.files import replacing
from paraloss.marks import mark
from paraloss.print_size import PrintSize
from paraloss.text import lines_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Letters:
    """Sizes of letters in a figure, points: titles, legends and the numbers on contour lines; all else has ``usual``.

    Lines and marks have ``stroke`` times their usual size.
    """

    title: float = 11.0
    usual: float = 10.0
    legend: float = 8.0
    small: float = 7.0
    stroke: float = 1.0
    in_print: bool = False


@contextmanager
def drawing(printed: PrintSize | None = None) -> Iterator[Letters]:
    """Draw figures within: letters of the size in print, embedded in PDF and PostScript as TrueType (publishers refuse Type 3).

    Yields:
        The sizes of letters.
    """
    from matplotlib import rc_context

    letters = Letters()
    if printed is not None:
        letters = Letters(printed.text, printed.text, printed.smallest, printed.smallest, 0.07 * printed.text, in_print=True)
    settings: Any = {"pdf.fonttype": 42, "ps.fonttype": 42}
    if printed is not None:
        settings |= {"font.size": letters.usual, "axes.labelsize": letters.usual, "axes.titlesize": letters.title}
        settings |= {"xtick.labelsize": letters.small, "ytick.labelsize": letters.small}
        # Lines as thin as the letters are small: matplotlib's widths suit letters of 10 points.
        settings |= {"axes.linewidth": 0.08 * letters.usual, "lines.linewidth": 0.15 * letters.usual}
        settings |= {"legend.handlelength": 1.2, "legend.handletextpad": 0.4, "legend.columnspacing": 1.0}
    with rc_context(settings):
        yield letters


def figure_size(
    usual: tuple[float, float], size: tuple[int, int] | None, printed: PrintSize | None
) -> tuple[tuple[float, float], float]:
    """Inches of a figure and its dots per inch.

    Args:
        usual: pixels of the figure at 200 dots per inch where nothing else is asked for.
        size: pixels; letters shrink with a picture that is smaller than usual.
        printed: size in print, instead of ``size``.
    """
    if printed is not None:
        return (printed.width, printed.width * usual[1] / usual[0]), float(printed.dpi)
    width, height = size or usual
    dpi = 200 * min(1.0, width / usual[0], height / usual[1])
    return (width / dpi, height / dpi), dpi


def shown(text: str) -> str:
    """A label as matplotlib draws it: formulas between dollar signs where they are formulas, else the text as it is."""
    from matplotlib.mathtext import MathTextParser

    if text.count("$") < 2:
        return text
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text


def legend_below(figure: Figure, handles: Sequence[Artist], letters: Letters, columns: int = 1) -> None:
    """Put a legend below the axes: in ``columns``, or in one where these are wider than the figure, long entries in lines.

    A figure in print grows by what a higher legend takes; any other keeps its size.
    """

    def add(columns: int) -> tuple[float, float]:
        for before in figure.legends:
            before.remove()
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=letters.legend
        )
        box = legend.get_window_extent()
        return box.width / figure.dpi, box.height / figure.dpi

    wide, height = add(columns)
    high = height
    if wide > figure.get_figwidth():
        wide, high = add(1)
    if wide > figure.get_figwidth():
        texts = [str(handle.get_label()) for handle in handles]
        most = int(0.9 * max(map(len, texts)) * figure.get_figwidth() / wide)
        for handle, text in zip(handles, texts, strict=True):
            handle.set_label("\n".join(lines_of(text, max(8, most))))
        wide, high = add(1)
    if letters.in_print and high > height:
        figure.set_figheight(figure.get_figheight() + high - height)


def plain_powers(axes: Axes, letters: Letters) -> None:
    """Write the numbers of a logarithmic y axis as 0.01 and 1e-05: in print an exponent would be too small to read."""
    from matplotlib.ticker import LogFormatter

    class Between(LogFormatter):
        """Numbers between powers of ten where they have room: 2, 3, 4 and 6, else 2 and 4, else none."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            low, high = axes.get_ylim()
            powers = abs(math.log10(high / low)) if low > 0 else 1.0  # else the axis is linear about zero
            room = axes.bbox.height / axes.figure.dpi * 72 / powers / (1.3 * letters.small)  # lines of text in a power of ten
            least = {"2": 0.3, "4": 0.3}.get(f"{abs(x):e}"[0], 0.12)  # powers of ten to the next number, log10(4 / 3) for 3
            return f"{x:g}" if super().__call__(x, pos) and least * room >= 1 else ""

    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(Between(minor_thresholds=(2, 0.4)))


def save_figure(figure: Figure, path: Path, purpose: str, **options: Any) -> None:
    """Write ``figure`` to ``path``, ``.png``, ``.jpg``, ``.pdf`` or ``.svg``; it appears complete or not at all.

    Args:
        figure: figure to write.
        path: the picture; its ending decides the format.
        purpose: see ``paraloss.marks.mark``.
        options: further options of ``Figure.savefig``.

    Raises:
        InputError: ``path`` cannot be written, see ``paraloss.files.replacing``.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, **marked(path.suffix, purpose), **options)


def marked(suffix: str, purpose: str) -> dict[str, Any]:
    """Return the options of ``Figure.savefig`` that put the mark of ``purpose`` into a file of this ending."""
    kind = suffix.lower()
    if kind in (".jpg", ".jpeg"):
        return {"pil_kwargs": {"comment": mark(purpose)}}
    return {"metadata": {"Software" if kind == ".png" else "Creator": mark(purpose)}}
