"""``.csv``: one row per point, for spreadsheets, R and gnuplot; curves and volumes too."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from paraloss.converters.formats import register
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface
from paraloss.text import printable


@register(".csv", "table, one row per point")
def write_csv(surface: Surface, path: Path, options: GridOptions) -> None:
    """Columns x, (y, z,) status and every metric as computed; x runs fastest. Pending values are empty."""
    axes = list(surface.axes)
    names = ["x", "y", "z"][: len(axes)]
    columns = [steps.ravel() for steps in reversed(np.meshgrid(*reversed(axes), indexing="ij"))] + [surface.status.ravel()]
    columns += [values.ravel() for values in surface.metrics.values()]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "status", *map(_cell, surface.metrics)])
        for row in zip(*[column.tolist() for column in columns], strict=True):
            pending = row[len(axes)] == 0
            writer.writerow(["" if pending and value != value else value for value in row])


def _cell(name: str) -> str:
    """A name from a file as the text of a cell: a spreadsheet must not take it for a formula."""
    text = printable(name)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
