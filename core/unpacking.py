"""Files that claim to hold far more than their size are refused before they are unpacked. Needs the standard library alone."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from paraloss.errors import InputError, ParalossError

_SIZE_VARIABLE = "PARALOSS_MAX_SIZE"
MOST_BYTES = 2**30
"""Bytes that a file may unpack to without question; ``PARALOSS_MAX_SIZE`` sets another number, as in 4G."""
MOST_RATIO = 50
"""Times its own size that a larger file may unpack to. Compressed weights and images stay below 10."""


def check_size(path: str | Path, claimed: int, held: int, what: str = "it", error: type[ParalossError] = InputError) -> None:
    """Refuse to unpack what claims far more bytes than it holds, before a byte of it is read.

    Args:
        path: the file, for the message.
        claimed: bytes in memory.
        held: bytes in the file that they are unpacked from.
        what: name of the part, for the message.
        error: class of what is raised.

    Raises:
        ParalossError: of the class ``error``: ``claimed`` is above ``MOST_BYTES`` (or ``PARALOSS_MAX_SIZE``) and above
            ``MOST_RATIO`` times ``held``.
    """
    most = _most_bytes()
    if claimed > most and claimed > MOST_RATIO * max(held, 1):
        raise error(
            f"{path}: {what} would unpack from {_size(held)} to {_size(claimed)}, more than {MOST_RATIO} times its size and "
            f"more than {_size(most)}; if that is meant, set {_SIZE_VARIABLE}={-(-claimed // 2**30)}G"
        )


def check_archive(path: str | Path, error: type[ParalossError] = InputError) -> None:
    """Refuse a zip archive (``.npz``, ``.pt``) whose members unpack to far more than they hold; see ``check_size``.

    What is no zip archive, or a damaged one, passes: its reader refuses it.
    """
    try:
        if not zipfile.is_zipfile(path):  # raises, too, where the end of the archive is damaged
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return
    held = min(sum(member.compress_size for member in members), Path(path).stat().st_size)
    check_size(path, sum(member.file_size for member in members), held, error=error)


def _most_bytes() -> int:
    text = os.environ.get(_SIZE_VARIABLE, "").strip().upper().removesuffix("B")
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1:], 1)
    digits = text if factor == 1 else text[:-1]
    if not text:
        return MOST_BYTES
    if not digits.isdecimal() or not digits.isascii():
        raise InputError(f"{_SIZE_VARIABLE}={os.environ[_SIZE_VARIABLE]}: give a number of bytes, as in 4G")
    return int(digits) * factor


def _size(count: int) -> str:
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"
