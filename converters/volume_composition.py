"""The composition of a picture of a volume: shells, range, ticks and camera, for pyvista and ParaView."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from paraloss.camera import Cylinder, PlacedCamera, Vector, camera_for, cylinder_around, placed, turned
from paraloss.converters.composition import ColorScale
from paraloss.converters.layout import Layout
from paraloss.converters.scale import ticks_between
from paraloss.converters.volume import image_scale
from paraloss.errors import InputError
from paraloss.picture_options import PictureOptions
from paraloss.text import printable

SHELLS = 6


@dataclass(frozen=True)
class VolumeComposition:
    """Everything that is decided about a picture of a volume before an engine draws it.

    Attributes:
        picture: what is shown.
        scale: array and color scale.
        shells: values of the shells, on the drawn scale.
        towards: horizontal direction of the viewer, in which the shells are cut open.
        layout: the picture's one cell.
        camera: the camera.
        cylinder: space that a turning camera keeps in the frame.
    """

    picture: PictureOptions
    scale: ColorScale
    shells: tuple[float, ...]
    towards: Vector
    layout: Layout
    camera: PlacedCamera
    cylinder: Cylinder

    def turned(self, degrees: float) -> PlacedCamera:
        """The camera of a turn around the vertical axis."""
        return turned(self.cylinder, self.picture.camera, self.layout.aspect, degrees, self.layout.margin)


def compose_volume(image: Any, picture: PictureOptions, layout: Layout) -> VolumeComposition:
    """Decide how a volume is drawn.

    Args:
        image: ``vtkImageData`` of ``to_image`` or of a ``.vti`` file that Paraloss wrote; its active scalars are drawn.
        picture: options of the picture; ``contours`` is the number of shells.
        layout: the picture's one cell.

    Raises:
        InputError: no active scalars, or no finite value.
    """
    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        raise InputError("the volume has no active scalars; write it with: paraloss convert volume.h5 volume.vti")
    values = vtk_to_numpy(scalars)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise InputError("no point of the volume has a finite value")
    low, high, name = float(finite.min()), float(finite.max()), scalars.GetName()
    chosen, log = image_scale(image), name.startswith("log_")
    ticks = ticks_between(low, high, log, chosen.offset)
    title = printable(name.removeprefix("log_").replace("_", " "))
    if chosen.note and log:
        title = f"{title}, ln(loss + {chosen.offset:.4g})"
    bounds = image.GetBounds()
    corners = np.array(list(itertools.product(bounds[:2], bounds[2:4], bounds[4:])))
    x, y, _ = picture.camera.position
    return VolumeComposition(
        picture=picture,
        scale=ColorScale(name, title, low, high if high > low else low + 1.0, tuple(ticks), picture.colors),
        shells=tuple(np.linspace(low, high, (picture.contours or SHELLS) + 2)[1:-1].tolist()),
        towards=(x, y, 0.0),
        layout=layout,
        camera=placed(camera_for(corners, picture.camera, layout.aspect, layout.margin)),
        cylinder=cylinder_around(corners),
    )
