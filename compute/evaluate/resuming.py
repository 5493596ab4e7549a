"""Whether a file that was begun belongs to what is computed now: one finished point is evaluated again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paraloss.compute.ranks.consistency import same_number
from paraloss.errors import SurfaceFileError
from paraloss.height import is_loss
from paraloss.surface import DONE, SurfaceWriter


def finished_point(writer: SurfaceWriter, grid: np.ndarray, among: np.ndarray | None = None) -> int | None:
    """The flat index of a finished point with finite losses, away from the center where possible; None without any.

    Args:
        writer: the file.
        grid: (points, axes) coordinates.
        among: flat indices of the points to choose from. Default: all.
    """
    done = (writer.grid("status") == DONE).ravel()
    if among is not None:
        done &= np.isin(np.arange(len(done)), among)
    for name in writer.names:
        if is_loss(name):
            done &= np.isfinite(writer.grid(name)).ravel()
    if not done.any():
        return None
    candidates = np.flatnonzero(done)
    return int(candidates[near_center(grid[candidates])])


def near_center(grid: np.ndarray) -> int:
    """The point of ``grid`` (points, axes) nearest to the center, where losses are moderate, but not the center itself."""
    distance = np.abs(grid).sum(axis=1)
    distance[distance == 0] = np.inf
    return int(distance.argmin())


def check_same_losses(
    path: Path | None, place: str, writer: SurfaceWriter, index: int, now: Mapping[str, float], tolerance: float
) -> None:
    """Check the losses of one point against those in the file.

    Args:
        path: the file, for messages.
        place: the point, for messages.
        writer: the file.
        index: flat index of the point.
        now: metric -> value.
        tolerance: relative difference that rounding may bring; on top of it five of the file's standard errors.

    Raises:
        SurfaceFileError: a loss differs; names it and both values.
    """
    for name in filter(is_loss, writer.names):
        before = float(writer.grid(name).ravel()[index])
        error = float(writer.grid(f"{name}_stderr").ravel()[index]) if f"{name}_stderr" in writer.names else 0.0
        if name in now and not same_number(before, now[name], tolerance) and not abs(before - now[name]) <= 5 * error:
            raise SurfaceFileError(
                f"{path}: at {place} {name} is {before:.6g} there, {now[name]:.6g} now: the model's, the loss's or the data's "
                "code has changed since. Start again with {overwrite}, or choose another {path}",
                arguments=("overwrite", "path"),
            )
