"""Which ending is written by which module. A new format is one new module that calls ``register``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from paraloss.converters.li2018 import open_surface, to_li2018_polydata, write_layout
from paraloss.converters.paths import colored_paths
from paraloss.converters.xml_files import check_compression, write_xml
from paraloss.errors import InputError
from paraloss.files import check_output, replacing
from paraloss.marks import mark
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface

Writer = Callable[..., None]
"""(surface, path, options), and the compression where the format has one."""

_FOR_VOLUMES = (".vti", ".vtkhdf", ".hdf", ".npz", ".csv")
_AS_GIVEN = (".npz", ".csv")
_MODULES = ("vts", "vtp", "volume", "vtkhdf", "meshes", "gltf", "arrays", "csv_table")


@dataclass(frozen=True)
class Format:
    """A file format: its ending, its one-line description, the function that writes it, and whether it can be compressed."""

    suffix: str
    description: str
    write: Writer
    compresses: bool = False


FORMATS: dict[str, Format] = {}


def register(suffix: str, description: str, compresses: bool = False) -> Callable[[Writer], Writer]:
    """Decorator: make a function the writer of files that end in ``suffix``."""

    def keep(writer: Writer) -> Writer:
        FORMATS[suffix] = Format(suffix, description, writer, compresses)
        return writer

    return keep


def convert(
    source: str | Path | Sequence[str | Path],
    target: str | Path,
    options: GridOptions | None = None,
    layout: str = "paraloss",
    overwrite: bool = False,
    compress: str | None = None,
) -> Path:
    """Convert a surface file of Paraloss or of Li et al.; the ending of ``target`` decides the format.

    Args:
        source: one file; several for a time series (``.pvd``), in the order of time.
        target: what to write. ``.h5`` is a surface file in Li et al.'s layout.
        options: how heights are made.
        layout: ``li2018`` writes a ``.vtp`` with the arrays and plain heights of Li et al.'s converter; ``paths`` one with
            the optimizer paths alone, see ``paraloss.converters.paths.colored_paths``.
        overwrite: replace a file that ``convert`` did not make; never a source.
        compress: ``none``, ``lz4`` or ``zlib``, for .vts, .vtp, .vti, .pvd; ``none`` or ``zlib`` for .vtkhdf and .hdf.
            Default: none, which is written and read fastest.

    Of a surface that is still being computed its finest complete sub-grid is written.

    Raises:
        SurfaceFileError: ``source`` cannot be read.
        InputError: unknown ending, options that do not fit, or ``target`` must not be replaced.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    target = Path(target)
    check_output(target, purpose_of(target), sources, overwrite)
    if target.suffix.lower() == ".pvd":
        return _write_series(sources, target, options, overwrite, compress)
    if len(sources) != 1:
        raise InputError(f"{len(sources)} files go into a time series (.pvd); '{target.suffix}' takes one")
    return write(open_surface(sources[0]).drawable(), target, options, layout, compress)


def write(
    surface: Surface,
    target: str | Path,
    options: GridOptions | None = None,
    layout: str = "paraloss",
    compress: str | None = None,
) -> Path:
    """Write a surface in the format of ``target``'s ending; the file appears complete or not at all.

    Arguments and errors are those of ``convert``.
    """
    target, options = Path(target), options or GridOptions()
    suffix = target.suffix.lower()
    packing = {} if compress is None else {"compress": compress}
    check_compression(compress or "none")
    polygons = {"li2018": to_li2018_polydata, "paths": colored_paths}
    if layout in polygons and suffix == ".vtp":
        make = polygons[layout]
        return _written(target, lambda path: write_xml(vtkXMLPolyDataWriter(), make(surface, options), path, **packing))
    if layout != "paraloss":
        raise InputError(f"the layout '{layout}' with '{suffix}' is not known; there are li2018 and paths for .vtp")
    if suffix == ".h5":
        return _written(target, lambda path: write_layout(surface, path))
    if suffix not in FORMATS:
        raise InputError(f"{target}: unknown ending '{target.suffix}'; there are {' '.join(ENDINGS)}")
    if surface.z is not None and suffix not in _FOR_VOLUMES:
        raise InputError(f"{target}: this is a volume (3D); it goes to {' '.join(_FOR_VOLUMES)}")
    if compress is not None and not FORMATS[suffix].compresses:
        packed = " ".join(ending for ending, kind in FORMATS.items() if kind.compresses)
        raise InputError(f"{{compress}} is for {packed} .pvd; '{suffix}' has one form only", arguments=("compress",))
    if suffix not in _AS_GIVEN:  # polygons are seen from above
        surface = surface.ascending()
    return _written(target, lambda path: FORMATS[suffix].write(surface, path, options, **packing))


def purpose_of(target: Path) -> str:
    """The purpose by which ``convert`` recognizes what it wrote, see ``paraloss.marks.mark``."""
    return "table" if target.suffix.lower() == ".csv" else "conversion"


def _write_series(
    sources: Sequence[Path], target: Path, options: GridOptions | None, overwrite: bool, compress: str | None
) -> Path:
    """``.pvd``: a collection that ParaView plays; its grids lie in a folder of the same name beside it."""
    folder = target.with_suffix("")
    stems = [source.stem for source in sources]
    names = [stem if stems.count(stem) == 1 else f"{stem}_{step:04d}" for step, stem in enumerate(stems)]
    if len(set(names)) < len(names):  # a_0001 beside two of the name a
        names = [f"step_{step:04d}" for step in range(len(names))]
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder for the series ({error.strerror}); choose another name") from error
    parts = [folder / f"{name}.vts" for name in names]
    for part in parts:
        check_output(part, "conversion", sources, overwrite)
    root = ElementTree.Element("VTKFile", type="Collection", version="0.1")
    collection = ElementTree.SubElement(root, "Collection")
    for step, (source, part) in enumerate(zip(sources, parts, strict=True)):
        write(open_surface(source).drawable(), part, options, compress=compress)
        ElementTree.SubElement(collection, "DataSet", timestep=str(step), file=f"{folder.name}/{part.name}")
    root.append(ElementTree.Comment(mark("conversion")))
    return _written(target, lambda path: ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True))


def _written(target: Path, work: Callable[[Path], object]) -> Path:
    """Let ``work`` write under a temporary name; see ``paraloss.files.replacing``."""
    with replacing(target) as temporary:
        work(temporary)
    return target


def _load_all() -> None:
    for name in _MODULES:
        import_module(f"paraloss.converters.{name}")


_load_all()
ENDINGS = (*FORMATS, ".pvd", ".h5")
