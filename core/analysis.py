"""Numbers that say how a surface looks: roughness, share of convex points, area of the basin.

They compare two surfaces only on grids of the same steps and directions of the same normalisation.
"""

from __future__ import annotations

import numpy as np

from paraloss.errors import InputError
from paraloss.surface import Surface


def roughness(values: np.ndarray, offset: float = 0.1) -> float:
    """Mean absolute second difference of ln(loss + offset) along the grid lines, (f[i-1] - 2 f[i] + f[i+1]).

    Args:
        values: (ny, nx) losses; differences that touch a NaN are left out.
        offset: as in the pictures.

    0 for a plane; grows with ripples of the size of a grid step. Depends on that step.
    """
    logs = np.log(values + offset)
    differences = np.concatenate([np.abs(np.diff(logs, 2, axis=0)).ravel(), np.abs(np.diff(logs, 2, axis=1)).ravel()])
    differences = differences[np.isfinite(differences)]
    return float(differences.mean()) if differences.size else float("nan")


def convex_share(values: np.ndarray) -> float:
    """Share of inner points where the 2×2 Hessian of the loss, by central differences, has no negative eigenvalue.

    Args:
        values: (ny, nx) losses on an evenly spaced grid with equal steps along x and y.

    1 for a convex surface. Source: Li et al. 2018, section 6, asks the same of the full Hessian.
    """
    f = values
    xx = f[1:-1, 2:] - 2 * f[1:-1, 1:-1] + f[1:-1, :-2]
    yy = f[2:, 1:-1] - 2 * f[1:-1, 1:-1] + f[:-2, 1:-1]
    xy = (f[2:, 2:] - f[2:, :-2] - f[:-2, 2:] + f[:-2, :-2]) / 4
    known = np.isfinite(xx) & np.isfinite(yy) & np.isfinite(xy)
    convex = (xx + yy >= 0) & (xx * yy - xy**2 >= 0)
    return float(convex[known].mean()) if known.any() else float("nan")


def basin_area(surface: Surface, metric: str | None = None, rise: float = 1.0) -> float:
    """Area around the centre in which the loss stays within ``rise`` of the centre's, as a share of the whole plot.

    Args:
        surface: two-dimensional, with (0, 0) on it.
        metric: a loss; the default one when None.
        rise: in the loss's unit.

    Only the part that hangs together with the centre counts (4-neighbourhood).

    Raises:
        InputError: a curve.
    """
    from scipy.ndimage import label

    if surface.y is None:
        raise InputError("a curve (1D) has no area; compute the surface with --y")
    values = surface.metric(metric)
    centre = int(np.abs(surface.y).argmin()), int(np.abs(surface.x).argmin())
    low = values <= values[centre] + rise
    parts, _ = label(low)
    return float((parts == parts[centre]).mean()) if low[centre] else 0.0
