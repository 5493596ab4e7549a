"""How a loss surface looks: lights, material, colours, camera. The one source for ParaView, its states and pyvista.

Plain numbers only. Lengths are in units of the surface's width (its longer side), angles in degrees, colours 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Color = tuple[float, float, float]


@dataclass(frozen=True)
class LightSpec:
    """A directional light that is fixed to the scene.

    Attributes:
        position: where it comes from, seen from the middle of the surface, in widths.
        color: of the light.
        intensity: 0..1.
    """

    position: tuple[float, float, float]
    color: Color
    intensity: float


@dataclass(frozen=True)
class Material:
    """Phong shading of the surface."""

    ambient: float = 0.18
    diffuse: float = 0.85
    specular: float = 0.35
    specular_power: float = 25.0


@dataclass(frozen=True)
class Look:
    """Everything about a picture that does not depend on the data."""

    background: Color = (1.0, 1.0, 1.0)
    text: Color = (0.1, 0.1, 0.12)
    material: Material = field(default_factory=Material)
    lights: tuple[LightSpec, ...] = (
        LightSpec((1.6, -2.2, 3.0), (1.0, 0.98, 0.94), 0.85),  # key, from the right front
        LightSpec((-2.6, -1.2, 1.4), (0.80, 0.88, 1.0), 0.35),  # fill, weaker and bluish, from the left
        LightSpec((0.4, 2.8, 1.6), (1.0, 1.0, 1.0), 0.30),  # back
    )
    occlusion_radius: float = 0.07
    color_map: str = "cool-to-warm"


HEIGHT_OF_WIDTH = 0.55
"""The surface's height when it is scaled automatically, in widths: neither flat nor needle-like."""

VIEW_ANGLE = 30.0


@dataclass(frozen=True)
class Camera:
    """position and focal point in widths, seen from the middle of the surface's footprint at its lowest level."""

    position: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    fit_width: float = 1.0


CAMERAS: Mapping[str, Camera] = {
    "paper": Camera((1.15, -1.70, 1.30)),
    "front": Camera((0.0, -2.2, 0.85)),
    "corner": Camera((1.5, -1.5, 1.1)),
    "top": Camera((0.0, 0.0, 2.4), up=(0.0, 1.0, 0.0)),
}

# Control points (value, red, green, blue) and the space to interpolate in.
COLOR_MAPS: Mapping[str, tuple[str, tuple[tuple[float, float, float, float], ...]]] = {
    # Moreland 2009, "Diverging color maps for scientific visualization"; ParaView's default.
    "cool-to-warm": (
        "Diverging",
        ((0.0, 0.231373, 0.298039, 0.752941), (0.5, 0.865003, 0.865003, 0.865003), (1.0, 0.705882, 0.0156863, 0.14902)),
    ),
    # Readable with any colour-vision deficiency and in grey: nine samples of viridis (van der Walt and Smith 2015).
    "viridis": (
        "Lab",
        (
            (0.000, 0.267004, 0.004874, 0.329415),
            (0.125, 0.278826, 0.175490, 0.483397),
            (0.250, 0.229739, 0.322361, 0.545706),
            (0.375, 0.172719, 0.448791, 0.557885),
            (0.500, 0.127568, 0.566949, 0.550556),
            (0.625, 0.157851, 0.683765, 0.501686),
            (0.750, 0.369214, 0.788888, 0.382914),
            (0.875, 0.678489, 0.863742, 0.189503),
            (1.000, 0.993248, 0.906157, 0.143936),
        ),
    ),
    "grey": ("RGB", ((0.0, 0.25, 0.25, 0.25), (1.0, 0.95, 0.95, 0.95))),
}


def camera_for(
    bounds: tuple[float, float, float, float, float, float], view: str = "paper", aspect: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Camera position, focal point and up vector that show a box uncropped and as large as fits.

    Args:
        bounds: xmin, xmax, ymin, ymax, zmin, zmax of what is shown.
        view: a name in ``CAMERAS``.
        aspect: width over height of the picture.

    The camera keeps its direction; its distance is the smallest at which all eight corners of the box lie inside a
    frame with a margin of 4 %, at a vertical view angle of ``VIEW_ANGLE``.
    """
    box = np.asarray(bounds, float).reshape(3, 2)
    middle = box.mean(axis=1)
    corners = np.array([[box[0, i], box[1, j], box[2, k]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    camera = CAMERAS[view]
    back = np.array(camera.position) / np.linalg.norm(camera.position)
    right = np.cross(camera.up, back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    tangent = np.tan(np.radians(VIEW_ANGLE / 2)) * 0.96
    # Move the aim sideways until the box is centred in the frame, then step back until it fits.
    aim = middle
    for _ in range(8):
        offsets = corners - aim
        depth, across, along = offsets @ back, offsets @ right, offsets @ up
        distance = max(
            float((depth + np.abs(along) / tangent).max()), float((depth + np.abs(across) / (tangent * aspect)).max())
        )
        scale = distance - depth
        sideways = ((across / scale).max() + (across / scale).min()) / 2 * distance
        upwards = ((along / scale).max() + (along / scale).min()) / 2 * distance
        aim = aim + right * sideways + up * upwards
    return aim + back * distance, aim, up
