"""Fit a camera to the points that a picture shows: uncropped, as large as possible, still or turning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paraloss.look import CAMERAS, VIEW_ANGLE, Camera

Vector = tuple[float, float, float]
_FREE = 0.96  # share of the frame that the points may fill


@dataclass(frozen=True)
class PlacedCamera:
    """A perspective camera: position, point that it aims at, up vector, vertical view angle in degrees."""

    position: Vector
    aim: Vector
    up: Vector
    view_angle: float = VIEW_ANGLE


@dataclass(frozen=True)
class Cylinder:
    """The upright cylinder around everything that is drawn: middle, radius, lowest and highest z."""

    middle: Vector
    radius: float
    low: float
    high: float


def camera_for(
    points: np.ndarray, view: str | Camera = "paper", aspect: float = 1.0, right_margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Camera position, focal point and up vector that show points uncropped and as large as fits.

    Args:
        points: (n, 3) everything that is shown; a subset that holds the extremes is enough.
        view: direction of the camera, or its name in ``CAMERAS``.
        aspect: width over height of the picture.
        right_margin: share of the picture's width to leave free on the right, for a color scale.

    The direction is the view's; the aim centers the points in the frame, and the distance is the smallest at which all
    lie inside it with a margin of 4 %, at a vertical view angle of ``VIEW_ANGLE``.
    """
    camera = CAMERAS[view] if isinstance(view, str) else view
    back = np.array(camera.position) / np.linalg.norm(camera.position)
    right = np.cross(camera.up, back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    tangent = np.tan(np.radians(VIEW_ANGLE / 2)) * _FREE
    free, aspect = right_margin * aspect, (1 - right_margin) * aspect
    aim = (points.min(axis=0) + points.max(axis=0)) / 2
    distance = 1.0
    for _ in range(12):  # centering and stepping back depend on each other; this settles to a part in a thousand
        offsets = points - aim
        depth, across, along = offsets @ back, offsets @ right, offsets @ up
        distance = float(max((depth + np.abs(along) / tangent).max(), (depth + np.abs(across) / (tangent * aspect)).max()))
        distance = max(distance, 1e-9)  # a single point has no extent
        seen_across, seen_along = across / (distance - depth), along / (distance - depth)
        aim = aim + right * (seen_across.max() + seen_across.min()) / 2 * distance
        aim = aim + up * (seen_along.max() + seen_along.min()) / 2 * distance
    aim = aim + right * free * distance * tangent / _FREE
    return aim + back * distance, aim, up


def placed(camera: tuple[np.ndarray, np.ndarray, np.ndarray]) -> PlacedCamera:
    """The result of ``camera_for`` as a value."""
    position, aim, up = (tuple(float(number) for number in part) for part in camera)
    return PlacedCamera(position, aim, up)  # type: ignore[arg-type]


def cylinder_around(points: np.ndarray) -> Cylinder:
    """The cylinder around (n, 3) points whose axis is vertical and runs through their middle."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.linalg.norm((points - middle)[:, :2], axis=1).max())
    x, y, z = (float(number) for number in middle)
    return Cylinder((x, y, z), radius, float(points[:, 2].min()), float(points[:, 2].max()))


def turned(cylinder: Cylinder, view: str | Camera, aspect: float, degrees: float, right_margin: float = 0.0) -> PlacedCamera:
    """The camera for everything inside ``cylinder``, turned around the cylinder's axis.

    The frame holds the whole cylinder, so that nothing changes size or is cropped during a turn.
    """
    middle = np.array(cylinder.middle)
    angles = np.linspace(0, 2 * np.pi, 64)
    ring = np.stack([cylinder.radius * np.cos(angles), cylinder.radius * np.sin(angles), 0 * angles], axis=1)
    ends = [middle[2] - cylinder.low, cylinder.high - middle[2]]
    outline = np.concatenate([middle + ring - [0, 0, ends[0]], middle + ring + [0, 0, ends[1]]])
    position, aim, up = camera_for(outline, view, aspect, right_margin)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return placed((middle + rotation @ (position - middle), middle + rotation @ (aim - middle), rotation @ up))


def camera_points(points: np.ndarray, most: int = 20_000) -> np.ndarray:
    """A subset of ``points`` that is enough to fit a camera: every k-th, and the extremes of each axis."""
    stride = max(1, len(points) // most)
    extremes = np.concatenate([points.argmin(axis=0), points.argmax(axis=0)])
    return np.concatenate([points[::stride], points[extremes]])


def line_radius(height: int) -> float:
    """Radius of contour lines in a picture ``height`` pixels high, in widths of the surface; at least about one pixel."""
    return 0.0011 * max(1.0, 640 / height)
