"""Repair surface files that a power cut or a broken copy cut short or damaged; lost points are marked as pending.

A surface file's structure is written once, when it is made; results change raw data only. So a cut can lose results, but
not the file, unless its end is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from paraloss.errors import SurfaceFileError
from paraloss.files import check_input, replacing
from paraloss.locking import locked
from paraloss.surface import DONE, NOT_FINITE, PENDING
from paraloss.surface.hdf5 import checked, open_hdf5, read_text, write_text
from paraloss.surface.reader import FORMAT, directions_sha256, metric_names, read_direction_groups
from paraloss.surface.recipes import drop_recipes, recipes_of

_MAGIC = b"\x89HDF\r\n\x1a\n"


def repair(path: str | Path) -> list[str]:
    """Repair a surface file in place; the damaged file stays beside it as ``<name>.damaged``, or ``.damaged2`` …

    Args:
        path: the file; no job may be computing it meanwhile.

    Returns:
        What was done, one line per change; empty when the file is sound.

    Raises:
        SurfaceFileError: missing, no surface file, or damaged in its structure, so that it must be computed again.
    """
    path = Path(path)
    check_input(path, SurfaceFileError)
    length, missing = path.stat().st_size, _missing_bytes(path)
    changes = [f"the last {missing:,} bytes were missing"] if missing else []
    with locked(path, error=SurfaceFileError), suppress(_Sound), replacing(path, SurfaceFileError) as temporary:
        shutil.copyfile(path, temporary)
        if missing:
            with temporary.open("r+b") as file:
                file.truncate(length + missing)
        changes += _mend_apart(temporary, path, length)
        if not changes:
            raise _Sound
        shutil.copyfile(path, _free_name(path))
    return changes


class _Sound(Exception):
    """Nothing to replace."""


def _free_name(path: Path) -> Path:
    """``<name>.damaged``, or the first of ``.damaged2`` … that does not exist: an older copy is kept."""
    names = (path.with_name(f"{path.name}.damaged{number}") for number in ("", *range(2, 10_000)))
    return next(name for name in names if not os.path.lexists(name))


def _mend_apart(copy: Path, path: Path, length: int) -> list[str]:
    """Call ``_mend`` in a process of its own: writing into some damaged files crashes HDF5."""
    command = [sys.executable, "-m", "paraloss.surface.repair", str(copy), str(path), str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise SurfaceFileError(
            f"{path}: its structure is damaged beyond repair; compute it again with {{overwrite}}", arguments=("overwrite",)
        ) from None
    if "error" in answer:
        raise SurfaceFileError(answer["error"], answer["arguments"])
    return list(answer["changes"])


def _mend(copy: Path, path: Path, length: int) -> list[str]:
    changes: list[str] = []
    try:
        with h5py.File(copy, "r+", locking=False) as file:
            if read_text(file, "format") != FORMAT:
                raise SurfaceFileError(f"{path}: is no surface file of Paraloss; there is nothing to repair")
            for name in ("status", *metric_names(file)):
                checked(file, name, path)
            status = file["status"][...]
            flat = status.ravel()
            before = flat.copy()
            flat[_beyond(file["status"], length)] = PENDING
            for name in metric_names(file):
                values = file[name][...].ravel()
                flat[_beyond(file[name], length)] = PENDING
                flat[(flat == DONE) & ~np.isfinite(values)] = PENDING
                flat[~np.isin(flat, (PENDING, DONE, NOT_FINITE, 3))] = PENDING
            for name in metric_names(file):
                values = file[name][...]
                values[(flat == PENDING).reshape(status.shape)] = np.nan
                file[name][...] = values
            file["status"][...] = flat.reshape(status.shape)
            lost = int(((flat == PENDING) & (before != PENDING)).sum())
            if lost:
                changes.append(f"{lost} of {flat.size} points cannot be trusted and will be computed again")
            elif length < copy.stat().st_size and (flat == PENDING).any():
                changes.append(f"{int((flat == PENDING).sum())} of {flat.size} points are to be computed")
            changes += _check_directions(file, path)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise SurfaceFileError(
            f"{path}: its structure is damaged ({' '.join(str(error).split())[:120]}); compute it again with {{overwrite}}",
            arguments=("overwrite",),
        ) from error
    with open_hdf5(copy):
        return changes


def _check_directions(file: h5py.File, path: Path) -> list[str]:
    """Drop directions that are not what was written: they are made again from the seed or the checkpoints."""
    return [*_check_recipes(file, path), *_check_tensors(file, path)]


def _check_recipes(file: h5py.File, path: Path) -> list[str]:
    try:
        recipes_of(file, path)
    except (SurfaceFileError, OSError, KeyError, RuntimeError, ValueError, TypeError):
        drop_recipes(file)
        return ["the recipes of the directions were damaged; they are made again when the computation goes on"]
    return []


def _check_tensors(file: h5py.File, path: Path) -> list[str]:
    expected = read_text(file, "directions_sha256")
    if expected is None:
        return []
    try:
        sound = directions_sha256(read_direction_groups(file, path)) == expected
    except (SurfaceFileError, OSError, KeyError, RuntimeError):
        sound = False
    if sound:
        return []
    if file.id.links.exists(b"directions"):
        del file["directions"]
    write_text(file, "directions_sha256", directions_sha256({}))
    return ["the directions were damaged; they are made again when the computation goes on"]


def _beyond(dataset: h5py.Dataset, length: int) -> np.ndarray:
    """Whether each element of ``dataset`` lies behind the first ``length`` bytes of the file."""
    start = dataset.id.get_offset() or 0
    ends = start + (np.arange(dataset.size) + 1) * dataset.dtype.itemsize
    return np.asarray(ends > length)


def _missing_bytes(path: Path) -> int:
    """How many bytes the superblock says there should be more than there are."""
    with path.open("rb") as file:
        head = file.read(96)
    if not head.startswith(_MAGIC):
        raise SurfaceFileError(
            f"{path}: is not an HDF5 file, or its beginning is lost; compute it again with {{overwrite}}",
            arguments=("overwrite",),
        )
    version = head[8]
    # HDF5 file format, superblock: versions 0 and 1 have the end of the file at byte 40 or 44, versions 2 and 3 at byte 28.
    place = {0: 40, 1: 44, 2: 28, 3: 28}.get(version)
    if place is None or len(head) < place + 8:
        raise SurfaceFileError(
            f"{path}: HDF5 superblock of version {version} is not known; compute it again with {{overwrite}}",
            arguments=("overwrite",),
        )
    (end,) = struct.unpack_from("<Q", head, place)
    there = path.stat().st_size
    if end > 2 * there + 2**30:
        raise SurfaceFileError(
            f"{path}: claims {end:,} bytes, but there are {there:,}; compute it again with {{overwrite}}",
            arguments=("overwrite",),
        )
    return max(0, int(end) - there)


def _main() -> None:
    copy, path, length = sys.argv[1:4]
    try:
        print(json.dumps({"changes": _mend(Path(copy), Path(path), int(length))}))
    except SurfaceFileError as error:
        print(json.dumps({"error": error.message, "arguments": error.arguments}))


if __name__ == "__main__":
    _main()
