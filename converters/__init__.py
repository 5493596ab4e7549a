"""From surfaces to VTK data sets and files. Needs numpy and vtk only, so that ParaView can load it."""

from paraloss.converters.formats import FORMATS, convert, write
from paraloss.converters.grid import GridOptions, HeightMap, height_map, to_polydata, to_structured_grid

__all__ = [
    "FORMATS",
    "GridOptions",
    "HeightMap",
    "convert",
    "height_map",
    "to_polydata",
    "to_structured_grid",
    "write",
]
