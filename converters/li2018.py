"""Surface files of Li et al. 2018's public code, read as ours.

Their file has no attributes. ``train_loss`` is shaped (nx, ny) but was filled in (y, x) order with x fastest, so that its
values read as ``values.ravel().reshape(ny, nx)``; unevaluated points hold -1 (``max_eig``: +1).
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from paraloss.errors import SurfaceFileError
from paraloss.surface import DONE, NOT_FINITE, PENDING, Surface
from paraloss.surface_file import metric_names, open_hdf5, read_dataset, read_surface

_NOT_METRICS = {"proj_xcoord", "proj_ycoord"}


def open_surface(path: str | Path) -> Surface:
    """A surface file of ours or of Li et al.'s code.

    Raises:
        SurfaceFileError: it is neither, or it is damaged.
    """
    with open_hdf5(path) as file:
        foreign = "format" not in file.attrs and "xcoordinates" in file and "train_loss" in file
        if foreign:
            return _read(file, path)
    return read_surface(path)


def _read(file: h5py.File, path: str | Path) -> Surface:
    x = read_dataset(file, "xcoordinates", path, ndim=1)
    y = read_dataset(file, "ycoordinates", path, ndim=1) if "ycoordinates" in file else None
    shape = (len(x),) if y is None else (len(y), len(x))
    metrics = {}
    pending = np.zeros(shape, bool)
    for name in metric_names(file):
        if name in _NOT_METRICS:
            continue
        values = read_dataset(file, name, path).astype(np.float64)
        if values.size != np.prod(shape):
            raise SurfaceFileError(f"{path}: '{name}' holds {values.size} values but the coordinates say {shape}")
        values = values.ravel().reshape(shape)
        if name.endswith(("_loss", "_acc")):
            pending |= values == -1
        metrics[name] = values
    metrics = {name: np.where(pending, np.nan, values) for name, values in metrics.items()}
    finite = np.logical_and.reduce([np.isfinite(values) for values in metrics.values()])
    status = np.where(pending, PENDING, np.where(finite, DONE, NOT_FINITE)).astype(np.uint8)
    return Surface(x, y, metrics, status, {"source": "Li et al. 2018"})
