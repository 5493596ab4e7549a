"""Meshes for other programs: ``.usda`` (Omniverse, Blender), ``.ply``, and ``.stl``, a solid to print (``.glb``: ``gltf``)."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkFiltersCore import vtkTriangleFilter
from vtkmodules.vtkIOGeometry import vtkSTLWriter
from vtkmodules.vtkIOPLY import vtkPLYWriter

from paraloss.converters.colors import colors_of
from paraloss.converters.facts import drawn_values, point_array
from paraloss.converters.formats import register
from paraloss.converters.grid import height_map
from paraloss.converters.polygons import corners_of, to_polydata
from paraloss.errors import InputError
from paraloss.marks import mark
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface

PRINT_WIDTH_MM = 100.0
_BASE = 0.08  # thickness of a solid's base, in widths


@register(".usda", "USD as text, with the metrics as primvars (Omniverse, Blender)")
def write_usda(surface: Surface, path: Path, options: GridOptions) -> None:
    """A ``Mesh`` of polygons, z up, ``displayColor`` and every metric as a primvar per vertex."""
    mesh = to_polydata(surface, options)
    points, colors = coordinates_of(mesh).astype(np.float32), colors_of(drawn_values(mesh)).astype(np.float32) / 255
    starts, corners = corners_of(mesh)
    normals = vtk_to_numpy(mesh.GetPointData().GetNormals())
    lines = [
        "#usda 1.0",
        f"# {mark('conversion')}",
        '(\n    defaultPrim = "loss_surface"\n    metersPerUnit = 1\n    upAxis = "Z"\n)',
        'def Mesh "loss_surface"\n{',
        f"    custom string provenance = {json.dumps(json.dumps(dict(surface.provenance)))}",
        '    uniform token subdivisionScheme = "none"',
        f"    int[] faceVertexCounts = [{', '.join(map(str, np.diff(starts).tolist()))}]",
        f"    int[] faceVertexIndices = [{', '.join(map(str, corners.tolist()))}]",
        f"    point3f[] points = [{_tuples(points)}]",
        f'    normal3f[] normals = [{_tuples(normals)}] (\n        interpolation = "vertex"\n    )',
        f'    color3f[] primvars:displayColor = [{_tuples(colors)}] (\n        interpolation = "vertex"\n    )',
    ]
    for name in surface.metrics:
        values = point_array(mesh, name).tolist()
        numbers = ", ".join(repr(value) if np.isfinite(value) else "nan" for value in values)
        lines.append(f'    double[] primvars:{name} = [{numbers}] (\n        interpolation = "vertex"\n    )')
    path.write_text("\n".join([*lines, "}\n"]))


@register(".ply", "polygons with vertex colors (MeshLab, CloudCompare)")
def write_ply(surface: Surface, path: Path, options: GridOptions) -> None:
    """Binary PLY of the polygons."""
    mesh = to_polydata(surface, options)
    colors = numpy_to_vtk(colors_of(drawn_values(mesh)), deep=True)
    colors.SetName("RGB")
    mesh.GetPointData().AddArray(colors)
    writer = vtkPLYWriter()
    writer.AddComment(mark("conversion"))
    writer.SetArrayName("RGB")
    _write(writer, mesh, path)


@register(".stl", "closed solid with a base, 100 mm wide, for a 3D printer")
def write_stl(surface: Surface, path: Path, options: GridOptions) -> None:
    """Binary STL; where a point is blank the solid is at its lowest."""
    heights = height_map(surface, options)
    if surface.y is None:
        raise InputError("this is a curve (1D); a solid needs two axes")
    points, triangles = solid(surface.x, surface.y, heights.heights)
    mesh = vtkPolyData()
    where = vtkPoints()
    where.SetData(numpy_to_vtk(points * PRINT_WIDTH_MM / float(np.ptp(points[:, :2], axis=0).max()), deep=True))
    mesh.SetPoints(where)
    cells = vtkCellArray()
    cells.SetData(3, numpy_to_vtk(triangles.ravel().astype(np.int64), deep=True, array_type=16))
    mesh.SetPolys(cells)
    writer = vtkSTLWriter()
    writer.SetHeader(mark("conversion"))
    writer.SetFileTypeToBinary()
    _write(writer, mesh, path)


def solid(x: np.ndarray, y: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A closed body below a surface, with a flat base.

    Args:
        x: (nx,).
        y: (ny,).
        heights: (ny, nx).

    Returns:
        Points (2 nx ny, 3), those of the surface first; triangles (k, 3), seen anticlockwise from outside.
    """
    ny, nx = heights.shape
    bottom = heights.min() - _BASE * max(np.ptp(x), np.ptp(y))
    across, along = np.meshgrid(x, y)
    top = np.stack([across, along, heights], axis=-1).reshape(-1, 3)
    base = top.copy()
    base[:, 2] = bottom
    index = np.arange(nx * ny).reshape(ny, nx)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    sheet = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    rim = np.concatenate([index[0, :], index[1:, -1], index[-1, -2::-1], index[-2:0:-1, 0]])  # anticlockwise from above
    here, there = rim, np.roll(rim, -1)
    walls = np.concatenate([np.stack([here + nx * ny, there + nx * ny, there], 1), np.stack([here + nx * ny, there, here], 1)])
    return np.concatenate([top, base]), np.concatenate([sheet, sheet[:, ::-1] + nx * ny, walls])


def coordinates_of(mesh: vtkPolyData) -> np.ndarray:
    """(points, 3) coordinates of a mesh."""
    return np.asarray(vtk_to_numpy(mesh.GetPoints().GetData()))


def _tuples(rows: np.ndarray) -> str:
    return ", ".join(f"({a:.9g}, {b:.9g}, {c:.9g})" for a, b, c in rows.tolist())


def _write(writer: Any, mesh: vtkPolyData, path: Path) -> None:
    triangles = vtkTriangleFilter()
    triangles.SetInputData(mesh)
    writer.SetInputConnection(triangles.GetOutputPort())
    writer.SetFileName(str(path))
    if writer.Write() != 1 or not path.exists() or not _whole(path):
        raise OSError(errno.ENOSPC, "vtk could not write this file; is the disk full?")


def _whole(path: Path) -> bool:
    """Whether a file of triangles has the size that its head says: vtk does not notice a full disk in a ``.ply``."""
    if path.suffix.lower() != ".ply":
        return True
    head, end, _ = path.read_bytes().partition(b"end_header\n")
    vertex, _, faces = head.decode("ascii", "replace").partition("element face ")
    properties = sum(
        {"float": 4, "double": 8}.get(line.split()[1], 1) for line in vertex.splitlines() if line.startswith("property")
    )
    if not end or "element vertex " not in vertex:
        return False
    points, triangles = int(vertex.split("element vertex ")[1].split()[0]), int(faces.split()[0])
    return path.stat().st_size >= len(head) + len(end) + points * properties + triangles * 13
