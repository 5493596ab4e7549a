"""Whether a file that was begun belongs to what is computed now: one finished point is evaluated again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paraloss.compute.ranks.consistency import same_number
from paraloss.errors import SurfaceFileError
from paraloss.height import OFFSET, is_loss
from paraloss.surface import DONE, SurfaceWriter


def finished_point(writer: SurfaceWriter, grid: np.ndarray) -> int | None:
    """The flat index of a finished point with finite losses, away from the center where possible; None without any.

    Args:
        writer: the file.
        grid: (points, axes) coordinates.
    """
    candidates = np.flatnonzero(_finished(writer))
    return int(candidates[near_center(grid[candidates])]) if len(candidates) else None


def point_of_all_samples(writer: SurfaceWriter, grid: np.ndarray, samples: Mapping[str, int]) -> int | None:
    """As ``finished_point``, of those at which all samples were evaluated the one whose losses have the smallest errors.

    Args:
        writer: the file.
        grid: (points, axes) coordinates.
        samples: split -> number of samples.
    """
    done = _finished(writer)
    errors = np.zeros(len(done))
    for name, size in samples.items():
        done &= writer.grid(f"{name}_samples").ravel() == size
        with np.errstate(divide="ignore", invalid="ignore"):
            share = writer.grid(f"{name}_loss_stderr").ravel() / np.abs(writer.grid(f"{name}_loss").ravel())
        errors = np.maximum(errors, np.nan_to_num(share, nan=0.0, posinf=np.inf))
    if not done.any():
        return None
    candidates = np.flatnonzero(done & (errors <= errors[done].min()))
    return int(candidates[near_center(grid[candidates])])


def _finished(writer: SurfaceWriter) -> np.ndarray:
    """(points,) whether a point is finished and has finite losses."""
    done: np.ndarray = (writer.grid("status") == DONE).ravel()
    for name in filter(is_loss, writer.names):
        done &= np.isfinite(writer.grid(name)).ravel()
    return done


def near_center(grid: np.ndarray) -> int:
    """The point of ``grid`` (points, axes) nearest to the center, where losses are moderate, but not the center itself."""
    distance = np.abs(grid).sum(axis=1)
    distance[distance == 0] = np.inf
    return int(distance.argmin())


def check_same_losses(
    path: Path | None,
    place: str,
    writer: SurfaceWriter,
    index: int,
    now: Mapping[str, float],
    tolerance: float,
    corrected: float,
) -> None:
    """Check the losses of one point against those in the file.

    Args:
        path: the file, for messages.
        place: the point, for messages.
        writer: the file.
        index: flat index of the point.
        now: metric -> value.
        tolerance: relative difference that rounding may bring.
        corrected: of ``Estimator``: five of the file's standard errors are allowed, as far as they are the correction's; not
            that of drawing samples, since the same samples give the same loss.

    Raises:
        SurfaceFileError: a loss differs; names it and both values.
    """
    for name in filter(is_loss, writer.names):
        before = float(writer.grid(name).ravel()[index])
        error = float(writer.grid(f"{name}_stderr").ravel()[index]) if f"{name}_stderr" in writer.names else 0.0
        error = min(error, corrected * (abs(before) + OFFSET))
        if name in now and not abs(before - now[name]) <= 5 * error:
            check_same(path, place, name, before, now[name], tolerance)


def check_same(path: Path | None, place: str, name: str, before: float, now: float, tolerance: float) -> None:
    """Check one number against what it was; arguments and errors as of ``check_same_losses``."""
    if not same_number(before, now, tolerance):
        raise SurfaceFileError(
            f"{path}: at {place} {name} is {before:.6g} there, {now:.6g} now: the model's, the loss's or the data's "
            "code has changed since. Start again with {overwrite}, or choose another {path}",
            arguments=("overwrite", "path"),
        )
