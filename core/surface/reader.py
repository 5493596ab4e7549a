"""Surface files read: whole, in outline, or a window of them. Needs numpy and h5py only.

Names and shapes are listed in docs/file-format.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from paraloss.errors import SurfaceFileError
from paraloss.height import finite_range
from paraloss.surface.hdf5 import (
    check_sizes,
    checked,
    dataset_names,
    is_member,
    member,
    members,
    open_hdf5,
    read_dataset,
    read_provenance_of,
    read_text,
)
from paraloss.surface.recipes import recipes_of
from paraloss.surface.value import PENDING, Surface, complete_stride, subgrid
from paraloss.text import printable

FORMAT, FORMAT_VERSION = "paraloss-surface", 1
RANGES = "ranges"
"""Group of the finite range of each metric so far: a reader of a part needs the whole's range for its colors and heights."""

TRAJECTORIES = "trajectories"
"""Group of the paths of several runs, numbered, each with the attribute ``label``."""

_MOST_PATHS = 1000
_ROWS_OF = 1 << 22  # points that are looked at together
_NOT_METRICS = {"xcoordinates", "ycoordinates", "zcoordinates", "status", "dir_file"}


def read_surface(path: str | Path, directions: bool = False) -> Surface:
    """Read a surface file, finished or still being computed.

    Args:
        path: the file.
        directions: read the directions too (as large as two checkpoints, where they are no recipes).

    Raises:
        SurfaceFileError: the file is missing, not HDF5, not a surface file, of a newer format, or inconsistent.
    """
    with open_hdf5(path) as file:
        check_format(file, path)
        x, y, z = read_axes(file, path)
        shape = tuple(len(axis) for axis in (z, y, x) if axis is not None)
        values = {name: _on_grid(file, name, shape, path) for name in (*metric_names(file), "status")}
        check_sizes(list(values.values()), path)
        metrics = {name: dataset[...] for name, dataset in values.items()}
        status = metrics.pop("status").astype(np.uint8)
        return Surface(
            x=x,
            y=y,
            z=z,
            metrics=metrics,
            status=status,
            provenance=read_provenance_of(file, path),
            directions=read_direction_groups(file, path) if directions else {},
            recipes=recipes_of(file, path) if directions else {},
            trajectory=read_trajectory(file, path),
            trajectories=read_trajectories(file, path),
        )


@dataclass(frozen=True)
class Outline:
    """What a surface file holds, without the values.

    Attributes:
        x: (nx,) steps.
        y: (ny,) steps, None for a curve.
        ranges: metric -> (smallest, largest) finite value evaluated so far; NaN when there is none.
        provenance: as in ``Surface``.
        trajectory: as in ``Surface``.
        trajectories: as in ``Surface``.
        stride: spacing, in grid points, of the steps that ``x`` and ``y`` list; see ``read_window``.
        is_complete: whether no point is pending.
    """

    x: np.ndarray
    y: np.ndarray | None
    ranges: Mapping[str, tuple[float, float]]
    provenance: Mapping[str, Any]
    trajectory: Mapping[str, np.ndarray] | None
    trajectories: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    stride: int = 1
    is_complete: bool = True


def read_outline(path: str | Path, stride: int | None = None, complete: bool | None = None) -> Outline:
    """Read coordinates, metric names and their ranges; raises as ``read_surface``.

    Args:
        path: the file.
        stride: spacing of the steps to list. Default: that of the finest complete sub-grid.
        complete: whether no point is pending. Default: look at the status of every point.

    The ranges are kept in the file; where they are not, the values are scanned. While a surface is being computed the
    coordinates are those of its finest complete sub-grid, see ``Surface.drawable``.
    """
    with open_hdf5(path) as file:
        check_format(file, path)
        x, y, z = read_axes(file, path)
        if z is not None:
            raise SurfaceFileError(f"{path}: is a volume (3D), no surface; convert it: paraloss convert {path} volume.vti")
        shape = (len(x),) if y is None else (len(y), len(x))
        ranges = {}
        for name in metric_names(file):
            values = _on_grid(file, name, shape, path)
            if member(file, f"{RANGES}/{name}", path) is not None:
                low, high = read_dataset(file, f"{RANGES}/{name}", path, ndim=1)[:2]
                ranges[name] = (float(low), float(high))
            else:
                check_sizes([values], path)
                ranges[name] = finite_range(values[...])
        status = _on_grid(file, "status", shape, path)
        complete = _all_known(status) if complete is None else complete
        stride = stride or (1 if complete else complete_stride(status[...]))
        part = subgrid(shape, stride)
        x, y = x[part[-1]], None if y is None else y[part[0]]
        provenance = read_provenance_of(file, path)
        return Outline(x, y, ranges, provenance, read_trajectory(file, path), read_trajectories(file, path), stride, complete)


def _all_known(status: h5py.Dataset) -> bool:
    """Whether no point is pending; reads a few rows at a time, so that a rank that reads a part holds no whole array."""
    rows = max(1, _ROWS_OF // max(1, int(np.prod(status.shape[1:]))))
    return all((status[first : first + rows] != PENDING).all() for first in range(0, len(status), rows))


def read_window(
    path: str | Path, extent: tuple[int, int, int, int], metrics: Sequence[str] | None = None, stride: int = 1
) -> Surface:
    """Read a rectangular part of a surface and nothing else. Raises as ``read_surface``.

    Args:
        path: the file of a two-dimensional surface.
        extent: (i0, i1, j0, j1), both ends included: columns i0..i1 of x, rows j0..j1 of y.
        metrics: names to read; None reads all.
        stride: ``extent`` counts the points of the sub-grid of this stride around the middle.
    """
    i0, i1, j0, j1 = extent
    with open_hdf5(path) as file:
        check_format(file, path)
        x = read_dataset(file, "xcoordinates", path, ndim=1)
        y = read_dataset(file, "ycoordinates", path, ndim=1)
        names = metric_names(file) if metrics is None else list(metrics)
        rows, columns = (
            slice(whole.start + first * stride, whole.start + last * stride + 1, stride)
            for whole, first, last in zip(subgrid((len(y), len(x)), stride), (j0, i0), (j1, i1), strict=True)
        )
        part = (rows, columns)
        values = {name: _on_grid(file, name, (len(y), len(x)), path)[part] for name in names}
        status = _on_grid(file, "status", (len(y), len(x)), path)[part].astype(np.uint8)
        return Surface(x[columns], y[rows], values, status, read_provenance_of(file, path))


def read_directions(path: str | Path, beside_recipes: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """Read the directions in a surface file: "x", "y" -> parameter name -> array of the parameter's shape.

    Args:
        path: the file.
        beside_recipes: read what tensors there are where the file holds directions by recipe.

    Raises:
        SurfaceFileError: as ``read_surface``, the directions are not those that were written, or they are recipes.
    """
    with open_hdf5(path) as file:
        check_format(file, path)
        found = read_direction_groups(file, path)
        expected = read_text(file, "directions_sha256")
        missing = "" if beside_recipes else "".join(axis for axis in members(file, "recipes", path) if axis not in found)
    if missing:
        raise SurfaceFileError(
            f"{path}: direction {printable(missing[0])} is a recipe, of which the model makes the numbers: use "
            "paraloss.compute.load_directions, or compute the file with {save_directions}",
            arguments=("save_directions",),
        )
    if expected is not None and directions_sha256(found) != expected:
        raise SurfaceFileError(f"{path}: its directions are damaged; mend it with: paraloss info --repair {path}")
    return found


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Read where a surface came from, as in ``Surface.provenance``; raises as ``read_surface``."""
    with open_hdf5(path) as file:
        check_format(file, path)
        return read_provenance_of(file, path)


def read_axes(file: h5py.File, path: str | Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The steps along x, y and z of an open file; None for an axis that it does not have. Raises as ``read_surface``."""
    x = read_dataset(file, "xcoordinates", path, ndim=1)
    y, z = (
        None if member(file, f"{axis}coordinates", path) is None else read_dataset(file, f"{axis}coordinates", path, ndim=1)
        for axis in "yz"
    )
    return x, y, z


def metric_names(file: h5py.File) -> list[str]:
    """Names of the datasets at the top of ``file`` that hold one value per grid point, losses first."""
    names = [name for name in file if name not in _NOT_METRICS and is_member(file, name)]
    names = [name for name in names if isinstance(file[name], h5py.Dataset) and file[name].ndim >= 1]
    return sorted(names, key=lambda name: ("loss" not in name, "train" not in name, name))


def _on_grid(file: h5py.File, name: str, shape: tuple[int, ...], path: str | Path) -> h5py.Dataset:
    dataset = checked(file, name, path)
    if dataset.shape != shape:
        raise SurfaceFileError(
            f"{path}: '{printable(name)}' is {dataset.shape} but the coordinates say {shape}. The file was cut short or "
            f"edited; recompute it with: paraloss compute … -o {path} --overwrite"
        )
    return dataset


def read_direction_groups(file: h5py.File, path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read what an open file holds below ``directions``; raises as ``read_surface``."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for axis in members(file, "directions", path):
        names = dataset_names(file, f"directions/{axis}", path)  # a parameter's name may hold a slash
        datasets = {name: checked(file, f"directions/{axis}/{name}", path) for name in names}
        check_sizes(list(datasets.values()), path)
        found[axis] = {name: dataset[...] for name, dataset in datasets.items()}
    return found


def read_trajectory(file: h5py.File, path: str | Path) -> dict[str, np.ndarray] | None:
    """Read the trajectory of an open file; None where it has none. Raises as ``read_surface``."""
    if member(file, "trajectory", path) is None:
        return None
    return _one_path(file, "trajectory", path)


def _one_path(file: h5py.File, place: str, path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an optimizer path, one number per checkpoint each."""
    found = {name: read_dataset(file, f"{place}/{name}", path, ndim=1) for name in members(file, place, path)}
    lengths = {name: len(values) for name, values in found.items()}
    missing = [name for name in "xy" if name not in found]
    if missing or len(set(lengths.values())) > 1:
        what = f"it has no {missing[0]}" if missing else ", ".join(f"{printable(n)} has {k}" for n, k in lengths.items())
        raise SurfaceFileError(
            f"{path}: '{place}' is no path of one number per checkpoint: {what}; write it again, or remove the group"
        )
    return found


def read_trajectories(file: h5py.File, path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the paths of several runs of an open file by label, in the order of the runs; none where it has none.

    Raises:
        SurfaceFileError: as ``read_surface``, or the group holds something else than up to a thousand numbered paths.
    """
    numbers = members(file, TRAJECTORIES, path)
    if len(numbers) > _MOST_PATHS or not all(number.isdecimal() and len(number) < 6 for number in numbers):
        raise SurfaceFileError(f"{path}: '{TRAJECTORIES}' does not hold numbered paths, {_MOST_PATHS} at most; it is damaged")
    found: dict[str, dict[str, np.ndarray]] = {}
    for number in sorted(numbers, key=int):
        place = f"{TRAJECTORIES}/{number}"
        group = member(file, place, path)
        if not isinstance(group, h5py.Group):
            raise SurfaceFileError(f"{path}: '{place}' is no group of datasets; the file is damaged")
        label = printable(read_text(group, "label") or f"run {number}")
        label = label if label not in found else f"{label} ({number})"
        found[label] = _one_path(file, place, path)
    return found


def read_paths(path: str | Path) -> dict[str, Mapping[str, np.ndarray]]:
    """Read the paths in a surface file by label, as in ``Surface.paths``; raises as ``read_surface``."""
    with open_hdf5(path) as file:
        check_format(file, path)
        return paths_of(file, path)


def paths_of(file: h5py.File, path: str | Path) -> dict[str, Mapping[str, np.ndarray]]:
    """The paths of an open file by label, as in ``Surface.paths``; raises as ``read_surface``."""
    one = read_trajectory(file, path)
    return {**({} if one is None else {"": one}), **read_trajectories(file, path)}


def directions_sha256(directions: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Identify the directions' numbers, so that damage to them does not go unnoticed."""
    digest = hashlib.sha256()
    for axis in sorted(directions):
        for name in sorted(directions[axis]):
            digest.update(f"{axis}/{name}".encode() + np.ascontiguousarray(directions[axis][name]).tobytes())
    return digest.hexdigest()


def check_format(file: h5py.File, path: str | Path) -> None:
    """Refuse what is no surface file, or of a newer format.

    Raises:
        SurfaceFileError: names the format found.
    """
    kind = read_text(file, "format")
    if kind != FORMAT:
        found = "none" if kind is None else f"'{printable(kind)[:40]}'"
        raise SurfaceFileError(f"{path}: is HDF5 but not a surface file of Paraloss (attribute 'format' is {found})")
    version = int(file.attrs.get("format_version", 0))
    if version > FORMAT_VERSION:
        raise SurfaceFileError(f"{path}: is of format {version}, this Paraloss reads up to {FORMAT_VERSION}; update it")
