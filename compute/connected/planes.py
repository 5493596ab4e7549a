"""The plane of two ends and the bends between them, and the curve in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paraloss.errors import InputError

Direction = dict[str, Tensor]
_LEAST = 0.6  # coordinate of the bend along y, at least


@dataclass(frozen=True)
class CurvePlane:
    """The plane through both ends in which the bends lie, or come closest to lying.

    Attributes:
        directions: x from the first end (0, 0) to the last (1, 0); y orthogonal.
        y_length: length of y in lengths of x: 1, or less where the bends lie close to the straight line, so that a picture
            shows the space between both.
        x: (bends + 2,) coordinates of the first end, the bends and the last end.
        y: the same along y.
    """

    directions: tuple[Direction, Direction]
    y_length: float
    x: np.ndarray
    y: np.ndarray
    _beyond: np.ndarray

    def along(self, parts: np.ndarray) -> dict[str, np.ndarray]:
        """``x``, ``y`` and ``residual``, the distance from the plane in lengths of x, of points of the curve.

        Args:
            parts: (n, bends + 2) see ``curves.shares``.
        """
        inside = parts[:, 1:-1]
        squares = np.einsum("ni,ij,nj->n", inside, self._beyond, inside)
        return {"x": parts @ self.x, "y": parts @ self.y, "residual": np.sqrt(np.maximum(squares, 0))}


def plane_of(line: Direction, bends: Sequence[Direction]) -> CurvePlane:
    """Find the plane.

    Args:
        line: from the first end to the last, float64.
        bends: from the first end to each bend, float64.

    Raises:
        InputError: all bends lie on the straight line.
    """
    square = _inner(line, line)
    along = np.array([_inner(bend, line) / square for bend in bends])
    aside = [{name: bend[name] - share * line[name] for name in line} for bend, share in zip(bends, along, strict=True)]
    gram = np.array([[_inner(one, other) for other in aside] for one in aside]) / square
    values, vectors = np.linalg.eigh(gram)
    if not values[-1] > 1e-16:
        raise InputError(
            "the curve is the straight line itself, so that there is no plane; train it with a higher {lr}", ("lr",)
        )
    main = vectors[:, -1] * (1 if vectors[:, -1].sum() >= 0 else -1)
    length = np.sqrt(values[-1])
    across = gram @ main / length  # in lengths of x
    unit = float(min(1.0, np.abs(across).max() / _LEAST))
    y = {name: sum(float(part) * bend[name] for part, bend in zip(main, aside, strict=True)) * (unit / length) for name in line}
    return CurvePlane(
        (line, y),  # type: ignore[arg-type]
        unit,
        np.array([0.0, *along, 1.0]),
        np.array([0.0, *across / unit, 0.0]),
        gram - np.outer(across, across),
    )


def axes_around(path: Mapping[str, np.ndarray], points: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps along x and y with both ends exactly among them.

    Args:
        path: ``x`` and ``y`` of all that shall lie inside.
        points: steps along each axis, about.
        margin: space around, as a share of the extent.
    """
    low, high = min(0.0, float(path["x"].min())), max(1.0, float(path["x"].max()))
    low, high = low - margin * (high - low), high + margin * (high - low)
    parts = max(1, round((points - 1) / (high - low)))
    x = np.arange(np.floor(low * parts), np.ceil(high * parts) + 1) / parts
    bottom, top = min(0.0, float(path["y"].min())), max(0.0, float(path["y"].max()))
    bottom, top = bottom - margin * (top - bottom), top + margin * (top - bottom)
    y = np.linspace(bottom, top, points)
    return x, y - y[np.abs(y).argmin()]


def _inner(one: Direction, other: Direction) -> float:
    return float(sum(float((one[name] * other[name]).sum()) for name in one))


def difference(end: Mapping[str, Tensor], start: Mapping[str, Tensor], names: Sequence[str]) -> Direction:
    """From one point to another, in float64."""
    return {name: end[name].detach().cpu().to(torch.float64) - start[name].detach().cpu().to(torch.float64) for name in names}
