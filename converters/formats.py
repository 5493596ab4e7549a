"""Which ending is written by which module. A new format is one new module that calls ``register``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from paraloss.converters.li2018 import open_surface, to_li2018_polydata, write_layout
from paraloss.converters.xml_files import write_xml
from paraloss.errors import InputError
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface

Writer = Callable[[Surface, Path, GridOptions], None]

_FOR_VOLUMES = (".vti", ".vtkhdf", ".hdf", ".npz", ".csv")
_MODULES = ("vts", "vtp", "volume", "vtkhdf", "meshes", "arrays", "csv_table")


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


def convert(
    source: str | Path | Sequence[str | Path], target: str | Path, options: GridOptions | None = None, layout: str = "paraloss"
) -> Path:
    """Convert a surface file, ours or Li et al.'s; the ending of ``target`` decides the format.

    Args:
        source: one file; several for a time series (``.pvd``), in the order of time.
        target: what to write. ``.h5`` is a surface file in Li et al.'s layout.
        options: how heights are made.
        layout: ``li2018`` writes a ``.vtp`` with the arrays and plain heights of Li et al.'s converter.

    Of a surface that is still being computed its finest complete sub-grid is written.

    Raises:
        SurfaceFileError: ``source`` cannot be read.
        InputError: unknown ending, or options that do not fit.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    target = Path(target)
    if any(one.resolve() == target.resolve() for one in sources):
        raise InputError(f"{target}: is the source itself; give the result another name")
    if target.suffix.lower() == ".pvd":
        return _write_series(sources, target, options)
    if len(sources) != 1:
        raise InputError(f"{len(sources)} files go into a time series (.pvd); '{target.suffix}' takes one")
    return write(open_surface(sources[0]).drawable(), target, options, layout)


def write(surface: Surface, target: str | Path, options: GridOptions | None = None, layout: str = "paraloss") -> Path:
    """Write a surface in the format of ``target``'s ending; the file appears complete or not at all."""
    target, options = Path(target), options or GridOptions()
    suffix = target.suffix.lower()
    if layout == "li2018" and suffix == ".vtp":
        return atomically(target, lambda path: write_xml(vtkXMLPolyDataWriter(), to_li2018_polydata(surface, options), path))
    if layout != "paraloss":
        raise InputError(f"the layout '{layout}' with '{suffix}' is not known; there is li2018 for .vtp")
    if suffix == ".h5":
        return atomically(target, lambda path: write_layout(surface, path))
    if suffix not in FORMATS:
        raise InputError(f"{target}: unknown ending '{target.suffix}'; there are {' '.join(ENDINGS)}")
    if surface.z is not None and suffix not in _FOR_VOLUMES:
        raise InputError(f"{target}: this is a volume (3D); it goes to {' '.join(_FOR_VOLUMES)}")
    return atomically(target, lambda path: FORMATS[suffix].write(surface, path, options))


def _write_series(sources: Sequence[Path], target: Path, options: GridOptions | None) -> Path:
    """``.pvd``: a collection that ParaView plays; its grids lie in a folder of the same name beside it."""
    folder = target.with_suffix("")
    check_folder(target)
    folder.mkdir(exist_ok=True)
    root = ElementTree.Element("VTKFile", type="Collection", version="0.1")
    collection = ElementTree.SubElement(root, "Collection")
    for step, source in enumerate(sources):
        part = write(open_surface(source).drawable(), folder / f"{source.stem}.vts", options)
        ElementTree.SubElement(collection, "DataSet", timestep=str(step), file=f"{folder.name}/{part.name}")
    return atomically(target, lambda path: ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True))


def check_folder(target: Path) -> None:
    """Raise InputError where ``target`` cannot be made."""
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{target}: the folder {target.parent} cannot be written to")


def atomically(target: Path, work: Callable[[Path], object]) -> Path:
    """Let ``work`` write under a temporary name, then rename; nothing is left behind when it fails."""
    check_folder(target)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        work(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _load_all() -> None:
    for name in _MODULES:
        import_module(f"paraloss.converters.{name}")


_load_all()
ENDINGS = (*FORMATS, ".pvd", ".h5")
