"""All figures of one or several surfaces for a paper, in one folder: lit, contours, curves, a page, captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paraloss.files import check_output, replacing
from paraloss.marks import mark
from paraloss.print_size import PrintSize
from paraloss.rendering.caption import caption
from paraloss.rendering.labels import default_labels
from paraloss.rendering.picture import render
from paraloss.rendering.web import write_page
from paraloss.surface import Surface

PARTS = {
    "surfaces.png": "picture",
    "contours.pdf": "picture",
    "curves.pdf": "picture",
    "surfaces.html": "page",
    "caption.txt": "caption",
}
"""Files of a set, and the purpose by which each is recognized."""


def check_set(folder: Path, overwrite: bool = False) -> None:
    """Check that the files of a set may be written into ``folder``.

    Raises:
        InputError: one is something else than a part of a set.
    """
    for name, purpose in PARTS.items():
        check_output(folder / name, purpose, overwrite=overwrite)


def draw_set(
    surfaces: Sequence[Surface],
    curves: Sequence[Surface],
    folder: Path,
    names: Sequence[str],
    width: PrintSize,
) -> list[Path]:
    """Draw ``surfaces`` lit and as contours, ``curves`` in one plot, a page, and write the captions.

    Args:
        surfaces: surfaces with two axes.
        curves: curves along the first direction of each.
        folder: an existing folder for the files in ``PARTS``.
        names: names of the surfaces where nothing recorded tells them apart.
        width: width of each figure in print.

    Returns:
        The files.
    """
    labels = default_labels(surfaces, names)
    files = [folder / name for name in PARTS]
    lit, contours, lines, page, text = files
    render(surfaces, lit, labels=labels, width=width, backend="auto")
    render(surfaces, contours, labels=labels, width=width)
    render(curves, lines, labels=labels, width=width)
    write_page(surfaces, page, labels)
    parts = [caption(surface, label) for surface, label in zip(surfaces, labels, strict=True)]
    parts += [f"Curves: the same along x alone, {len(curves[0].x)} points."]
    parts += [width.latex(file.name) for file in (lit, contours, lines)]
    with replacing(text) as temporary:
        temporary.write_text("\n\n".join([*parts, f"({mark('caption')})"]) + "\n", encoding="utf-8")
    return files
