"""Pictures without ParaView: lit surfaces and movies by pyvista, off screen; curves and contours by matplotlib."""

from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.rendering.curve import draw_curves
from paraloss.rendering.labels import default_label, default_labels
from paraloss.rendering.movie import MOVIES, make_movie
from paraloss.rendering.picture import PICTURES, render
from paraloss.rendering.surface_picture import SurfacePicture
from paraloss.rendering.web import write_page

__all__ = [
    "MOVIES",
    "PICTURES",
    "GridOptions",
    "PictureOptions",
    "SurfacePicture",
    "default_label",
    "default_labels",
    "draw_curves",
    "make_movie",
    "render",
    "write_page",
]
