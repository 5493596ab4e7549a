"""Texts on the command line that several verbs parse alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paraloss.errors import InputError


def split_output(files: Sequence[Path], output: Path | None, suffixes: Sequence[str]) -> tuple[list[Path], Path]:
    """Inputs and output of ``VERB a.h5 b.h5 out.png`` and of ``VERB a.h5 b.h5 -o out.png``.

    Raises:
        InputError: no input, or no output of a known kind.
    """
    inputs = list(files)
    if output is None:
        forgotten = len(inputs) < 2 or (inputs[-1].suffix.lower() not in suffixes and inputs[-1].exists())
        if forgotten:
            raise InputError(f"name what to write last, or with -o; its ending decides the format: {' '.join(suffixes)}")
        output = inputs.pop()
    if not inputs:
        raise InputError("name at least one surface file, as in surface.h5")
    if output.suffix.lower() not in suffixes:
        raise InputError(f"{output}: unknown ending '{output.suffix}'; there are {' '.join(suffixes)}")
    if not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist; create it first")
    return inputs, output


_SHEETS = {"a0": (14043, 9933), "a1": (9933, 7016), "a2": (7016, 4961), "a3": (4961, 3508), "a4": (3508, 2480)}


def parse_size(text: str) -> tuple[int, int]:
    """``1600x900`` -> (1600, 900); ``a0`` to ``a4`` are sheets on their long side, at 300 dots per inch.

    Raises:
        InputError: another form, or a side outside 100..16384.
    """
    if text.lower() in _SHEETS:
        return _SHEETS[text.lower()]
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and all(100 <= int(side) <= 16384 for side in (width, height))):
        raise InputError(f"--size {text}: give WIDTHxHEIGHT in pixels, each 100 to 16384, as in 1600x900, or a0 to a4")
    return int(width), int(height)
