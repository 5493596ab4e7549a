"""``.vtkhdf``: VTK's HDF5 layout, version 1.0. ParaView opens it without a plugin: ``.vtkhdf`` from 5.12 on, ``.hdf`` in all.

A volume is image data; a surface is an unstructured grid of quads, the one polygonal form that version 1.0 has.
Source: VTK file formats, "VTKHDF file format", docs.vtk.org.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkPolyData

from paraloss.converters.formats import register
from paraloss.converters.grid import to_structured_grid
from paraloss.converters.polygons import visible_quads
from paraloss.converters.volume import image_geometry, volume_arrays
from paraloss.errors import InputError
from paraloss.marks import mark
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface
from paraloss.surface.hdf5 import made_in_memory, write_text

_QUAD = 9  # vtkCellType
_FILTERS: dict[str, dict[str, Any]] = {"none": {}, "zlib": {"compression": "gzip", "shuffle": True}}


@register(".vtkhdf", "VTK HDF5 (ParaView from 5.12 on, without plugin)", compresses=True)
@register(".hdf", "the same, under the ending that every ParaView knows", compresses=True)
def write_vtkhdf(surface: Surface, path: Path, options: GridOptions, compress: str = "none") -> None:
    """Write a surface's quads with all point arrays, or a volume.

    Raises:
        InputError: a compression that HDF5 itself does not have.
    """
    if compress not in _FILTERS:
        raise InputError(f"{{compress}} of {path.suffix} is {' or '.join(_FILTERS)}, not {compress}", arguments=("compress",))
    with made_in_memory(path) as file:
        write_text(file, "generator", mark("conversion"))
        root = file.create_group("VTKHDF")
        root.attrs["Version"] = np.array([1, 0], np.int64)
        if surface.z is not None:
            _write_image(root, surface, options, compress)
        else:
            _write_quads(root, surface, options, compress)


def _write_image(root: h5py.Group, surface: Surface, options: GridOptions, compress: str) -> None:
    origin, spacing = image_geometry(surface)
    _set_type(root, b"ImageData")
    root.attrs["WholeExtent"] = np.array([end for axis in surface.axes for end in (0, len(axis) - 1)], np.int64)
    root.attrs["Origin"], root.attrs["Spacing"] = np.array(origin), np.array(spacing)
    root.attrs["Direction"] = np.eye(3).ravel()
    points = root.create_group("PointData")
    for name, values in volume_arrays(surface, options).items():
        points.create_dataset(name, data=values, **_FILTERS[compress])


def _write_quads(root: h5py.Group, surface: Surface, options: GridOptions, compress: str) -> None:
    mesh = visible_quads(to_structured_grid(surface, options))
    _set_type(root, b"UnstructuredGrid")
    quads = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).astype(np.int64)
    cells = mesh.GetNumberOfPolys()
    for name, number in (("Points", mesh.GetNumberOfPoints()), ("Cells", cells), ("ConnectivityIds", len(quads))):
        root[f"NumberOf{name}"] = np.array([number], np.int64)
    root["Points"] = vtk_to_numpy(mesh.GetPoints().GetData())
    root["Connectivity"], root["Offsets"] = quads, np.arange(cells + 1, dtype=np.int64) * 4
    root["Types"] = np.full(cells, _QUAD, np.uint8)
    points = root.create_group("PointData")
    for index in range(mesh.GetPointData().GetNumberOfArrays()):
        array = mesh.GetPointData().GetArray(index)
        points.create_dataset(array.GetName(), data=vtk_to_numpy(array), **_FILTERS[compress])
    _write_field_data(root.create_group("FieldData"), mesh)


def _write_field_data(group: h5py.Group, mesh: vtkPolyData) -> None:
    """The facts of the heights and the paths, which the plugin's filters read."""
    facts = mesh.GetFieldData()
    for index in range(facts.GetNumberOfArrays()):
        array = facts.GetAbstractArray(index)
        if isinstance(array, vtkStringArray):
            # The reader of 5.11 knows ASCII of variable length alone.
            texts = [array.GetValue(k).encode("ascii", "backslashreplace") for k in range(array.GetNumberOfValues())]
            group.create_dataset(array.GetName(), data=texts, dtype=h5py.string_dtype("ascii"))
        else:
            group.create_dataset(array.GetName(), data=vtk_to_numpy(array))


def _set_type(root: h5py.Group, kind: bytes) -> None:
    # The reader requires a fixed-length ASCII string here, which h5py makes on request only.
    root.attrs.create("Type", kind, dtype=h5py.string_dtype("ascii", len(kind)))
