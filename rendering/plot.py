"""A surface as a figure of matplotlib, shown and returned instead of written: in a notebook, a window, or axes of your own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import imread

from paraloss.converters.composition import compose
from paraloss.converters.finer import drawn_finer
from paraloss.converters.layout import Layout
from paraloss.log import logger
from paraloss.picture_options import GridOptions, PictureOptions, combined
from paraloss.rendering import contour, curve
from paraloss.rendering.figures import drawing, figure_size
from paraloss.rendering.labels import default_label
from paraloss.rendering.picture import render, shown_part
from paraloss.surface import Surface

_IN_NOTEBOOKS = ("inline", "ipympl", "nbagg", "widget")
_DPI = 200


class ShownFigure(Figure):
    """A figure that a notebook shows once: as the value of the cell that made it, else at the end of that cell."""

    def _ipython_display_(self) -> None:
        from IPython.display import Image, display

        pyplot.close(self)  # else pyplot would show it again

        buffer = BytesIO()
        self.savefig(buffer, format="png")
        display(Image(buffer.getvalue()))


def plot(
    surface: Surface,
    ax: Axes | None = None,
    *,
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    labels: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    backend: str = "pyvista",
    **chosen: Any,
) -> Figure | SubFigure:
    """Draw a surface, a curve or a volume into a figure, show it, and return it.

    Args:
        surface: what is drawn; of one that is still being computed the finest complete sub-grid.
        ax: axes of a figure of your own; nothing is shown then. A lit surface is put into them as a picture.
        options: options of heights.
        picture: options of the picture; ``style`` is lit unless it is given.
        labels: the title, alone in a list. Default: model and accuracy.
        size: pixels.
        backend: ``pyvista``, ``paraview`` or ``auto``, see ``render``.
        chosen: single fields of ``GridOptions`` and ``PictureOptions``.

    Returns:
        The figure, that of ``ax`` if it is given.

    Raises:
        InputError: nothing to draw, or an option that does not fit.
    """
    options, picture = combined(options, picture, chosen, "plot")
    labels = list(labels) if labels else [default_label(surface)]
    if ax is not None and size is None:  # as fine as two pixels for each of a screen's
        box = ax.get_window_extent()
        size = max(200, round(2 * box.width)), max(200, round(2 * box.height))
    made = _made if ax is None else None
    figure: Any
    if surface.y is None:
        figure = _curve(shown_part(surface), ax, labels, options, size, made)
    elif surface.z is None and picture.from_above:
        figure = _from_above(shown_part(surface), ax, labels, options, picture, size, made)
    else:
        with tempfile.TemporaryDirectory(prefix="paraloss-") as folder:
            file = Path(folder) / "picture.png"
            render([surface], file, options=options, picture=picture, labels=labels, size=size, backend=backend)
            pixels = imread(file)
        if ax is None:
            figure = _made(figsize=(pixels.shape[1] / _DPI, pixels.shape[0] / _DPI), dpi=_DPI)
            axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        else:
            figure, axes = ax.figure, ax
        axes.imshow(pixels)
        axes.set_axis_off()
    if ax is None:
        _show(figure)
    shown: Figure | SubFigure = figure
    return shown


def _curve(
    surface: Surface,
    ax: Axes | None,
    labels: Sequence[str],
    options: GridOptions,
    size: tuple[int, int] | None,
    made: Callable[..., Any] | None,
) -> Any:
    with drawing() as letters:
        if ax is None:
            return curve.curve_figure([surface], labels, options, letters, *figure_size((1600, 1000), size, None), made)
        lines = curve.draw_on(ax, [surface], labels, options, letters)
        ax.legend(handles=lines, frameon=False, fontsize=letters.legend)
        return ax.figure


def _from_above(
    surface: Surface,
    ax: Axes | None,
    labels: Sequence[str],
    options: GridOptions,
    picture: PictureOptions,
    size: tuple[int, int] | None,
    made: Callable[..., Any] | None,
) -> Any:
    surface = drawn_finer([surface], options, picture)[0]
    composition = compose([surface], options, picture, labels, Layout(size or (1600, 900), 1, 1, size or (1600, 900)))
    with drawing() as letters:
        if ax is None:
            return contour.contour_figure([surface], composition, letters, size, None, made)
        contour.draw_on(ax, surface, composition, 0, letters)
        return ax.figure


def _made(**properties: Any) -> Figure:
    """An empty figure that pyplot knows of."""
    return pyplot.figure(FigureClass=ShownFigure, **properties)


def _show(figure: Figure) -> None:
    """Open a window, or leave it to the notebook; without either the figure is only returned."""
    if any(name in pyplot.get_backend().lower() for name in _IN_NOTEBOOKS):
        return
    if getattr(figure.canvas, "required_interactive_framework", None):
        pyplot.show()
        return
    pyplot.close(figure)
    logger.info("no window and no notebook to show the figure in: save the one that plot() returned, or give plot() a path")
