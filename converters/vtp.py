"""``.vtp``: VTK XML polygonal data, binary."""

from __future__ import annotations

from pathlib import Path

from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from paraloss.converters.formats import register
from paraloss.converters.polygons import to_polydata
from paraloss.converters.xml_files import write_xml
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface


@register(".vtp", "VTK polygons (ParaView, Blender's importers)", compresses=True)
def write_vtp(surface: Surface, path: Path, options: GridOptions, compress: str = "none") -> None:
    """Write ``surface`` as polygons; see ``to_polydata``."""
    write_xml(vtkXMLPolyDataWriter(), to_polydata(surface, options), path, compress)
