"""Surface files of Li et al. 2018's public code, read and written.

Their file has no attributes. ``train_loss`` is shaped (nx, ny) but was filled in (y, x) order with x fastest, so that its
values read as ``values.ravel().reshape(ny, nx)``; unevaluated points hold -1 (``min_eig``: +1).
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkPolyData

from paraloss.converters.grid import as_float32
from paraloss.converters.quads import quad_cells, quad_corners
from paraloss.errors import InputError, SurfaceFileError
from paraloss.height import metric_scale
from paraloss.marks import mark
from paraloss.picture_options import GridOptions
from paraloss.surface import DONE, NOT_FINITE, PENDING, Surface, read_surface
from paraloss.surface.foreign import FOREIGN_PENDING, FOREIGN_PENDING_MIN_EIG, foreign_pending, is_foreign
from paraloss.surface.hdf5 import check_sizes, checked, is_member, made_in_memory, open_hdf5, read_dataset, write_text
from paraloss.surface.reader import metric_names
from paraloss.text import printable

_NOT_METRICS = {"proj_xcoord", "proj_ycoord"}


def open_surface(path: str | Path) -> Surface:
    """Read a surface file of Paraloss or of Li et al.'s code.

    Raises:
        SurfaceFileError: it is neither, or it is damaged.
    """
    with open_hdf5(path) as file:
        if is_foreign(file):
            return _read(file, path)
    return read_surface(path)


def is_li2018(path: str | Path) -> bool:
    """Whether a file is a surface file of Li et al.'s code; raises ``SurfaceFileError`` where it is no HDF5."""
    with open_hdf5(path) as file:
        return is_foreign(file)


def _read(file: h5py.File, path: str | Path) -> Surface:
    x = read_dataset(file, "xcoordinates", path, ndim=1)
    y = read_dataset(file, "ycoordinates", path, ndim=1) if is_member(file, "ycoordinates") else None
    shape = (len(x),) if y is None else (len(y), len(x))
    names = [name for name in metric_names(file) if name not in _NOT_METRICS]
    check_sizes([checked(file, name, path) for name in names], path)
    metrics = {}
    for name in names:
        values = read_dataset(file, name, path).astype(np.float64)
        if values.size != np.prod(shape):
            raise SurfaceFileError(f"{path}: '{printable(name)}' holds {values.size} values but the coordinates say {shape}")
        metrics[name] = values.ravel().reshape(shape)
    pending = foreign_pending(metrics, shape)
    metrics = {name: np.where(pending, np.nan, values) for name, values in metrics.items()}
    finite = np.logical_and.reduce([np.isfinite(values) for values in metrics.values()])
    status = np.where(pending, PENDING, np.where(finite, DONE, NOT_FINITE)).astype(np.uint8)
    return Surface(x, y, metrics, status, {"source": "Li et al. 2018"})


def write_layout(surface: Surface, path: Path) -> None:
    """Write a surface file that Li et al.'s scripts read: no attributes, arrays of shape (nx, ny) filled in (y, x) order.

    Raises:
        InputError: a volume, which they have no layout for.
    """
    if surface.z is not None:
        raise InputError("Li et al.'s surface files hold curves and surfaces, no volumes")
    with made_in_memory(path) as file:
        file["dir_file"] = str(surface.provenance.get("checkpoint", "none"))
        write_text(file["dir_file"], "generator", mark("conversion"))
        file["xcoordinates"] = surface.x
        if surface.y is not None:
            file["ycoordinates"] = surface.y
        for name, values in surface.metrics.items():
            waiting = FOREIGN_PENDING_MIN_EIG if name == "min_eig" else FOREIGN_PENDING
            filled = np.where(surface.status == PENDING, waiting, values)
            file[name] = filled.ravel().reshape(filled.shape[::-1])
        if surface.trajectory is not None:
            file["proj_xcoord"], file["proj_ycoord"] = surface.trajectory["x"], surface.trajectory["y"]


def to_li2018_polydata(surface: Surface, options: GridOptions) -> vtkPolyData:
    """The polygons that Li et al.'s converter writes: points (x, y, metric), quads, ``zvalue`` and ``averaged zvalue``.

    Heights are the metric itself, clipped at ``zmax``, then ln(z + 0.1) under ``log``: nothing is scaled or left out. Points
    that were not evaluated are NaN.

    Raises:
        InputError: a curve or a volume.
    """
    if surface.y is None or surface.z is not None:
        raise InputError("Li et al.'s polygons are of surfaces (two axes)")
    z = np.asarray(surface.metric(options.metric), np.float64)
    z = z if options.zmax is None else np.minimum(z, options.zmax)
    z = metric_scale(z, bool(options.log), options.log_offset).heights(z)
    ny, nx = z.shape
    places = np.empty((ny, nx, 3), np.float32)
    places[..., 0], places[..., 1], places[..., 2] = surface.x, surface.y[:, None], as_float32(z)
    mesh, points = vtkPolyData(), vtkPoints()
    points.SetData(numpy_to_vtk(places.reshape(-1, 3), deep=True))
    mesh.SetPoints(points)
    mesh.SetPolys(quad_cells(quad_corners(ny, nx)))
    averages = (z[:-1, :-1] + z[:-1, 1:] + z[1:, 1:] + z[1:, :-1]) / 4
    for data, name, values in (
        (mesh.GetPointData(), "zvalue", z.ravel()),
        (mesh.GetCellData(), "averaged zvalue", averages.ravel()),
    ):
        array = numpy_to_vtk(as_float32(values), deep=True)
        array.SetName(name)
        data.SetScalars(array)
    return mesh
