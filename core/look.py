"""How a loss surface looks: lights, material, colors, camera. The one source for ParaView, its states and pyvista.

Plain numbers only. Lengths are in units of the surface's width (its longer side), angles in degrees, colors 0..1.
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
    specular: float = 0.20
    specular_power: float = 25.0


@dataclass(frozen=True)
class Look:
    """Everything about a picture that does not depend on the data.

    Attributes:
        background: of the picture.
        text: titles, ticks, axes.
        line: contour lines and the optimizer's path.
        material: of the surface.
        lights: none: the surface shines by itself, in the colors of the map.
        occlusion_radius: of ambient occlusion, in widths; 0 does without.
        color_map: a name in ``COLOR_MAPS``.
        surface_color: one color instead of the map.
        contours: number of contour lines on the surface, where the user does not say.
    """

    background: Color = (1.0, 1.0, 1.0)
    text: Color = (0.1, 0.1, 0.12)
    line: Color = (0.1, 0.1, 0.12)
    material: Material = field(default_factory=Material)
    lights: tuple[LightSpec, ...] = (
        LightSpec((1.6, -2.2, 3.0), (1.0, 0.98, 0.94), 0.86),  # key, from the right front
        LightSpec((-2.6, -1.2, 1.4), (0.80, 0.88, 1.0), 0.28),  # fill, weaker and bluish, from the left
        LightSpec((0.4, 2.8, 1.6), (1.0, 1.0, 1.0), 0.16),  # back
        LightSpec((0.6, -3.0, -1.2), (0.90, 0.94, 1.0), 0.24),  # from below, for the underside of a bowl's rim
    )
    occlusion_radius: float = 0.07
    color_map: str = "cool-to-warm"
    surface_color: Color | None = None
    contours: int = 0


LOOKS: Mapping[str, Look] = {
    "paper": Look(),
    "dark": Look(
        background=(0.055, 0.065, 0.085),
        text=(0.90, 0.91, 0.93),
        line=(0.02, 0.02, 0.03),
        material=Material(ambient=0.30, diffuse=0.92, specular=0.30),
        color_map="viridis",
    ),
    "flat": Look(material=Material(ambient=1.0, diffuse=0.0, specular=0.0), lights=(), occlusion_radius=0.0, contours=16),
    "clay": Look(
        background=(0.965, 0.960, 0.950),
        material=Material(ambient=0.20, diffuse=0.92, specular=0.04, specular_power=8.0),
        surface_color=(0.80, 0.70, 0.61),
        occlusion_radius=0.11,
    ),
}


HEIGHT_OF_WIDTH = 0.55
"""The surface's height when it is scaled automatically, in widths: neither flat nor needle-like."""

PATH_RADIUS, BALL_RADIUS = 0.004, 0.011
"""Of the optimizer's path and of the balls at its ends, in widths."""

START_COLOR, MARK_COLOR = (1.0, 1.0, 1.0), (0.98, 0.78, 0.10)
"""Of the ball where the path starts; of the one where it ends and of the minimum."""

VIEW_ANGLE = 30.0


@dataclass(frozen=True)
class Camera:
    """Where to look from, as a direction away from the surface; the distance is fitted to the surface."""

    position: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)


CAMERAS: Mapping[str, Camera] = {
    "paper": Camera((1.05, -1.60, 1.55)),
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
    # Readable with any color-vision deficiency and in gray: nine samples of viridis (van der Walt and Smith 2015).
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
    "gray": ("RGB", ((0.0, 0.25, 0.25, 0.25), (1.0, 0.95, 0.95, 0.95))),
}


def camera_for(
    points: np.ndarray, view: str = "paper", aspect: float = 1.0, right_margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Camera position, focal point and up vector that show points uncropped and as large as fits.

    Args:
        points: (n, 3) of all that is shown; a subset that holds the extremes is enough.
        view: a name in ``CAMERAS``.
        aspect: width over height of the picture.
        right_margin: share of the picture's width to leave free on the right, for a color scale.

    The direction is the view's; the aim centers the points in the frame, and the distance is the smallest at which all
    lie inside it with a margin of 4 %, at a vertical view angle of ``VIEW_ANGLE``.
    """
    camera = CAMERAS[view]
    back = np.array(camera.position) / np.linalg.norm(camera.position)
    right = np.cross(camera.up, back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    tangent = np.tan(np.radians(VIEW_ANGLE / 2)) * 0.96
    free, aspect = right_margin * aspect, (1 - right_margin) * aspect
    aim = (points.min(axis=0) + points.max(axis=0)) / 2
    distance = 1.0
    for _ in range(12):  # centering and stepping back depend on each other; this settles to a part in a thousand
        offsets = points - aim
        depth, across, along = offsets @ back, offsets @ right, offsets @ up
        distance = float(max((depth + np.abs(along) / tangent).max(), (depth + np.abs(across) / (tangent * aspect)).max()))
        seen_across, seen_along = across / (distance - depth), along / (distance - depth)
        aim = aim + right * (seen_across.max() + seen_across.min()) / 2 * distance
        aim = aim + up * (seen_along.max() + seen_along.min()) / 2 * distance
    aim = aim + right * free * distance * tangent / 0.96
    return aim + back * distance, aim, up


def line_radius(height: int) -> float:
    """Of contour lines in a picture ``height`` pixels high, in widths of the surface: no thinner than a line is."""
    return 0.0011 * max(1.0, 640 / height)


def turned(
    points: np.ndarray, view: str, aspect: float, degrees: float, right_margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The camera of ``camera_for`` turned around the vertical axis through the middle of ``points``.

    The frame holds the cylinder around the surface, so that nothing breathes or is cropped while it turns.
    """
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.linalg.norm((points - middle)[:, :2], axis=1).max())
    angles = np.linspace(0, 2 * np.pi, 64)
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles), 0 * angles], axis=1)
    ends = [middle[2] - points[:, 2].min(), points[:, 2].max() - middle[2]]
    cylinder = np.concatenate([middle + ring - [0, 0, ends[0]], middle + ring + [0, 0, ends[1]]])
    position, aim, up = camera_for(cylinder, view, aspect, right_margin)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return middle + rotation @ (position - middle), middle + rotation @ (aim - middle), rotation @ up


def camera_points(points: np.ndarray, most: int = 20_000) -> np.ndarray:
    """A subset of ``points`` that is enough to fit a camera: every k-th, and the extremes of each axis."""
    stride = max(1, len(points) // most)
    extremes = np.concatenate([points.argmin(axis=0), points.argmax(axis=0)])
    return np.concatenate([points[::stride], points[extremes]])
