"""What a surface file holds, in a glance: attributes, axes, and numbers of at most four million values per metric.

A compressed file of a few megabytes may hold gigabytes, so that counting all of it takes minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from paraloss.errors import SurfaceFileError
from paraloss.height import finite_range
from paraloss.surface.foreign import foreign_pending, is_foreign
from paraloss.surface.hdf5 import checked, member, open_hdf5, read_dataset, read_provenance_of
from paraloss.surface.reader import RANGES, check_format, metric_names, paths_of, read_axes
from paraloss.surface.value import DONE, NOT_FINITE, PENDING, Tensors
from paraloss.text import printable

MOST_VALUES = 4_000_000
"""Values that are read of each dataset; of a larger one the first ones count as a sample."""

_LARGEST_CHUNK = 2**28  # bytes; a chunk is unpacked as a whole


@dataclass(frozen=True)
class Summary:
    """What a surface file holds.

    Attributes:
        axes: steps along x, y and z that are present.
        points: number of grid points.
        counted: number of points whose status was read, ``points`` unless the file is large.
        status: value of ``Surface.status`` -> number of points among those counted.
        ranges: metric -> (smallest, largest) finite value among those counted, or in the whole where the file keeps it.
        provenance: as in ``Surface``.
        paths: as in ``Surface``.
    """

    axes: tuple[np.ndarray, ...]
    points: int
    counted: int
    status: Mapping[int, int]
    ranges: Mapping[str, tuple[float, float]]
    provenance: Mapping[str, Any]
    paths: Mapping[str, Tensors] = field(default_factory=dict)


def read_summary(path: str | Path) -> Summary:
    """Read the summary of a surface file of Paraloss or of Li et al.'s code; raises as ``read_surface``."""
    with open_hdf5(path) as file:
        foreign = is_foreign(file)
        if not foreign:
            check_format(file, path)
        x, y, z = read_axes(file, path)
        axes = tuple(axis for axis in (x, y, z) if axis is not None)
        points = int(np.prod([len(axis) for axis in axes], dtype=object))
        metrics = {name: checked(file, name, path) for name in metric_names(file) if not name.startswith("proj_")}
        for name, dataset in {**metrics, **({} if foreign else {"status": checked(file, "status", path)})}.items():
            if dataset.size != points:
                raise SurfaceFileError(
                    f"{path}: '{printable(name)}' holds {dataset.size} values but the coordinates say {points}"
                )
        samples = {name: _sample(dataset) for name, dataset in metrics.items()}
        status = _foreign_status(samples) if foreign else _sample(file["status"])
        ranges = {name: _range(file, name, values, status, path) for name, values in samples.items()}
        kinds, numbers = np.unique(status, return_counts=True)
        counts = dict(zip(kinds.tolist(), numbers.tolist(), strict=True))
        provenance = {"source": "Li et al. 2018"} if foreign else read_provenance_of(file, path)
        paths = {} if foreign else paths_of(file, path)
        return Summary(axes, points, status.size, counts, ranges, provenance, paths)


def _range(file: h5py.File, name: str, values: np.ndarray, status: np.ndarray, path: str | Path) -> tuple[float, float]:
    if member(file, f"{RANGES}/{name}", path) is not None:
        low, high = read_dataset(file, f"{RANGES}/{name}", path, ndim=1)[:2]
        return float(low), float(high)
    return finite_range(values[status != PENDING] if values.size == status.size else values)


def _sample(dataset: h5py.Dataset) -> np.ndarray:
    """The first values of a dataset in the order of the file, at most ``MOST_VALUES``."""
    chunk = int(np.prod(dataset.chunks or (1,), dtype=object)) * dataset.dtype.itemsize
    if chunk > _LARGEST_CHUNK:
        return np.empty(0, dataset.dtype)
    room, part = MOST_VALUES, []
    for length in reversed(dataset.shape):
        part.append(slice(min(length, max(room, 1))))
        room //= max(length, 1)
    return np.asarray(dataset[tuple(reversed(part))]).ravel()


def _foreign_status(samples: Mapping[str, np.ndarray]) -> np.ndarray:
    """Status of the points of Li et al.'s layout; see ``foreign_pending``."""
    size = min((len(values) for values in samples.values()), default=0)
    cut = {name: values[:size] for name, values in samples.items()}
    finite = np.logical_and.reduce([np.ones(size, bool), *(np.isfinite(values) for values in cut.values())])
    return np.where(foreign_pending(cut, (size,)), PENDING, np.where(finite, DONE, NOT_FINITE)).astype(np.uint8)
