"""Surface files written: at once, or point by point by a job that may be killed and resumed at any moment.

All datasets are allocated when the file is made, so that adding results never changes the file's structure: a killed writer
leaves a file that opens, with at most the last second lost.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from paraloss._version import __version__
from paraloss.files import Begun
from paraloss.height import default_metric, finite_range
from paraloss.marks import mark
from paraloss.surface.fingerprint import check_fingerprint
from paraloss.surface.hdf5 import checked, new_file, open_unlocked, read_provenance_of, write_text
from paraloss.surface.reader import (
    FORMAT,
    FORMAT_VERSION,
    RANGES,
    TRAJECTORIES,
    directions_sha256,
    read_axes,
    read_direction_groups,
    read_trajectories,
    read_trajectory,
)
from paraloss.surface.recipes import recipes_of, write_recipes
from paraloss.surface.value import DONE, INTERPOLATED, NOT_FINITE, PENDING, Surface


def write_surface(surface: Surface, path: str | Path) -> Path:
    """Write a whole surface at once; the file appears complete or not at all.

    Raises:
        SurfaceFileError: ``path`` cannot be written, see ``paraloss.files.replacing``.
    """
    path = Path(path)
    with new_file(path) as file:
        _write_new_file(file, surface, fingerprint={})
    return path


class SurfaceWriter:
    """A surface file to which results are added; also the way to resume one.

    Args:
        path: the file, or None for a surface in memory only.
        surface: coordinates, metric names (NaN arrays), directions and provenance of a new file.
        fingerprint: the settings that decide the values; JSON types only. A file made with others is refused.
        overwrite: start a new file where one exists; the old one stays until the new one is complete.

    Raises:
        SurfaceFileError: the file exists with other settings, which the message names, or cannot be written.

    Used by one process at a time: the caller holds the lock.
    """

    flush_every_s = 1.0
    sync_every_s = 30.0

    def __init__(
        self, path: str | Path | None, surface: Surface, fingerprint: Mapping[str, Any], overwrite: bool = False
    ) -> None:
        self.path = Path(path) if path is not None else None
        self._begun: Begun | None = None  # where this writer made the file
        if self.path is None:
            self._file = h5py.File("in memory", "w", driver="core", backing_store=False)
            _write_new_file(self._file, surface, fingerprint)
        else:
            if self.path.exists() and not overwrite:
                check_fingerprint(self.path, fingerprint)
            else:
                self._begun = Begun(self.path)
                with new_file(self.path) as file:
                    _write_new_file(file, surface, fingerprint)
                self._begun.is_made()
            self._file = open_unlocked(self.path, "r+")
            for name in (*surface.metrics, *(f"{RANGES}/{name}" for name in surface.metrics), "status"):
                checked(self._file, name, self.path)  # a link must not lead the results into another file
            for name, kept in (("directions", surface.directions), ("recipes", surface.recipes)):
                if kept and name not in self._file:  # a repair dropped them
                    if name == "directions":
                        _write_directions(self._file, surface)
                    else:
                        write_recipes(self._file, surface.recipes)
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
        """The present values of a metric, or of ``status``."""
        self.flush()
        return np.asarray(self._file[name][...])

    def default_loss(self) -> str:
        """The metric that a surface of these metrics shows when none is named."""
        return default_metric(self.names) or ""

    def fill(self, indices: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write interpolated ``values`` (metric -> one value per point) at the flat ``indices``, and mark them as such."""
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
        kept = self._file[f"{RANGES}/{name}"]
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
        """The surface in its present state, directions included."""
        self.flush()
        place = self.path or "in memory"
        x, y, z = read_axes(self._file, place)
        return Surface(
            x=x,
            y=y,
            z=z,
            metrics={name: self._file[name][...] for name in self.names},
            status=self._file["status"][...],
            provenance=read_provenance_of(self._file, place),
            directions=read_direction_groups(self._file, place),
            recipes=recipes_of(self._file, place),
            trajectory=read_trajectory(self._file, place),
            trajectories=read_trajectories(self._file, place),
        )

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        self._sync()
        self._file.close()

    def __enter__(self) -> SurfaceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        nothing = error is not None and not self._queue and not self._file["status"][...].any()
        stopped = error is not None and not isinstance(error, Exception)  # going on re-uses directions and tuning
        self.close()
        if self._begun is not None:
            if nothing and not (stopped and self._begun.is_new):
                self._begun.take_back()
            self._begun.close()


def _write_new_file(file: h5py.File, surface: Surface, fingerprint: Mapping[str, Any]) -> None:
    write_text(file, "format", FORMAT)
    write_text(file, "generator", mark("summary" if "ensemble" in surface.provenance else "surface"))
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
        _allocate(file, f"{RANGES}/{name}", np.array(finite_range(np.asarray(values, np.float64))))
    _allocate(file, "status", np.asarray(surface.status, np.uint8))
    _write_directions(file, surface)
    write_recipes(file, surface.recipes)
    for name, values in (surface.trajectory or {}).items():
        file.create_dataset(f"trajectory/{name}", data=values)
    for number, (label, path) in enumerate(surface.trajectories.items()):
        place = f"{TRAJECTORIES}/{number}"
        write_text(file.create_group(place), "label", label)
        for name, values in path.items():
            file.create_dataset(f"{place}/{name}", data=values)


def _write_directions(file: h5py.File, surface: Surface) -> None:
    for axis, tensors in surface.directions.items():
        for name, tensor in tensors.items():
            file.create_dataset(f"directions/{axis}/{name}", data=tensor)
    write_text(file, "directions_sha256", directions_sha256(surface.directions))


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
