"""Several surfaces of the same steps as one: their mean with the spread, or the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkStructuredGrid

from paraloss.converters.from_grid import from_structured_grid
from paraloss.converters.grid import to_structured_grid
from paraloss.errors import InputError
from paraloss.picture_options import GridOptions
from paraloss.surface import PENDING, Surface


def mean_grid(grids: Sequence[vtkStructuredGrid]) -> vtkStructuredGrid:
    """The mean of surfaces, with their spread as the active scalars.

    Args:
        grids: two or more grids of ``to_structured_grid`` with the same steps.

    Returns:
        A grid with each metric that all surfaces hold (mean) and ``<metric>_std``, its standard deviation over the surfaces,
        ddof 1. Heights are made as those of the first grid, on its scale. A point that is pending in one surface is pending.

    Raises:
        InputError: fewer than two grids, other steps, or nothing in common.
    """
    surfaces, options = _surfaces(grids)
    metrics: dict[str, np.ndarray] = {}
    for name in surfaces[0].metrics:
        if all(name in surface.metrics for surface in surfaces):
            values = np.stack([surface.metrics[name] for surface in surfaces])
            with np.errstate(invalid="ignore"):
                metrics[name], metrics[f"{name}_std"] = values.mean(axis=0), values.std(axis=0, ddof=1)
    height = options.metric or surfaces[0].default_metric
    if height not in metrics:
        raise InputError(f"'{height}', which gives the height of the first surface, is not in all of them")
    status = np.stack([surface.status for surface in surfaces])
    status = np.where((status == PENDING).any(axis=0), PENDING, status.max(axis=0)).astype(np.uint8)
    facts = {"mean_of": [dict(surface.provenance) for surface in surfaces]}
    mean = Surface(surfaces[0].x, surfaces[0].y, metrics, status, facts)
    grid = to_structured_grid(mean, replace(options, metric=height))
    grid.GetPointData().SetActiveScalars(f"{height}_std")
    return grid


def difference_grid(grids: Sequence[vtkStructuredGrid]) -> vtkStructuredGrid:
    """The first of two surfaces minus the second, metric by metric, in the metrics' units; see ``Surface.__sub__``.

    Raises:
        InputError: not two grids, other steps, or nothing in common.
    """
    if len(grids) != 2:
        raise InputError(f"a difference is of two surfaces, not of {len(grids)}")
    surfaces, options = _surfaces(grids)
    difference = surfaces[0] - surfaces[1]
    wanted = f"{options.metric or surfaces[0].default_metric}_difference"
    return to_structured_grid(difference, GridOptions(metric=wanted if wanted in difference.metrics else None))


def _surfaces(grids: Sequence[vtkStructuredGrid]) -> tuple[list[Surface], GridOptions]:
    if len(grids) < 2:
        raise InputError("select two or more surfaces, then this filter")
    found = [from_structured_grid(grid) for grid in grids]
    surfaces = [surface for surface, _ in found]
    for number, surface in enumerate(surfaces[1:], start=2):
        same = surface.shape == surfaces[0].shape and all(map(np.allclose, surface.axes, surfaces[0].axes))
        if not same:
            raise InputError(f"surface {number} has other steps than the first; compute all with the same steps")
    return surfaces, found[0][1]
