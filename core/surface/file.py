"""The surface file: HDF5, format 1, safe to kill and resume at any moment. Needs numpy and h5py only.

Names and shapes are listed in docs/file-format.md. All datasets are allocated when the file is made, so that adding
results never changes the file's structure: a killed writer leaves a file that opens, with at most the last second lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from paraloss._version import __version__
from paraloss.errors import SurfaceFileError
from paraloss.surface import DONE, INTERPOLATED, NOT_FINITE, PENDING, Surface, complete_stride, subgrid

_RANGES = "ranges"  # of the finite values so far: a reader of a part needs the whole's range for its colors and heights
FORMAT, FORMAT_VERSION = "paraloss-surface", 1
_NOT_METRICS = {"xcoordinates", "ycoordinates", "zcoordinates", "status", "dir_file"}
_LONGEST_TEXT = 60_000
_DEFLATE_LIMIT = 1100  # no HDF5 filter in use packs tighter; a dataset that claims more is a lie


def read_surface(path: str | Path, directions: bool = False) -> Surface:
    """Read a surface file, finished or still being computed.

    Args:
        path: the file.
        directions: read the directions too (as large as two checkpoints).

    Raises:
        SurfaceFileError: the file is missing, not HDF5, not a surface file, of a newer format, or inconsistent.
    """
    with open_hdf5(path) as file:
        _check_format(file, path)
        x = read_dataset(file, "xcoordinates", path, ndim=1)
        y, z = (
            read_dataset(file, f"{axis}coordinates", path, ndim=1) if f"{axis}coordinates" in file else None for axis in "yz"
        )
        shape = tuple(len(axis) for axis in (z, y, x) if axis is not None)
        metrics = {name: _on_grid(file, name, shape, path)[...] for name in metric_names(file)}
        status = _on_grid(file, "status", shape, path)[...].astype(np.uint8)
        return Surface(
            x=x,
            y=y,
            z=z,
            metrics=metrics,
            status=status,
            provenance=_json_attribute(file, "provenance", path),
            directions=read_direction_groups(file, path) if directions else {},
            trajectory=_read_trajectory(file, path),
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
        stride: of the points that ``x`` and ``y`` list, see ``read_window``.
    """

    x: np.ndarray
    y: np.ndarray | None
    ranges: Mapping[str, tuple[float, float]]
    provenance: Mapping[str, Any]
    trajectory: Mapping[str, np.ndarray] | None
    stride: int = 1


def read_outline(path: str | Path) -> Outline:
    """Coordinates, metric names and their ranges; raises as ``read_surface``.

    The ranges are kept in the file; where they are not, the values are scanned. While a surface is being computed the
    coordinates are those of its finest complete sub-grid, see ``Surface.drawable``.
    """
    with open_hdf5(path) as file:
        _check_format(file, path)
        if "zcoordinates" in file:
            raise SurfaceFileError(f"{path}: is a volume (3D), no surface; convert it: paraloss convert {path} volume.vti")
        x = read_dataset(file, "xcoordinates", path, ndim=1)
        y = read_dataset(file, "ycoordinates", path, ndim=1) if "ycoordinates" in file else None
        shape = (len(x),) if y is None else (len(y), len(x))
        ranges = {}
        for name in metric_names(file):
            values = _on_grid(file, name, shape, path)
            if f"{_RANGES}/{name}" in file:
                low, high = read_dataset(file, f"{_RANGES}/{name}", path, ndim=1)[:2]
                ranges[name] = (float(low), float(high))
            else:
                ranges[name] = finite_range(values[...])
        stride = complete_stride(_on_grid(file, "status", shape, path)[...])
        part = subgrid(shape, stride)
        x, y = x[part[-1]], None if y is None else y[part[0]]
        return Outline(x, y, ranges, _json_attribute(file, "provenance", path), _read_trajectory(file, path), stride)


def read_window(
    path: str | Path, extent: tuple[int, int, int, int], metrics: Sequence[str] | None = None, stride: int = 1
) -> Surface:
    """A rectangular part of a surface; nothing else is read from the disk. Raises as ``read_surface``.

    Args:
        path: the file of a two-dimensional surface.
        extent: (i0, i1, j0, j1), both ends included: columns i0..i1 of x, rows j0..j1 of y.
        metrics: names to read; None reads all.
        stride: ``extent`` counts the points of the sub-grid of this stride around the middle.
    """
    i0, i1, j0, j1 = extent
    with open_hdf5(path) as file:
        _check_format(file, path)
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
        return Surface(x[columns], y[rows], values, status, _json_attribute(file, "provenance", path))


def finite_range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest finite value; (NaN, NaN) when there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (float("nan"), float("nan"))


def read_directions(path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """The directions kept in a surface file: "x", "y" -> parameter name -> array of the parameter's shape.

    Raises:
        SurfaceFileError: as ``read_surface``, or the directions are not those that were written.
    """
    with open_hdf5(path) as file:
        _check_format(file, path)
        found = read_direction_groups(file, path)
        expected = read_text(file, "directions_sha256")
    if expected is not None and directions_sha256(found) != expected:
        raise SurfaceFileError(f"{path}: its directions are damaged; mend it with: paraloss info --repair {path}")
    return found


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Where a surface came from: what ``Surface.provenance`` holds; raises as ``read_surface``."""
    with open_hdf5(path) as file:
        _check_format(file, path)
        return _json_attribute(file, "provenance", path)


def write_surface(surface: Surface, path: str | Path) -> Path:
    """Write a whole surface at once; the file appears complete or not at all.

    Raises:
        SurfaceFileError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    with new_file(path) as file:
        _fillnew_file(file, surface, fingerprint={})
    return path


def write_text(file: h5py.File, name: str, text: str) -> None:
    """A text attribute of fixed length where HDF5 has room for it (64 KiB).

    Texts of variable length lie in a heap of their own, and HDF5 1.14 reads some damaged heaps for ever.
    """
    data = text.encode()
    if 0 < len(data) < _LONGEST_TEXT:
        file.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", len(data)))
    else:
        file.attrs[name] = text


def read_text(file: h5py.File, name: str) -> str | None:
    """A text attribute of either kind; None where there is none."""
    value = file.attrs.get(name)
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def metric_names(file: h5py.File) -> list[str]:
    """Names of the datasets at the top of ``file`` that hold a value a grid point, losses first."""
    names = [name for name in file if name not in _NOT_METRICS and isinstance(file.get(name, getlink=True), h5py.HardLink)]
    names = [name for name in names if isinstance(file[name], h5py.Dataset) and file[name].ndim >= 1]
    return sorted(names, key=lambda name: ("loss" not in name, "train" not in name, name))


class SurfaceWriter:
    """A surface file that results are added to; also the way to resume one.

    Args:
        path: the file, or None for a surface in memory only.
        surface: coordinates, metric names (NaN arrays), directions and provenance of a new file.
        fingerprint: the settings that decide the values; JSON types only. A file made with others is refused.

    Raises:
        SurfaceFileError: the file exists with other settings; the message says which.

    Used by one process at a time: the caller holds the lock.
    """

    flush_every_s = 1.0
    sync_every_s = 30.0

    def __init__(self, path: str | Path | None, surface: Surface, fingerprint: Mapping[str, Any]) -> None:
        self.path = Path(path) if path is not None else None
        if self.path is None:
            self._file = h5py.File("in memory", "w", driver="core", backing_store=False)
            _fillnew_file(self._file, surface, fingerprint)
        else:
            if self.path.exists():
                check_fingerprint(self.path, fingerprint)
            else:
                with new_file(self.path) as file:
                    _fillnew_file(file, surface, fingerprint)
            self._file = _open(self.path, "r+")
            if surface.directions and "directions" not in self._file:  # a repair dropped them
                _write_directions(self._file, surface)
                self._file.flush()
        self.shape = surface.shape
        self.names = list(surface.metrics)
        self._queue: list[tuple[int, Sequence[float]]] = []
        self._last_flush = self._last_sync = time.monotonic()

    def pending(self, interpolated: bool = True) -> np.ndarray:
        """(k,) flat indices of the points that are not evaluated yet, ascending.

        A point marked done whose value never reached the disk (a power cut) counts as pending; so do interpolated
        points, unless ``interpolated`` is false.
        """
        status = self._file["status"][...].ravel()
        lost = np.zeros(status.shape, bool)
        for name in self.names:
            lost |= np.isnan(self._file[name][...].ravel())
        waiting = (status == PENDING) | ((status == DONE) & lost)
        return np.flatnonzero(waiting | (status == INTERPOLATED) if interpolated else waiting)

    def grid(self, name: str) -> np.ndarray:
        """The values of a metric, or ``status``, as they stand now."""
        self.flush()
        return np.asarray(self._file[name][...])

    def default_loss(self) -> str:
        """The metric that a surface of these metrics shows when none is named."""
        return "train_loss" if "train_loss" in self.names else self.names[0]

    def fill(self, indices: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write interpolated ``values`` (metric -> one a point) at the flat ``indices``, and mark them as such."""
        self.flush()
        if len(indices):
            coordinates = np.stack(np.unravel_index(indices, self.shape), axis=1)
            for name in self.names:
                _write_points(self._file[name], coordinates, values[name])
            _write_points(self._file["status"], coordinates, np.full(len(indices), INTERPOLATED, np.uint8))
            self._file.flush()

    def add(self, index: int, values: Sequence[float]) -> None:
        """Record the metrics (in the order of ``names``) of the point with flat index ``index``."""
        self._queue.append((index, values))
        if time.monotonic() - self._last_flush >= self.flush_every_s:
            self.flush()

    def flush(self) -> None:
        """Bring everything recorded so far into the file."""
        if self._queue:
            indices = np.array([index for index, _ in self._queue])
            values = np.array([value for _, value in self._queue], dtype=np.float64).reshape(len(indices), -1)
            coordinates = np.stack(np.unravel_index(indices, self.shape), axis=1)
            for column, name in enumerate(self.names):
                _write_points(self._file[name], coordinates, values[:, column])
                self._widen_range(name, values[:, column])
            # The status comes last: a value without status is computed again, a status without value is a lie.
            finite = np.isfinite(values).all(axis=1)
            _write_points(self._file["status"], coordinates, np.where(finite, DONE, NOT_FINITE).astype(np.uint8))
            self._file.flush()
            self._queue.clear()
        self._last_flush = time.monotonic()
        if self.path is not None and self._last_flush - self._last_sync > self.sync_every_s:
            self._sync()

    def _widen_range(self, name: str, values: np.ndarray) -> None:
        # A dataset and no attribute: results change raw data only, never the file's structure.
        kept = self._file[f"{_RANGES}/{name}"]
        ranges = np.array([kept[...], finite_range(values)])
        if not np.isnan(ranges).all():
            kept[...] = np.array([np.nanmin(ranges[:, 0]), np.nanmax(ranges[:, 1])])

    def _sync(self) -> None:
        if self.path is not None:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._last_sync = time.monotonic()

    def surface(self) -> Surface:
        """The surface as it stands now, directions included."""
        self.flush()
        y, z = (self._file[f"{a}coordinates"][...] if f"{a}coordinates" in self._file else None for a in "yz")
        return Surface(
            x=self._file["xcoordinates"][...],
            y=y,
            z=z,
            metrics={name: self._file[name][...] for name in self.names},
            status=self._file["status"][...],
            provenance=json.loads(read_text(self._file, "provenance") or "{}"),
            directions=read_direction_groups(self._file, self.path or "in memory"),
            trajectory=_read_trajectory(self._file, self.path or "in memory"),
        )

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        self._sync()
        self._file.close()

    def __enter__(self) -> SurfaceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()


def check_fingerprint(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Refuse to continue the file at ``path`` under settings other than its own.

    Raises:
        SurfaceFileError: names each setting that differs, with both values.
    """
    with open_hdf5(path) as file:
        _check_format(file, path)
        found = _json_attribute(file, "fingerprint", path)
    if not found:
        raise SurfaceFileError(f"{path}: holds a finished surface that cannot be continued; use --overwrite or another -o")
    there, now = _flat(found), _flat(json.loads(json.dumps(settings)))
    keys = [key for key in {**there, **now} if there.get(key) != now.get(key)]
    if keys:
        differences = "; ".join(f"{key} is {_short(there.get(key))} there, {_short(now.get(key))} now" for key in keys)
        raise SurfaceFileError(
            f"{path}: was computed with other settings: {differences}. "
            "Use --overwrite to start again, or another -o to keep both"
        )


def read_dataset(file: h5py.File, name: str, path: str | Path, ndim: int | None = None) -> np.ndarray:
    """One numeric dataset, checked before a byte of it is read: it lies in this file and its size is believable.

    Raises:
        SurfaceFileError: missing, linked from another file, not numeric, larger than the file can hold, or unreadable.
    """
    return np.asarray(_checked(file, name, path, ndim)[...])


def _checked(file: h5py.File, name: str, path: str | Path, ndim: int | None = None) -> h5py.Dataset:
    if name not in file:
        raise SurfaceFileError(f"{path}: has no '{name}'; the file was cut short or is no surface file")
    dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise SurfaceFileError(f"{path}: '{name}' is not a dataset of this file; links to other files are not followed")
    if dataset.dtype.kind not in ("fiubc" if name.startswith("directions/") else "fiub"):
        raise SurfaceFileError(f"{path}: '{name}' holds {dataset.dtype}, not numbers")
    if ndim is not None and dataset.ndim != ndim:
        raise SurfaceFileError(f"{path}: '{name}' has {dataset.ndim} dimensions, {ndim} expected")
    claimed = int(np.prod([int(n) for n in dataset.shape], dtype=object)) * dataset.dtype.itemsize
    if claimed > _DEFLATE_LIMIT * dataset.id.get_storage_size() + 2**20:
        raise SurfaceFileError(f"{path}: '{name}' claims {claimed} bytes, more than the file holds; it is damaged")
    return dataset


def _on_grid(file: h5py.File, name: str, shape: tuple[int, ...], path: str | Path) -> h5py.Dataset:
    dataset = _checked(file, name, path)
    if dataset.shape != shape:
        raise SurfaceFileError(
            f"{path}: '{name}' is {dataset.shape} but the coordinates say {shape}. The file was cut short or edited; "
            f"recompute it with: paraloss compute … -o {path} --overwrite"
        )
    return dataset


def read_direction_groups(file: h5py.File, path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """What an open file holds below ``directions``; raises as ``read_surface``."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for axis in file.get("directions", ()):
        group, tensors = file["directions"][axis], {}
        names: list[str] = []
        group.visit(names.append)  # a parameter's name may hold a slash
        for name in names:
            if isinstance(group[name], h5py.Dataset):
                tensors[name] = read_dataset(file, f"directions/{axis}/{name}", path)
        found[axis] = tensors
    return found


def _read_trajectory(file: h5py.File, path: str | Path) -> dict[str, np.ndarray] | None:
    if "trajectory" not in file:
        return None
    return {name: read_dataset(file, f"trajectory/{name}", path, ndim=1) for name in file["trajectory"]}


def _fillnew_file(file: h5py.File, surface: Surface, fingerprint: Mapping[str, Any]) -> None:
    write_text(file, "format", FORMAT)
    file.attrs["format_version"] = FORMAT_VERSION
    write_text(file, "paraloss_version", __version__)
    write_text(file, "created", datetime.now(timezone.utc).isoformat(timespec="seconds"))
    write_text(file, "provenance", json.dumps(dict(surface.provenance)))
    write_text(file, "fingerprint", json.dumps(dict(fingerprint)))
    _allocate(file, "xcoordinates", np.asarray(surface.x, np.float64))
    if surface.y is not None:
        _allocate(file, "ycoordinates", np.asarray(surface.y, np.float64))
    if surface.z is not None:
        _allocate(file, "zcoordinates", np.asarray(surface.z, np.float64))
    for name, values in surface.metrics.items():
        _allocate(file, name, np.asarray(values, np.float64))
        _allocate(file, f"{_RANGES}/{name}", np.array(finite_range(np.asarray(values, np.float64))))
    _allocate(file, "status", np.asarray(surface.status, np.uint8))
    _write_directions(file, surface)
    for name, values in (surface.trajectory or {}).items():
        file.create_dataset(f"trajectory/{name}", data=values)


def _write_directions(file: h5py.File, surface: Surface) -> None:
    for axis, tensors in surface.directions.items():
        for name, tensor in tensors.items():
            file.create_dataset(f"directions/{axis}/{name}", data=tensor)
    write_text(file, "directions_sha256", directions_sha256(surface.directions))


def directions_sha256(directions: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Identifies the directions' numbers, so that damage to them does not go unnoticed."""
    digest = hashlib.sha256()
    for axis in sorted(directions):
        for name in sorted(directions[axis]):
            digest.update(f"{axis}/{name}".encode() + np.ascontiguousarray(directions[axis][name]).tobytes())
    return digest.hexdigest()


def _allocate(file: h5py.File, name: str, values: np.ndarray) -> None:
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    space = h5py.h5s.create_simple(values.shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(values.dtype), space, dcpl=plan, lcpl=links)
    file[name][...] = values


def _write_points(dataset: h5py.Dataset, coordinates: np.ndarray, values: np.ndarray) -> None:
    """One HDF5 call for scattered points; h5py's own fancy indexing is a hundred times slower."""
    space = dataset.id.get_space()
    space.select_elements(coordinates)
    memory = h5py.h5s.create_simple(values.shape)
    dataset.id.write(memory, space, np.ascontiguousarray(values))


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """A file that takes ``path`` when all went well: made in memory, written under a temporary name, renamed.

    HDF5 itself, let loose on a full disk, leaves half a file and many lines on standard error.

    Raises:
        SurfaceFileError: the folder does not exist or cannot be written, or the disk is full.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise SurfaceFileError(f"{path}: {_why_not_open(path, OSError(), writing=True)}")
    with h5py.File("in memory", "w", driver="core", backing_store=False, block_size=2**20) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as target:
            target.write(image)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise SurfaceFileError(f"{path}: cannot be written ({error.strerror}); free some space or choose another -o") from error
    finally:
        temporary.unlink(missing_ok=True)


def _open(path: Path, mode: str) -> h5py.File:
    try:
        # HDF5's own lock would keep ParaView from looking at a running job; ours keeps a second writer out.
        return h5py.File(path, mode, locking=False)
    except OSError as error:
        raise SurfaceFileError(f"{path}: {_why_not_open(path, error, writing=mode != 'r')}") from error


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading, without its lock.

    Raises:
        SurfaceFileError: it cannot be opened, or HDF5 stumbles over damage while it is read.
    """
    file = _open(Path(path), "r")
    try:
        yield file
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:  # h5py raises all of these
        reason = " ".join(str(error).split())[:120]
        advice = f"mend it with: paraloss info --repair {path}"
        raise SurfaceFileError(f"{path}: the file is damaged ({reason}); {advice}") from error
    finally:
        with suppress(RuntimeError):
            file.close()


def _why_not_open(path: Path, error: OSError, writing: bool) -> str:
    if writing and not path.parent.is_dir():
        return f"the folder {path.parent} does not exist; create it first"
    if writing and not os.access(path.parent, os.W_OK):
        return f"the folder {path.parent} cannot be written to; choose another with -o"
    if not writing and not path.exists():
        return "no such file"
    if path.is_dir():
        return "is a folder, not a file"
    if not os.access(path, os.R_OK):
        return "cannot be read: permission denied"
    reasons: list[tuple[str, str]] = [
        ("signature", "is not an HDF5 file; a surface file is made by: paraloss compute … -o surface.h5"),
        ("truncated", f"the HDF5 file was cut short; mend it with: paraloss info --repair {path}"),
    ]
    for mark, reason in reasons:
        if mark in str(error):
            return reason
    return f"HDF5 cannot open it ({' '.join(str(error).split())})"


def _check_format(file: h5py.File, path: str | Path) -> None:
    kind = read_text(file, "format")
    if kind != FORMAT:
        raise SurfaceFileError(f"{path}: is HDF5 but not a surface file of Paraloss (attribute 'format' is {kind!r})")
    version = int(file.attrs.get("format_version", 0))
    if version > FORMAT_VERSION:
        raise SurfaceFileError(f"{path}: is of format {version}, this Paraloss reads up to {FORMAT_VERSION}; update it")


def _json_attribute(file: h5py.File, name: str, path: str | Path) -> dict[str, Any]:
    try:
        return dict(json.loads(read_text(file, name) or "{}"))
    except ValueError as error:
        raise SurfaceFileError(f"{path}: the attribute '{name}' is not valid JSON; the file is damaged") from error


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``; steps of an axis stay together."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = dict(zip("xyz", value, strict=False))
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _short(value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(item, float) for item in value):
        return f"{value[0]:g}:{value[-1]:g}:{len(value)}"
    text = str(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:8]
    return text if len(text) <= 60 else text[:57] + "…"
