"""Critical points of a surface, how much each matters, and the basins of its minima.

Persistence pairs a minimum with the saddle at which its basin joins a deeper one: the height that must be climbed to leave it.
Source: Edelsbrunner et al. 2002, "Topological persistence and simplification"; gudhi's cubical complexes compute it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paraloss.errors import InputError, MissingPackage

MINIMUM, SADDLE, MAXIMUM = 0, 1, 2
KINDS = ("minimum", "saddle", "maximum")


@dataclass(frozen=True)
class CriticalPoint:
    """A grid point where the surface's shape changes.

    Attributes:
        row: index along y.
        column: index along x.
        kind: 0 minimum, 1 saddle, 2 maximum.
        value: value of the analyzed field at the point.
        persistence: difference in value to the point that it is paired with; infinite for the lowest minimum.
    """

    row: int
    column: int
    kind: int
    value: float
    persistence: float


def critical_points(values: np.ndarray, threshold: float = 0.0) -> list[CriticalPoint]:
    """Find the paired critical points whose persistence exceeds ``threshold``, minima first, the most persistent first.

    Args:
        values: (ny, nx); what is not finite counts as higher than everything else.
        threshold: smallest persistence, in the unit of ``values``; 0 by default.

    Raises:
        MissingPackage: gudhi is not installed.
        InputError: no finite value.
    """
    try:
        from gudhi import CubicalComplex
    except ImportError as error:
        raise MissingPackage("persistence needs gudhi: pip install 'paraloss[topology]'") from error
    known = np.isfinite(values)
    if not known.any():
        raise InputError("no point of the surface has a finite value")
    top = float(values[known].max())
    field = np.where(known, values, top + 1.0)
    complex_ = CubicalComplex(vertices=field)
    complex_.compute_persistence(min_persistence=threshold)
    pairs, essential = complex_.vertices_of_persistence_pairs()
    flat = field.ravel(order="F")  # gudhi numbers the vertices with the first index running fastest
    found: list[CriticalPoint] = []

    def add(vertex: int, kind: int, persistence: float) -> None:
        row, column = np.unravel_index(vertex, field.shape, order="F")
        if known[row, column]:
            found.append(CriticalPoint(int(row), int(column), kind, float(flat[vertex]), persistence))

    for dimension, array in enumerate(pairs[:2]):
        for birth, death in np.asarray(array, int).reshape(-1, 2):
            persistence = float(flat[death] - flat[birth])
            if persistence > threshold:
                add(birth, dimension, persistence)  # a minimum is born, or a loop around a maximum, at a saddle
                add(death, dimension + 1, persistence)
    for vertex in np.asarray(essential[0], int).ravel():
        add(vertex, MINIMUM, float("inf"))
    return sorted(found, key=lambda point: (point.kind, -point.persistence, point.value))


def basins(values: np.ndarray, minima: list[CriticalPoint]) -> np.ndarray:
    """Assign each point to the minimum that it runs down to: (ny, nx) int32, the number in ``minima``, -1 where not finite.

    Args:
        values: (ny, nx) field.
        minima: result of ``critical_points``; other minima flood into the neighboring basin at their saddle.

    Raises:
        MissingPackage: scikit-image is not installed.

    Source: watershed by flooding from the minima, Vincent and Soille 1991, as in scikit-image.
    """
    try:
        from skimage.segmentation import watershed
    except ImportError as error:
        raise MissingPackage("basins need scikit-image: pip install 'paraloss[topology]'") from error
    finite = np.isfinite(values)
    markers = np.zeros(values.shape, np.int32)
    for number, point in enumerate(minima, start=1):
        markers[point.row, point.column] = number
    field = np.where(finite, values, 0.0)
    return np.asarray(watershed(field, markers, connectivity=2, mask=finite) - 1, np.int32)
