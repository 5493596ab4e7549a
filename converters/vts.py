"""``.vts``: VTK XML structured grid, binary and compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vtkmodules.vtkIOXML import vtkXMLStructuredGridWriter

from paraloss.converters.formats import register
from paraloss.converters.grid import GridOptions, to_structured_grid
from paraloss.errors import InputError
from paraloss.surface import Surface


@register(".vts", "VTK structured grid (ParaView, VisIt, pyvista)")
def write_vts(surface: Surface, path: Path, options: GridOptions) -> None:
    """Write the structured grid of ``surface``; see ``to_structured_grid`` for what it holds."""
    write_xml(vtkXMLStructuredGridWriter(), to_structured_grid(surface, options), path)


def write_xml(writer: Any, data: Any, path: Path) -> None:
    """Write through one of vtk's XML writers: appended raw data, zlib.

    Raises:
        InputError: vtk could not write, as on a full disk.
    """
    writer.SetFileName(str(path))
    writer.SetInputData(data)
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetCompressorTypeToZLib()
    if writer.Write() != 1 or not path.exists():
        raise InputError(f"{path}: vtk could not write this file; is the disk full?")
