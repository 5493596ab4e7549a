"""The direction of the camera that nobody chose: from where basin, minimum and paths are seen, not hidden by the surface.

The usual direction is kept where it shows them; otherwise the camera rises, or goes around, as little as is needed. x runs to
the right in every picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from paraloss.converters.geometry import bilinear
from paraloss.converters.grid import HeightMap
from paraloss.look import CAMERAS, Camera, camera_from
from paraloss.surface import Surface

BASIN = 0.25
"""The basin in a picture: what lies in the lowest quarter of the height drawn."""

_TURNS = (0.0, 15.0, -15.0, 30.0, -30.0, 45.0, -45.0, -60.0, -75.0, -90.0, -105.0)  # from the usual direction, degrees
_RISES = (0.0, 6.0, 12.0, 18.0, 24.0, 30.0)  # above it
_MOST, _STEPS = 160, 64  # targets of each kind; places along a line of sight
_LEAVING, _AWAY, _UP = 0.03, 0.15, 0.16  # what another view costs, and the farthest turn and the highest rise besides
_WORTH = {"minimum": (1.0, 0.0), "paths": (1.5, 0.03), "basin": (1.0, 0.15), "surface": (0.6, 0.30)}
"""What it costs to hide all of each, and the share that may be hidden for nothing."""


@dataclass(frozen=True)
class Sight:
    """A surface as an obstacle, with what is to be seen on it.

    Attributes:
        x: (nx,) coordinates.
        y: (ny,) coordinates.
        heights: (ny, nx) heights drawn; NaN where the surface is blank.
        targets: name in ``_WORTH`` -> (n, 3) places.
    """

    x: np.ndarray
    y: np.ndarray
    heights: np.ndarray
    targets: dict[str, np.ndarray]

    def hidden(self, places: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """(n,) whether the surface lies between each of (n, 3) ``places`` and ``eye``."""
        towards = eye - places
        extent = np.array([np.ptp(self.x), np.ptp(self.y)])
        reach = float(np.hypot(*extent) / np.maximum(np.hypot(towards[:, 0], towards[:, 1]), 1e-9).min())
        shares = np.linspace(0.0, min(reach, 1.0), _STEPS + 1)[1:]
        lines = places[:, None, :] + shares[None, :, None] * towards[:, None, :]
        above = bilinear(self.x, self.y, self.heights, lines[..., 0], lines[..., 1])
        tolerance = 0.004 * float(extent.max())
        with np.errstate(invalid="ignore"):
            return np.asarray((above > lines[..., 2] + tolerance).any(axis=1))


def sight_of(surface: Surface, heights: HeightMap, paths: bool = True) -> Sight:
    """Find what is to be seen on a surface: its minimum, its basin, its paths and the surface as a whole."""
    z = heights.known
    x, y = surface.x, np.asarray(surface.y)
    grid = np.stack([*np.meshgrid(x, y), z], axis=-1)
    known = np.isfinite(z)
    low, high = (float(z[known].min()), float(z[known].max())) if known.any() else (0.0, 0.0)
    targets = {
        "minimum": grid[known & (z == low)][:1],
        "basin": grid[known & (z <= low + BASIN * (high - low))],
        "surface": grid[known],
        "paths": np.concatenate([np.empty((0, 3)), *_on_surface(surface, z)]) if paths else np.empty((0, 3)),
    }
    return Sight(x, y, z, {name: places[:: max(1, len(places) // _MOST)] for name, places in targets.items()})


def _on_surface(surface: Surface, z: np.ndarray) -> Iterator[np.ndarray]:
    """(n, 3) places of each path, with points between the checkpoints."""
    for path in surface.paths.values():
        x, y = (np.asarray(path[axis], float) for axis in "xy")
        if len(x) < 2:
            continue
        fine = np.linspace(0, len(x) - 1, max(len(x), 100))
        x, y = np.interp(fine, np.arange(len(x)), x), np.interp(fine, np.arange(len(y)), y)
        places = np.stack([x, y, bilinear(surface.x, np.asarray(surface.y), z, x, y)], axis=-1)
        yield places[np.isfinite(places).all(axis=1)]


def best_view(sights: Sequence[Sight]) -> tuple[float, float] | None:
    """Choose the direction of one camera for several surfaces: the nearest to the usual one from where enough is seen.

    Returns:
        Azimuth and elevation in degrees, see ``paraloss.look.camera_from``; None: the usual ones.
    """
    usual = CAMERAS["paper"]
    x, y, z = usual.position
    azimuth, elevation = float(np.degrees(np.arctan2(x, -y))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
    best: tuple[float, float] | None = None
    least = np.inf
    for rise in _RISES:
        for turn in _TURNS:
            effort = (_LEAVING + _AWAY * abs(turn) / 105 + _UP * rise / 30) if turn or rise else 0.0
            if effort >= least:
                continue  # nothing that is seen could make up for it
            place = (round(azimuth + turn, 1), round(elevation + rise, 1)) if turn or rise else None
            camera = usual if place is None else camera_from(usual, *place)
            cost = effort + sum(_unseen(sight, camera) for sight in sights) / len(sights)
            if cost < least:
                best, least = place, cost
    return best


def _unseen(sight: Sight, camera: Camera) -> float:
    """What is hidden from a camera, by its worth."""
    if not len(sight.targets["surface"]):
        return 0.0
    width = max(np.ptp(sight.x), np.ptp(sight.y))
    back = np.array(camera.position) / np.linalg.norm(camera.position)
    middle = np.array([sight.x.mean(), sight.y.mean(), np.nanmean(sight.heights)])
    eye = middle + 3.0 * float(width) * back
    costs = 0.0
    for name, (worth, free) in _WORTH.items():
        if len(sight.targets[name]):
            costs += worth * max(0.0, float(sight.hidden(sight.targets[name], eye).mean()) - free)
    return costs
