"""Figures of matplotlib into files: complete or absent, and marked so that the same command may replace them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraloss.files import replacing
from paraloss.marks import mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
