"""A look at a ``.vts`` file before vtk reads it: vtk's reader believes the sizes that it is told and ends the process."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from paraloss.errors import InputError
from paraloss.files import check_input
from paraloss.text import printable
from paraloss.unpacking import check_size

_LONGEST_HEAD = 1 << 20  # bytes of XML in front of the data
_BYTES = {"Float64": 8, "Int64": 8, "UInt64": 8, "Float32": 4, "Int32": 4, "UInt32": 4, "Int8": 1, "UInt8": 1}
_HEADERS = {"UInt32": "I", "UInt64": "Q"}  # header_type -> letter of struct
_COMPRESSORS = (None, "vtkZLibDataCompressor", "vtkLZ4DataCompressor")


def check_grid_file(path: str | Path) -> None:
    """Refuse a structured grid whose head is no XML of vtk's, or claims more than the file can hold.

    Args:
        path: a ``.vts`` file.

    Raises:
        InputError: no such file, no head of at most 1 MiB, extents or array sizes that do not fit, other blocks than promised.

    Source: VTK file formats, "XML file formats", appended raw data. Not compressed: number of bytes; then these. Compressed:
    number of blocks, size of a block, size of the last one (0: as the others), compressed size of each; then the blocks.
    """
    path = Path(path)
    check_input(path)
    root, start = _head(path)
    grid = root.find("StructuredGrid")
    pieces = [] if grid is None else grid.findall("Piece")
    if root.get("type") != "StructuredGrid" or grid is None or len(pieces) != 1:
        raise InputError(f"{path}: is no structured grid in one piece; write one with: paraloss convert SURFACE.h5 GRID.vts")
    extent = _extent(path, grid.get("WholeExtent"))
    if _extent(path, pieces[0].get("Extent")) != extent:
        raise InputError(f"{path}: the extent of its piece is not that of the grid; the file was edited or damaged")
    within_piece = [*pieces[0].iter()]
    points = math.prod(high - low + 1 for low, high in zip(extent[::2], extent[1::2], strict=True))
    with path.open("rb") as file:
        for array in root.iter():
            if array.tag in ("DataArray", "Array"):
                _check_array(path, file, start, array, points if array in within_piece else None, root)


def _head(path: Path) -> tuple[ElementTree.Element, int]:
    """The elements in front of the appended data, and where these begin in the file."""
    with path.open("rb") as file:
        text = file.read(_LONGEST_HEAD)
    found = re.search(rb'<AppendedData encoding="raw">\s*_', text)
    try:
        if found is None:
            raise ValueError("no appended raw data")
        head = text[: found.start()].decode("utf-8")
        if "\0" in head or "<!" in head:  # zeros: the parser would take it for UTF-16, in which entities go unseen
            raise ValueError("zeros, a document type, entities or a comment")
        root = ElementTree.fromstring(head + "</VTKFile>")
        if root.get("byte_order") != "LittleEndian" or root.get("header_type") not in _HEADERS:
            raise ValueError("another byte order or header type than LittleEndian and UInt32 or UInt64")
        if root.get("compressor") not in _COMPRESSORS:
            raise ValueError(f"another compressor than {' and '.join(filter(None, _COMPRESSORS))}")
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is damaged, or no grid that Paraloss wrote ({error}); write it again: paraloss convert"
        ) from error
    return root, found.end()


def _extent(path: Path, text: str | None) -> tuple[int, ...]:
    words = (text or "").split()
    numbers = tuple(int(word) for word in words if re.fullmatch(r"-?\d{1,9}", word))
    if len(words) != 6 or len(numbers) != 6 or any(low > high for low, high in zip(numbers[::2], numbers[1::2], strict=True)):
        raise InputError(f"{path}: '{(text or '')[:60]}' is no extent of a grid; the file was edited or damaged")
    return numbers


def _check_array(
    path: Path, file: BinaryIO, start: int, array: ElementTree.Element, points: int | None, root: ElementTree.Element
) -> None:
    """Check the sizes of an array against what the file holds of it: what vtk reserves, and what it then fills.

    Args:
        path: for messages.
        file: the file.
        start: where the appended data begin.
        array: the array's element.
        points: number of tuples of an array over the points; None where the element gives it.
        root: the file's element, which names the header type and the compressor.
    """
    name = printable(array.get("Name", ""))[:60]
    numbers = {key: array.get(key, "1") for key in ("NumberOfComponents", "NumberOfTuples", "offset")}
    if not all(re.fullmatch(r"\d{1,15}", text) for text in numbers.values()):
        raise InputError(f"{path}: the array '{name}' has sizes that are no numbers; the file was edited or damaged")
    components, tuples, offset = (int(text) for text in numbers.values())
    file.seek(start + offset)
    held = path.stat().st_size - start - offset
    sizes = _packed_sizes if root.get("compressor") else _raw_sizes
    whole, taken = sizes(file, held, _HEADERS[root.get("header_type", "")])
    kind = array.get("type", "")
    wanted = components * (tuples if points is None else points) * _BYTES.get(kind, 0)
    if taken > held or (whole != wanted if kind != "String" else tuples > whole):
        raise InputError(f"{path}: the array '{name}' does not hold the numbers that the file's head promises; it is damaged")
    check_size(path, whole, held, f"the array '{name}'")


def _raw_sizes(file: BinaryIO, held: int, letter: str) -> tuple[int, int]:
    """(bytes of an array, bytes that it takes in the file) of numbers that are not compressed."""
    (size,) = _unpacked(file, 1, letter)
    return size, size + struct.calcsize(letter)


def _packed_sizes(file: BinaryIO, held: int, letter: str) -> tuple[int, int]:
    """(bytes of an array, bytes that it takes in the file) of numbers in compressed blocks."""
    blocks, size, last = _unpacked(file, 3, letter)
    head = (3 + blocks) * struct.calcsize(letter)
    if head > held or last > size:
        return 0, held + 1
    return (blocks - bool(last)) * size + last, head + sum(_unpacked(file, blocks, letter))


def _unpacked(file: BinaryIO, count: int, letter: str) -> tuple[int, ...]:
    """``count`` whole numbers; zeros where the file ends."""
    size = count * struct.calcsize(letter)
    return struct.unpack(f"<{count}{letter}", file.read(size).ljust(size, b"\0"))
