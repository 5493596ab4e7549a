"""``.vts``: VTK XML structured grid, binary."""

from __future__ import annotations

from pathlib import Path

from vtkmodules.vtkIOXML import vtkXMLStructuredGridWriter

from paraloss.converters.formats import register
from paraloss.converters.grid import to_structured_grid
from paraloss.converters.xml_files import write_xml
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface


@register(".vts", "VTK structured grid (ParaView, VisIt, pyvista)", compresses=True)
def write_vts(surface: Surface, path: Path, options: GridOptions, compress: str = "none") -> None:
    """Write the structured grid of ``surface``; see ``to_structured_grid`` for what it holds."""
    write_xml(vtkXMLStructuredGridWriter(), to_structured_grid(surface, options), path, compress)
