"""The size of a figure in print: its width in a paper, the size of its letters there, and dots per inch of pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from paraloss.errors import InputError

_INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27, "bp": 1 / 72}
"""Inches per unit of LaTeX."""


@dataclass(frozen=True)
class PrintSize:
    """A figure's size where it is printed.

    Attributes:
        width: width, inches.
        text: size of usual letters, points of 1/72 inch; the smallest are 1 point smaller.
        dpi: dots per inch of pictures made of pixels.
        written: the width as LaTeX writes it.
    """

    width: float
    text: float = 8.0
    dpi: int = 300
    written: str = ""

    @property
    def smallest(self) -> float:
        """Size of the smallest letters, points."""
        return self.text - 1

    def pixels(self, width: float, height: float) -> tuple[int, int]:
        """Pixels of a picture with the proportions of ``width`` to ``height``."""
        across = round(self.width * self.dpi)
        return across, round(across * height / width)

    def latex(self, name: str) -> str:
        """The line that puts the file ``name`` into a paper."""
        return f"\\includegraphics[width={self.written or f'{self.width:g}in'}]{{{name}}}"


VENUES = {
    "icml": PrintSize(3.25),  # one of two columns
    "neurips": PrintSize(5.5),  # the text's width
    "ieee": PrintSize(3.5),  # one of two columns
    "slides": PrintSize(10.0, text=16.0, dpi=192),  # on a slide of 13.3 by 7.5 inches
    "poster": PrintSize(16.0, text=28.0, dpi=200),
}


def print_size(text: str | PrintSize | None) -> PrintSize | None:
    """Find what a width means: a name in ``VENUES``, or a length as LaTeX writes it, such as ``3.3in`` or ``84mm``.

    Raises:
        InputError: neither, or a width outside 1 to 60 inches.
    """
    if text is None or isinstance(text, PrintSize):
        return text
    name = text.strip().lower()
    if name in VENUES:
        return VENUES[name]
    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,6})?)\s*(in|cm|mm|pt|bp)", name)
    inches = float(found[1]) * _INCHES[found[2]] if found else 0.0
    if not found or not 1 <= inches <= 60:
        raise InputError(
            f"{{width}} {text!r}: give a length of 1 to 60 inches with its unit, as in 3.3in or 84mm, or {', '.join(VENUES)}",
            arguments=("width",),
        )
    return PrintSize(inches, written=f"{found[1]}{found[2]}")
