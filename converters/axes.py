"""Axes around a lit surface: which edges carry them, their lines and ticks, and where a camera sees their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paraloss.camera import PlacedCamera
from paraloss.converters.scale import ticks_between
from paraloss.look import Camera

Align = tuple[str, str]


class Axes:
    """Axes along the two front edges of the floor and up the left corner.

    Args:
        points: (n, 3) points that are drawn.
        view: direction of the camera; the edges that face it carry the ticks.
        height_ticks: (z, text) pairs for the vertical axis.

    Attributes:
        segments: (start, end) of each line.
        labels: (place, text, alignment) of each tick.
        titles: (axis, place, alignment) of each axis name.
        corners: (k, 3) all places, for a camera that shows them.
    """

    def __init__(self, points: np.ndarray, view: Camera, height_ticks: Sequence[tuple[float, str]]) -> None:
        low, high = points.min(axis=0), points.max(axis=0)
        width = float((high - low)[:2].max())
        gap, tick = 0.035 * width, 0.02 * width
        towards = np.array(view.position)
        near_x, near_y = (high[0] + gap if towards[0] >= 0 else low[0] - gap), low[1] - gap
        left_x = low[0] - gap
        out_x = 1.0 if towards[0] >= 0 else -1.0
        self.segments: list[tuple[np.ndarray, np.ndarray]] = []
        self.labels: list[tuple[np.ndarray, str, Align]] = []
        floor = low[2]

        def line(*ends: Sequence[float]) -> None:
            self.segments.append((np.array(ends[0], float), np.array(ends[1], float)))

        line((low[0], near_y, floor), (high[0], near_y, floor))
        for value, text in ticks_between(float(low[0]), float(high[0]), log=False, number=5):
            line((value, near_y, floor), (value, near_y - tick, floor))
            self.labels.append((np.array([value, near_y - 2.2 * tick, floor]), text, ("center", "top")))
        line((near_x, low[1], floor), (near_x, high[1], floor))
        for value, text in ticks_between(float(low[1]), float(high[1]), log=False, number=5):
            line((near_x, value, floor), (near_x + out_x * tick, value, floor))
            align = "left" if out_x > 0 else "right"
            self.labels.append((np.array([near_x + out_x * 2.2 * tick, value, floor]), text, (align, "center")))
        self.titles: list[tuple[str, np.ndarray, Align]] = [
            ("x", np.array([(low[0] + high[0]) / 2, near_y - 7 * tick, floor]), ("center", "top")),
            (
                "y",
                np.array([near_x + out_x * 6.5 * tick, (low[1] + high[1]) / 2, floor]),
                ("left" if out_x > 0 else "right", "top"),
            ),
        ]
        if abs(view.up[2]) > 0.5:  # seen from straight above there is no vertical axis
            line((left_x, near_y, floor), (left_x, near_y, high[2]))
            for value, text in height_ticks:
                line((left_x, near_y, value), (left_x - tick, near_y, value))
                self.labels.append((np.array([left_x - 1.6 * tick, near_y, value]), text, ("right", "center")))
            self.titles.append(("z", np.array([left_x, near_y, high[2] + 2.5 * tick]), ("center", "bottom")))
        places = [place for place, *_ in self.labels] + [place for _, place, _ in self.titles]
        margin = 4 * tick
        extra = [place + np.array(shift) for place in places for shift in ((margin, 0, 0), (-margin, 0, 0), (0, -margin, 0))]
        self.corners = np.array(places + extra)


def projected(place: np.ndarray, camera: PlacedCamera, cell: tuple[int, int]) -> tuple[float, float]:
    """Pixels from the upper left corner of a picture of size ``cell`` at which ``camera`` sees ``place``."""
    position, aim, up = np.array(camera.position), np.array(camera.aim), np.array(camera.up)
    forward = (aim - position) / np.linalg.norm(aim - position)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    above = np.cross(right, forward)
    offset = place - position
    scale = cell[1] / 2 / np.tan(np.radians(camera.view_angle / 2)) / float(offset @ forward)
    return cell[0] / 2 + float(offset @ right) * scale, cell[1] / 2 - float(offset @ above) * scale
