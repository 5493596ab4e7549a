"""How a loss surface looks: lights, material, colors, camera directions. Every drawing engine takes them from here.

Plain numbers only. Lengths are in units of the surface's width (its longer side), angles in degrees, colors 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import atan2, cos, hypot, radians, sin

Color = tuple[float, float, float]


@dataclass(frozen=True)
class LightSpec:
    """A directional light that is fixed to the scene.

    Attributes:
        position: source of the light relative to the middle of the surface, in widths.
        color: RGB color, 0 to 1.
        intensity: brightness, 0 to 1.
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
        background: background color, RGB, 0 to 1.
        text: color of titles, ticks and axes.
        line: color of contour lines and of the optimizer's path.
        material: shading of the surface.
        lights: directional lights; without any, the surface has the plain colors of the map.
        occlusion_radius: radius of ambient occlusion, in widths; 0 turns it off.
        color_map: a name in ``COLOR_MAPS``.
        surface_color: one color instead of the map.
        contours: default number of contour lines on the surface.
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

PATH_RADIUS, BALL_RADIUS, MINIMUM_RADIUS = 0.004, 0.011, 0.012
"""Radius of the optimizer's path, of the balls at its ends, and of the mark of the lowest point, in widths."""

SHINE = 0.45
"""Opacity with which marks and paths are seen through a surface that hides them."""

PATH_COLORS = (
    (1.00, 0.58, 0.00), (0.80, 0.08, 0.60), (0.00, 0.52, 0.28), (0.10, 0.72, 0.90),
    (0.55, 0.30, 0.10), (0.96, 0.92, 0.20), (0.45, 0.45, 0.48),
)  # fmt: skip
"""Colors of the paths of several runs, which stand out from color maps and backgrounds; from the eighth on they repeat."""

START_COLOR, MARK_COLOR = (1.0, 1.0, 1.0), (0.98, 0.78, 0.10)
"""Color of the ball at the start of the path; color of the ball at its end and of the minimum."""

VIEW_ANGLE = 30.0
"""Vertical view angle, degrees."""

FLOOR_BELOW = 0.30
"""Distance of the floor with contour lines below the surface, in widths."""

LINE_INK = 0.72
"""Brightness of the colors of lines on a bright background, in those of areas: the middle of a map is nearly white."""

OVERLAY_COLORS = ((0.16, 0.42, 0.78), (0.88, 0.36, 0.10), (0.10, 0.58, 0.36), (0.62, 0.36, 0.72))
OVERLAY_OPACITY, OVERLAY_LINES, OVERLAY_DARKER = 0.42, 10, 0.45
"""Several surfaces in one place: their colors, opacity of all but the lowest, number of contour lines on each, whose colors
are this much of the surface's."""


@dataclass(frozen=True)
class Camera:
    """View direction, from the surface towards the viewer; the distance is fitted to the surface."""

    position: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)


def camera_from(view: Camera, azimuth: float | None, elevation: float | None) -> Camera:
    """The camera of ``view`` with another azimuth or elevation, degrees.

    Args:
        view: what is not given is kept of this one.
        azimuth: where the viewer stands, counterclockwise seen from above: 0 in front (towards -y), 90 on the right (+x).
        elevation: angle of the line of sight above the plane; 90 looks straight down.
    """
    x, y, z = view.position
    across = hypot(x, y)
    angle = atan2(x, -y) if azimuth is None else radians(azimuth)
    rise = atan2(z, across) if elevation is None else radians(elevation)
    position = (sin(angle) * cos(rise), -cos(angle) * cos(rise), sin(rise))
    steep = abs(rise) > radians(89.9)  # straight down what is up in the picture lies away from the viewer
    return Camera(position, (-sin(angle), cos(angle), 0.0) if steep else (0.0, 0.0, 1.0))


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
