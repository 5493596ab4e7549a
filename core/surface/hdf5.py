"""HDF5 underneath every file of Paraloss: opened without HDF5's lock, every part checked before a byte of it is read.

Whatever a file says, nothing outside it is opened: each component of a path must be a member of its group, not a link to
another place or file. Needs numpy and h5py only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from paraloss.errors import SurfaceFileError
from paraloss.files import check_input, replacing
from paraloss.log import logger
from paraloss.text import one_line, printable
from paraloss.unpacking import check_size

_LONGEST_TEXT = 60_000
_DEFLATE_LIMIT = 1100  # no HDF5 filter in use packs tighter; a dataset that claims more is a lie


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, without its lock.

    Raises:
        SurfaceFileError: it cannot be opened, or HDF5 stumbles over damage while it is read.
    """
    file = open_unlocked(Path(path), "r")
    try:
        yield file
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:  # h5py raises all of these
        reason, advice = one_line(error)[:120], f"mend it with: paraloss info --repair {path}"
        raise SurfaceFileError(f"{path}: the file is damaged ({reason}); {advice}") from error
    finally:
        with suppress(RuntimeError):
            file.close()


def open_unlocked(path: Path, mode: str) -> h5py.File:
    """Open an HDF5 file: its own lock would keep ParaView from looking at a running job.

    Raises:
        SurfaceFileError: it cannot be opened; the message says why.
    """
    check_input(path, SurfaceFileError)
    try:
        return h5py.File(path, mode, locking=False)
    except OSError as error:
        raise SurfaceFileError(f"{path}: {_why_not_open(path, error)}") from error


def _why_not_open(path: Path, error: OSError) -> str:
    reasons = {
        "signature": "is not an HDF5 file; a surface file is made by: paraloss compute … -o surface.h5",
        "truncated": f"the HDF5 file was cut short; mend it with: paraloss info --repair {path}",
    }
    return next((reason for sign, reason in reasons.items() if sign in str(error)), f"HDF5 cannot open it ({one_line(error)})")


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """A file that takes ``path`` when all went well: made in memory, written under a temporary name, renamed.

    Raises:
        SurfaceFileError: see ``paraloss.files.replacing``.
    """
    with replacing(path, SurfaceFileError) as temporary, made_in_memory(temporary) as file:
        yield file


@contextmanager
def made_in_memory(path: Path) -> Iterator[h5py.File]:
    """A file that is written to ``path`` as a whole when all went well.

    HDF5 itself, on a full disk, leaves half a file and many lines on standard error, or ends the process.
    """
    with h5py.File("in memory", "w", driver="core", backing_store=False, block_size=2**20) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def member(file: h5py.Group, name: str, path: str | Path) -> h5py.Group | h5py.Dataset | None:
    """The group or dataset at ``name`` below ``file``; None where there is nothing.

    Args:
        file: the open file, or a group of it.
        name: components joined by slashes. Each is looked at before it is followed.
        path: the file, for messages.

    Raises:
        SurfaceFileError: a component is a link to another place or file.
    """
    found: Any = file
    for part in filter(None, name.split("/")):
        key = part.encode("utf-8", "surrogateescape")
        if not isinstance(found, h5py.Group) or not found.id.links.exists(key):
            return None
        if found.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise SurfaceFileError(f"{path}: '{printable(name)}' is not in this file; links to other files are not followed")
        found = found[part]
    return found if isinstance(found, (h5py.Group, h5py.Dataset)) else None


def members(file: h5py.Group, name: str, path: str | Path) -> list[str]:
    """Names in the group ``name`` below ``file``; none where there is no such group. Raises as ``member``."""
    group = member(file, name, path)
    return list(group) if isinstance(group, h5py.Group) else []


def dataset_names(file: h5py.Group, name: str, path: str | Path) -> list[str]:
    """Names of all datasets at any depth below the group ``name``, relative to it. Raises as ``member``."""
    found: list[str] = []
    waiting, seen = [""], set()
    while waiting:
        place = waiting.pop()
        part = member(file, f"{name}/{place}", path)
        if isinstance(part, h5py.Dataset):
            found.append(place)
        elif part is not None and (address := h5py.h5o.get_info(part.id).addr) not in seen:  # a group may hold itself
            seen.add(address)
            waiting += [f"{place}/{inside}" if place else str(inside) for inside in part]
    return sorted(found)


def is_member(file: h5py.Group, name: str) -> bool:
    """Whether ``name``, one component, is a dataset or group of ``file`` itself and not a link."""
    key = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")  # h5py leaves what is no UTF-8
    return bool(file.id.links.exists(key) and file.id.links.get_info(key).type == h5py.h5l.TYPE_HARD)


def read_dataset(file: h5py.Group, name: str, path: str | Path, ndim: int | None = None) -> np.ndarray:
    """Read a numeric dataset, checked first: it lies in this file and its size is believable.

    Returns:
        Numbers in this machine's byte order; truth values become 0 and 1.

    Raises:
        SurfaceFileError: as ``checked``.
    """
    values = np.asarray(checked(file, name, path, ndim)[...])
    return values.astype(np.uint8 if values.dtype.kind == "b" else values.dtype.newbyteorder("="), copy=False)


def checked(file: h5py.Group, name: str, path: str | Path, ndim: int | None = None) -> h5py.Dataset:
    """A numeric dataset of this file, of ``ndim`` dimensions, not read yet.

    Raises:
        SurfaceFileError: missing, linked from another file, not numeric, or larger than the file can hold.
    """
    dataset, shown = member(file, name, path), printable(name)
    if dataset is None:
        raise SurfaceFileError(f"{path}: has no '{shown}'; the file was cut short or is no surface file")
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise SurfaceFileError(f"{path}: '{shown}' is not a dataset of this file; links to other files are not followed")
    if dataset.dtype.kind not in ("fiubc" if name.startswith("directions/") else "fiub"):
        raise SurfaceFileError(f"{path}: '{shown}' holds {printable(dataset.dtype)}, not numbers")
    if ndim is not None and dataset.ndim != ndim:
        raise SurfaceFileError(f"{path}: '{shown}' has {dataset.ndim} dimensions, {ndim} expected")
    claimed, held = size_of(dataset), dataset.id.get_storage_size()
    if claimed > _DEFLATE_LIMIT * held + 2**20:
        raise SurfaceFileError(f"{path}: '{shown}' claims {claimed} bytes, more than the file holds; it is damaged")
    return dataset


def size_of(dataset: h5py.Dataset) -> int:
    """Bytes of a dataset in memory."""
    return int(np.prod([int(n) for n in dataset.shape], dtype=object)) * int(dataset.dtype.itemsize)


def check_sizes(datasets: list[h5py.Dataset], path: str | Path) -> None:
    """Refuse to read ``datasets`` together where they unpack to far more than they hold, see ``unpacking``."""
    check_size(path, sum(map(size_of, datasets)), sum(d.id.get_storage_size() for d in datasets), error=SurfaceFileError)


def write_text(file: h5py.Group | h5py.Dataset, name: str, text: str) -> None:
    """Write a text attribute, of fixed length where HDF5 has room for it (64 KiB).

    Texts of variable length lie in a heap of their own, and HDF5 1.14 reads some damaged heaps for ever.
    """
    data = text.encode()
    if 0 < len(data) < _LONGEST_TEXT:
        file.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", len(data)))
    else:
        file.attrs[name] = text


def read_text(file: h5py.Group, name: str) -> str | None:
    """A text attribute of either kind; None where there is none."""
    value = file.attrs.get(name)
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def read_json(file: h5py.File, name: str, path: str | Path) -> dict[str, Any]:
    """A text attribute that holds a JSON object; empty where there is none.

    Raises:
        SurfaceFileError: the text is no JSON object.
    """
    try:
        return dict(json.loads(read_text(file, name) or "{}"))
    except (ValueError, TypeError, RecursionError) as error:
        raise SurfaceFileError(f"{path}: the attribute '{name}' is not valid JSON; the file is damaged") from error


_TEXT, _NUMBER, _OBJECT = (str,), (int, float), (dict,)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("model", "data", "checkpoint", "criterion", "precision", "device", "command", "weights_sha256"), _TEXT),
    **dict.fromkeys(("weights_key", "checkpoint_sha256", "not_folded", "torch_version", "source"), _TEXT),
    **dict.fromkeys(("model_args", "trained", "samples", "samples_of", "still", "tuning", "sampling", "options"), _OBJECT),
    **dict.fromkeys(("seed", "ranks", "batch_norms_folded", "relus_fused"), _NUMBER),
    **dict.fromkeys(("directions", "explained_variance_ratio", "paths", "ensemble", "difference"), (list,)),
}
"""The types of the facts in a provenance that Paraloss itself looks at."""


def read_provenance_of(file: h5py.File, path: str | Path) -> dict[str, Any]:
    """A surface's provenance: facts whose type is not the one that Paraloss writes are left out, with a warning.

    Raises:
        SurfaceFileError: the text is no JSON object.
    """
    facts = read_json(file, "provenance", path)
    odd = [name for name, kinds in _KINDS.items() if not isinstance(facts.get(name), (*kinds, type(None)))]
    if isinstance(facts.get("directions"), list) and not all(isinstance(one, dict) for one in facts["directions"]):
        odd.append("directions")
    if odd:
        logger.warning(f"{path}: the provenance's {', '.join(odd)} is of another type than Paraloss writes; left out")
    return {name: value for name, value in facts.items() if name not in odd and not (name in _KINDS and value is None)}
