"""Measure the shape of a surface: roughness, share of convex points, area of the basin.

Two surfaces may be compared only on grids of the same steps and along directions of the same normalization.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paraloss.analysis.envelope import above_envelope
from paraloss.analysis.topology import MINIMUM, CriticalPoint, critical_points
from paraloss.errors import InputError, MissingPackage
from paraloss.height import OFFSET, log_field, metric_scale
from paraloss.surface import Surface
from paraloss.text import printable


def roughness(surface: Surface, metric: str | None = None) -> float:
    """Average the height of ln(loss + 0.1) above the highest bowl below it, its quasiconvex envelope.

    Args:
        surface: two-dimensional.
        metric: a loss; the default one when None.

    0 for every bowl, however deep, narrow or bent; 0.05 where losses are on average five per cent above the bowl's. Ripples,
    side valleys and contours that are not convex add to it. It depends little on the grid where its steps resolve the ripples.

    Raises:
        InputError: a curve.
    """
    if surface.y is None:
        raise InputError("a curve (1D) has no envelope in the plane; compute a surface, with y")
    return above_envelope(log_field(surface.metric(metric)), surface.x, surface.y)


def second_difference(values: np.ndarray, offset: float = OFFSET) -> float:
    """Average the absolute second difference of ln(loss + offset) along the grid lines, (f[i-1] - 2 f[i] + f[i+1]).

    Args:
        values: (ny, nx) losses; differences that touch a NaN are left out.
        offset: added before the logarithm, in the loss's unit; enlarged for negative losses, see ``paraloss.height``.

    0 for a plane; grows with ripples of the size of a grid step, but with the bend of a bowl, too. Depends on that step.
    """
    logs = log_field(values, offset)
    differences = np.concatenate([np.abs(np.diff(logs, 2, axis=0)).ravel(), np.abs(np.diff(logs, 2, axis=1)).ravel()])
    differences = differences[np.isfinite(differences)]
    return float(differences.mean()) if differences.size else float("nan")


def convex_share(values: np.ndarray) -> float:
    """Find the share of inner points where the 2×2 Hessian of the loss, by central differences, has no negative eigenvalue.

    Args:
        values: (ny, nx) losses on an evenly spaced grid with equal steps along x and y.

    1 for a convex surface. Source: Li et al. 2018, section 6, asks the same of the full Hessian.
    """
    f = np.where(np.isfinite(values), values, np.nan)
    xx = f[1:-1, 2:] - 2 * f[1:-1, 1:-1] + f[1:-1, :-2]
    yy = f[2:, 1:-1] - 2 * f[1:-1, 1:-1] + f[:-2, 1:-1]
    xy = (f[2:, 2:] - f[2:, :-2] - f[:-2, 2:] + f[:-2, :-2]) / 4
    known = np.isfinite(xx) & np.isfinite(yy) & np.isfinite(xy)
    convex = (xx + yy >= 0) & (xx * yy - xy**2 >= 0)
    return float(convex[known].mean()) if known.any() else float("nan")


def basin_area(surface: Surface, metric: str | None = None, rise: float = 1.0) -> float:
    """Find the area around the center where the loss stays within ``rise`` of the center's, as a share of the plot.

    Args:
        surface: two-dimensional.
        metric: a loss; the default one when None.
        rise: largest rise above the center's loss, in the loss's unit.

    Only the part connected to the center counts (4-neighborhood). NaN where (0, 0) is not on the grid, or not finite.

    Raises:
        InputError: a curve.
    """
    from scipy.ndimage import label

    if surface.y is None:
        raise InputError("a curve (1D) has no area; compute a surface, with y")
    values = surface.metric(metric)
    center = surface.center
    if center is None or not np.isfinite(values[center]):
        return float("nan")
    low = values <= values[center] + rise
    parts, _ = label(low)
    return float((parts == parts[center]).mean())


def rise_within(surface: Surface, radius: float, metric: str | None = None) -> tuple[float, float]:
    """Find the (worst, mean) rise of the loss above the center's within ``radius`` of (0, 0), in the loss's unit.

    Args:
        surface: two-dimensional.
        radius: in steps of the directions: 0.25 is a quarter of the weights' norm along filter-normalized ones.
        metric: a loss; the default one when None.

    The worst rise is the sharpness of Keskar et al. 2017 (arXiv 1609.04836), within the plane instead of the whole space. NaN
    where (0, 0) is not on the grid.

    Raises:
        InputError: a curve.
    """
    if surface.y is None:
        raise InputError("a curve (1D) has no neighborhood in the plane; compute a surface, with y")
    values = surface.metric(metric)
    center = surface.center
    if center is None:
        return float("nan"), float("nan")
    x, y = (np.asarray(axis, np.float64) for axis in (surface.x, surface.y))
    inside = np.add.outer(y**2, x**2) <= radius**2 * (1 + 1e-6)  # steps may have been rounded to float32
    rises = values[inside & np.isfinite(values)] - (values[center] if np.isfinite(values[center]) else np.nan)
    return (float(rises.max()), float(rises.mean())) if rises.size else (float("nan"), float("nan"))


def measures(surface: Surface, metric: str | None = None, radius: float = 0.25, rise: float = 1.0) -> dict[str, float]:
    """Compute all numbers of this module for one surface: name -> number; ``MEANINGS`` says what each is."""
    values = surface.metric(metric)
    worst, mean = rise_within(surface, radius, metric)
    j, i = np.unravel_index(int(np.nanargmin(np.where(np.isfinite(values), values, np.nan))), values.shape)
    assert surface.y is not None
    return {
        "center": float("nan") if surface.center is None else float(values[surface.center]),
        "minimum": float(values[j, i]),
        "minimum_x": float(surface.x[i]),
        "minimum_y": float(surface.y[j]),
        "worst_rise": worst,
        "mean_rise": mean,
        "basin_area": basin_area(surface, metric, rise),
        "convex_share": convex_share(values),
        "minima": _number_of_minima(values),
        "roughness": roughness(surface, metric),
        "second_diff": second_difference(values),
    }


def _number_of_minima(values: np.ndarray) -> float:
    try:
        return float(len(persistent_minima(values)))
    except (MissingPackage, InputError):  # all other numbers need neither gudhi nor a logarithm
        return float("nan")


def area_below(values: np.ndarray, level: float) -> float:
    """Find the share of the evaluated points whose loss is at most ``level``; they need not be connected.

    Args:
        values: (ny, nx) losses.
        level: loss, in its own unit.
    """
    known = ~np.isnan(values)
    return float((values[known] <= level).mean()) if known.any() else float("nan")


def persistent_minima(values: np.ndarray, share: float = 0.01) -> list[CriticalPoint]:
    """Find the minima of ln(loss + 0.1) whose persistence exceeds ``share`` of its range; see ``paraloss.analysis.topology``.

    Args:
        values: (ny, nx) losses.
        share: fraction of the height between the lowest and the highest value, 0.01 by default.

    Raises:
        MissingPackage: gudhi is not installed.
        InputError: nothing is finite.
    """
    field = log_field(values)
    return [p for p in critical_points(field, height_share(field, share)) if p.kind == MINIMUM]


def height_share(field: np.ndarray, share: float) -> float:
    """Return ``share`` times the height between the lowest and the highest finite value of ``field``.

    Raises:
        InputError: no value is finite.
    """
    finite = field[np.isfinite(field)]
    if not finite.size:
        raise InputError("no value of the metric is finite, so the surface has no shape")
    return share * float(np.ptp(finite))


MEANINGS = {
    "center": "the metric at (0, 0), the checkpoint itself",
    "minimum": "smallest value on the grid",
    "minimum_x": "where that is",
    "minimum_y": "",
    "worst_rise": "largest rise above the center within the radius: sharpness in the plane (Keskar et al. 2017)",
    "mean_rise": "mean rise within the radius",
    "basin_area": "share of the plot, joined to the center, where the loss is at most RISE above the center's",
    "convex_share": "share of points with no direction of negative curvature in the plane (Li et al. 2018, section 6)",
    "minima": "number of minima that a hundredth of the height (of ln(loss + 0.1)) must be climbed to leave (persistence)",
    "roughness": "mean height of ln(loss + 0.1) above the highest bowl below it (quasiconvex envelope): 0 for any bowl",
    "second_diff": "mean |second difference| of ln(loss + 0.1) along the grid lines: ripples and the bend of the bowl",
}


def draw_dependence(losses: Sequence[np.ndarray]) -> float:
    """Measure how much surfaces over different random planes differ, as a share of the variation within each.

    Args:
        losses: arrays of the same shape and steps, one per plane.

    The mean standard deviation of ln(loss + 0.1) over the planes, divided by the standard deviation of the mean surface over
    the plot: 0 where every draw gives the same picture, 1 where planes differ as much as places in one.
    """
    logs = metric_scale(losses).heights(np.stack(losses))
    known = np.isfinite(logs).all(axis=0)
    if known.sum() < 2:
        return float("nan")
    height = float(logs.mean(axis=0)[known].std())
    return float(logs.std(axis=0, ddof=1)[known].mean()) / height if height > 0 else float("inf")


def why_not_comparable(surfaces: Sequence[Surface]) -> str:
    """Explain why numbers of these surfaces must not be compared; an empty text when they may."""
    first = surfaces[0]
    for number, other in enumerate(surfaces[1:], start=2):
        same = first.shape == other.shape and np.allclose(first.x, other.x)
        if not same or (first.y is not None and other.y is not None and not np.allclose(first.y, other.y)):
            return f"surface {number} has other steps than the first; compute both with the same x and y"
        one, another = (
            [{key: value for key, value in axis.items() if key != "seed"} for axis in surface.provenance.get("directions", [])]
            for surface in (first, other)
        )
        if one != another:
            return f"the directions of surface {number} were chosen or normalized otherwise than the first's"
        if first.provenance.get("criterion") != other.provenance.get("criterion"):
            return f"surface {number} has another criterion ({printable(other.provenance.get('criterion'))})"
        if any(axis.get("norm", "filter") not in ("filter", "layer", "weight") for axis in one):
            return "the directions are not normalized to the weights, so a step means a different thing in each network"
    return ""
