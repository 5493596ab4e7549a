"""Which ending is written by which module. A new format is one new module that calls ``register``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from paraloss.converters.grid import GridOptions
from paraloss.converters.li2018 import open_surface
from paraloss.errors import InputError
from paraloss.surface import Surface

Writer = Callable[[Surface, Path, GridOptions], None]

_MODULES = ("vts", "vtp", "csv_table")


@dataclass(frozen=True)
class Format:
    """A file format: its ending, its one-line description and the function that writes it."""

    suffix: str
    description: str
    write: Writer


FORMATS: dict[str, Format] = {}


def register(suffix: str, description: str) -> Callable[[Writer], Writer]:
    """Decorator: make a function the writer of files that end in ``suffix``."""

    def keep(writer: Writer) -> Writer:
        FORMATS[suffix] = Format(suffix, description, writer)
        return writer

    return keep


def convert(source: str | Path, target: str | Path, options: GridOptions | None = None) -> Path:
    """Convert a surface file, ours or Li et al.'s; the ending of ``target`` decides the format.

    Of a surface that is still being computed its finest complete sub-grid is written.

    Raises:
        SurfaceFileError: ``source`` cannot be read.
        InputError: unknown ending, or options that do not fit.
    """
    return write(open_surface(source).drawable(), target, options)


def write(surface: Surface, target: str | Path, options: GridOptions | None = None) -> Path:
    """Write a surface in the format of ``target``'s ending; the file appears complete or not at all."""
    target = Path(target)
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"{target}: unknown ending '{target.suffix}'; there are {' '.join(FORMATS)}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{target}: the folder {target.parent} cannot be written to")
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        FORMATS[target.suffix.lower()].write(surface, temporary, options or GridOptions())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _load_all() -> None:
    for name in _MODULES:
        import_module(f"paraloss.converters.{name}")


_load_all()
