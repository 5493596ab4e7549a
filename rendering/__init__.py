"""Pictures without ParaView: lit surfaces by pyvista, off screen; curves and contours by matplotlib."""

from paraloss.rendering.curve import draw_curves
from paraloss.rendering.picture import PICTURES, render
from paraloss.rendering.surface_picture import SurfacePicture

__all__ = ["PICTURES", "SurfacePicture", "draw_curves", "render"]
