"""Where things are on the paper: cells, titles above them, room for the color scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paraloss.picture_options import PictureOptions

Size = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """A grid of cells of equal size.

    Attributes:
        size: width and height of the whole picture, pixels.
        rows: rows of cells.
        columns: columns of cells.
        cell: width and height of a cell, pixels.
        top: room above each row for titles, pixels.
        right: room on the right for the color scale, pixels.
        text: height of usual letters, pixels.
        least: height of the smallest letters, pixels; 0 lets them shrink.
        margin: share of each cell's width that the surface leaves free for a scale inside the cell.
    """

    size: Size
    rows: int
    columns: int
    cell: Size
    top: int = 0
    right: int = 0
    text: float = 0.0
    least: float = 0.0
    margin: float = 0.0

    @property
    def aspect(self) -> float:
        """Width over height of a cell."""
        return self.cell[0] / self.cell[1]


def framed(size: Size, picture: PictureOptions, labels: Sequence[str], text: float = 0.0, least: float = 0.0) -> Layout:
    """The layout of a picture with titles above its cells and the color scale on the right.

    Args:
        size: pixels of the picture.
        picture: options of the picture.
        labels: titles.
        text: height of usual letters, pixels. Default: by the size.
        least: height of the smallest letters, pixels.
    """
    rows, columns = picture.shape(len(labels))
    width, height = size
    text = text or 0.026 * min(height / rows**0.5, 1.6 * width / columns)
    right = round(6.5 * text) if has_scale(picture) else 0
    # Letters that must not shrink take two lines; a letter is about half as wide as high.
    two = least > 0 and max(map(len, labels), default=0) * 0.55 * 1.15 * text > (width - right) // columns
    top = round((3.6 if two else 2.4) * text) if any(labels) and not picture.overlay else 0
    return Layout(size, rows, columns, ((width - right) // columns, height // rows - top), top, right, text, least)


def bare(size: Size, picture: PictureOptions, number: int) -> Layout:
    """The layout of ``number`` views beside each other, with the color scale inside the last one."""
    aspect = size[0] / number / size[1]
    margin = 0.15 / aspect if has_scale(picture) else 0.0  # in every view, so that equal widths look equal
    return Layout(size, 1, number, (size[0] // number, size[1]), margin=margin)


def usual_size(picture: PictureOptions, number: int) -> Size:
    """Pixels of a lit picture if the user gives none: less for each of several."""
    rows, columns = picture.shape(number)
    if rows == columns == 1:
        return 1600, 900
    return (1100 * columns, 800) if rows == 1 else (900 * columns, 640 * rows)


def has_scale(picture: PictureOptions) -> bool:
    """Whether a color scale is drawn: not for surfaces of one color each."""
    return picture.scalar_bar and picture.color_is_value
