"""``.glb``: binary glTF 2.0 with normals and vertex colors, for the web, AR and Blender.

Source: Khronos glTF 2.0 specification, "Binary glTF layout" and "Meshes".
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData

from paraloss.converters.colors import colors_of
from paraloss.converters.facts import drawn_values
from paraloss.converters.formats import register
from paraloss.converters.grid import as_float32, blank_cells, check_grid, height_map
from paraloss.converters.meshes import coordinates_of
from paraloss.converters.normals import surface_normals
from paraloss.converters.polygons import to_polydata, triangles_of
from paraloss.converters.quads import quad_corners
from paraloss.errors import InputError
from paraloss.marks import mark
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface

_COMPONENTS = {"uint8": 5121, "uint32": 5125, "float32": 5126}
_VERTICES, _INDICES = 34962, 34963  # targets of buffer views
_LARGEST = 2**32 - 1  # bytes: the file's length is a 32-bit number


@register(".glb", "glTF with vertex colors (web, AR, Blender)")
def write_glb(surface: Surface, path: Path, options: GridOptions) -> None:
    """Binary glTF 2.0: y up as glTF has it, so that (x, y, z) lies at (x, z, -y); meters are steps of the directions.

    Raises:
        InputError: more points than the format holds.
    """
    buffers = _of_grid(surface, options) if options.zmax is None else _of_polygons(to_polydata(surface, options))
    size = sum(array.nbytes for array in buffers.values())
    if size + 4096 > _LARGEST:
        raise InputError(f"{path}: {size} bytes are more than a .glb can hold (4 GiB); convert to .vts or .ply")
    head = json.dumps(_head(buffers)).encode()
    head += b" " * (-len(head) % 4)
    with path.open("wb") as file:
        file.write(struct.pack("<4sIIII", b"glTF", 2, 28 + len(head) + size, len(head), 0x4E4F534A) + head)
        file.write(struct.pack("<II", size, 0x004E4942))
        for array in buffers.values():
            array.tofile(file)


def _of_grid(surface: Surface, options: GridOptions) -> dict[str, np.ndarray]:
    """The buffers of a whole surface, without a mesh in between."""
    check_grid(surface)
    heights = height_map(surface, options)
    x, y, known = surface.x, np.asarray(surface.y), heights.known
    z = heights.grounded(known)
    quads = quad_corners(z.shape[0], z.shape[1], blank_cells(heights.blank))
    triangles = np.empty((2, len(quads), 3), np.uint32)
    triangles[0] = quads[:, :3]
    triangles[1, :, 0], triangles[1, :, 1:] = quads[:, 0], quads[:, 2:]
    normals = surface_normals(x, y, known)
    return {
        "POSITION": _y_up(as_float32(x), as_float32(y)[:, None], as_float32(z)),
        "NORMAL": _y_up(normals[..., 0], normals[..., 1], normals[..., 2]),
        "COLOR_0": _colors(heights.values.ravel()),
        "indices": triangles.ravel(),
    }


def _of_polygons(mesh: vtkPolyData) -> dict[str, np.ndarray]:
    """The buffers of a surface that is cut."""
    points, normals = as_float32(coordinates_of(mesh)), vtk_to_numpy(mesh.GetPointData().GetNormals())
    return {
        "POSITION": _y_up(points[:, 0], points[:, 1], points[:, 2]),
        "NORMAL": _y_up(normals[:, 0], normals[:, 1], normals[:, 2]),
        "COLOR_0": _colors(drawn_values(mesh)),
        "indices": triangles_of(mesh).astype(np.uint32).ravel(),
    }


def _colors(values: np.ndarray) -> np.ndarray:
    colors = np.full((len(values), 4), 255, np.uint8)
    colors[:, :3] = colors_of(values)
    return colors


def _y_up(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(points, 3) float32 of three arrays that broadcast to the shape of ``z``."""
    turned = np.empty((*z.shape, 3), np.float32)
    turned[..., 0], turned[..., 1] = x, z
    np.negative(y, out=turned[..., 2])
    return turned.reshape(-1, 3)


def _head(buffers: dict[str, np.ndarray]) -> dict[str, Any]:
    """The JSON in front of ``buffers``: an accessor and a view for each, in their order."""
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    offset = 0
    for name, array in buffers.items():
        indices = name == "indices"
        views.append(
            {"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": _INDICES if indices else _VERTICES}
        )
        kind = "SCALAR" if indices else f"VEC{array.shape[1]}"
        one = {"bufferView": len(accessors), "componentType": _COMPONENTS[str(array.dtype)], "count": len(array), "type": kind}
        if name == "COLOR_0":
            one["normalized"] = True
        if name == "POSITION":
            one |= {"min": [float(c.min()) for c in array.T], "max": [float(c.max()) for c in array.T]}
        accessors.append(one)
        offset += array.nbytes
    attributes = {name: number for number, name in enumerate(buffers) if name != "indices"}
    material = {"doubleSided": True, "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.6}}
    return {
        "asset": {"version": "2.0", "generator": mark("conversion")},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "loss_surface"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": len(buffers) - 1, "material": 0}]}],
        "materials": [material],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
