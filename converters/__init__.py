"""From surfaces to VTK data sets and files. Needs numpy and vtk only, so that ParaView can load it."""

from paraloss.converters.formats import ENDINGS, FORMATS, convert, write
from paraloss.converters.grid import HeightMap, height_map, to_structured_grid
from paraloss.converters.li2018 import is_li2018, open_surface
from paraloss.converters.polygons import to_polydata
from paraloss.converters.volume import to_image
from paraloss.picture_options import GridOptions

__all__ = [
    "ENDINGS",
    "FORMATS",
    "GridOptions",
    "HeightMap",
    "convert",
    "height_map",
    "is_li2018",
    "open_surface",
    "to_image",
    "to_polydata",
    "to_structured_grid",
    "write",
]
