"""Rules for every file that is read or written. Needs the standard library alone.

- An output is complete or absent: it is written beside its target under a temporary name, then renamed.
- An output is never one of the inputs, and never replaces what another program, another command or the user made, unless
  ``overwrite`` is given. Outputs carry a mark, by which the same command recognizes them (``paraloss.marks``).
- Symbolic links are written through: the file that they lead to is replaced, the link stays.
- Devices, pipes, sockets and folders are refused before anything is opened.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paraloss.errors import InputError, ParalossError
from paraloss.marks import is_hdf5, made_for

_LONGEST_STEM = 100  # bytes of a target's name that its temporary name repeats; file systems take 255 in all
_WRITE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def check_input(path: str | Path, error: type[ParalossError] = InputError) -> None:
    """Refuse what is no regular file, without opening it.

    Raises:
        ParalossError: of the class ``error``: missing, a folder, a pipe, a device, a socket, or not readable.
    """
    path = Path(path)
    mode = _mode(path, error)
    if mode is None:
        raise error(f"{path}: no such file")
    _refuse_special(path, mode, error)
    if not os.access(path, os.R_OK):
        raise error(f"{path}: cannot be read: permission denied")


def check_output(
    path: str | Path,
    purpose: str = "",
    inputs: Iterable[str | Path] = (),
    overwrite: bool = False,
    error: type[ParalossError] = InputError,
) -> None:
    """Refuse an output that cannot be written, is an input, or would replace what was not made for the same purpose.

    Args:
        path: the file to write.
        purpose: what it is for, see ``paraloss.marks.mark``; empty: the caller itself decides what it may replace.
        inputs: files that the same command reads; the file itself counts, not its name.
        overwrite: replace a regular file whatever it holds. An input is never replaced.
        error: class of what is raised.

    Raises:
        ParalossError: of the class ``error``, in one line.
    """
    path = Path(path)
    mode = _mode(path, error)
    folder = real_path(path, error).parent
    if mode is not None:
        _refuse_special(path, mode, error)
    if not folder.is_dir():
        raise error(f"{path}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise error(f"{path}: the folder {folder} cannot be written to; choose another")
    if mode is None:
        return
    for one in inputs:
        among = Path(one).is_dir() and same_file(one, folder) and not (purpose and made_for(path, purpose))
        if among or same_file(one, path):
            raise error(f"{path}: is the source itself, an input of this command; give the result another name")
    if not os.access(path, os.W_OK):
        raise error(f"{path}: is write-protected; choose another name")
    if purpose and not overwrite and not made_for(path, purpose):
        what = f"not what this command makes ({purpose})" if path.suffix != ".h5" or is_hdf5(path) else "not an HDF5 file"
        raise error(
            f"{path}: exists and is {what}; choose another name, or replace it with {{overwrite}}", arguments=("overwrite",)
        )


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two names lead to the same file, through links of any kind; names of nothing are compared as paths."""
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def files_in(*names: object) -> list[Path]:
    """List the files and folders that names stand for: a path, the parts of ``npz:FILE`` and of ``file.py:name``.

    Args:
        names: texts and paths; None and other objects stand for no file.
    """
    found: list[Path] = []
    for name in names:
        if isinstance(name, (str, os.PathLike)):
            text = os.fspath(name)
            parts = {text, *text.partition(":")[::2], *text.rpartition(":")[::2]} - {""}
            with suppress(OSError, ValueError):
                found += [Path(part) for part in sorted(parts) if Path(part).exists()]
    return found


@contextmanager
def replacing(path: str | Path, error: type[ParalossError] = InputError) -> Iterator[Path]:
    """A temporary name to write to; the file takes the place of ``path`` when the block ends well, and vanishes when not.

    The temporary name ends as ``path`` does, and lies in the folder of the file that ``path`` leads to.

    Raises:
        ParalossError: of the class ``error``: ``path`` cannot be written, see ``check_output``, or the disk is full.
    """
    path = Path(path)
    check_output(path, error=error)
    target = real_path(path, error)
    stem = target.stem.encode()[:_LONGEST_STEM].decode("utf-8", "ignore")
    host = re.sub(r"\W", "_", os.uname().nodename)[:60]
    _clear_leftovers(target, f".{stem}.{host}-")
    temporary = target.with_name(f".{stem}.{host}-{os.getpid()}-{secrets.token_hex(3)}.tmp{target.suffix}")
    try:
        yield temporary
        _bring_to_disk(temporary)
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except OSError as fault:
        if fault.errno in _WRITE_FAULTS or "No space left" in str(fault):
            reason = fault.strerror or "No space left on device"
            raise error(f"{path}: cannot be written ({reason}); free some space or choose another name") from fault
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder; one that was not there before goes again where an error leaves it without files but locks.

    Raises:
        InputError: it cannot be made.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder ({error.strerror}); choose another folder") from error
    try:
        yield
    except BaseException:
        if new and not [path for path in folder.iterdir() if path.suffix != ".lock"]:
            shutil.rmtree(folder, ignore_errors=True)
        raise


class Begun:
    """A file that is begun at ``path`` and can be taken back, as long as it is this one: what was there before returns.

    Args:
        path: where ``replacing`` will put it; what is there now is kept open, so that nothing lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self._target, self._made = Path(os.path.realpath(path)), (0, 0)
        self._before = self._target.open("rb") if self._target.is_file() else None

    @property
    def is_new(self) -> bool:
        """Whether nothing was there before."""
        return self._before is None

    def is_made(self) -> None:
        """Remember the file that is there now as the new one."""
        self._made = _identity(self._target)

    def take_back(self) -> None:
        """Remove the new file, or put the old one in its place; leaves what somebody else put there."""
        if not self._target.exists() or _identity(self._target) != self._made:
            return
        if self._before is None:
            self._target.unlink()
            return
        with replacing(self._target) as temporary, temporary.open("wb") as copy:
            shutil.copyfileobj(self._before, copy)

    def close(self) -> None:
        """Let go of what was there before."""
        if self._before is not None:
            self._before.close()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _clear_leftovers(target: Path, start: str) -> None:
    """Remove what processes of this host left of the same file when they were killed while they wrote it."""
    with suppress(OSError):
        for path in target.parent.iterdir():
            end = path.name.removeprefix(start) if path.name.startswith(start) else ""
            found = re.fullmatch(r"(\d{1,9})-[0-9a-f]{6}\.tmp(.*)", end)
            if found and found[2] == target.suffix and not _is_alive(int(found[1])):
                path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _bring_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode(path: Path, error: type[ParalossError]) -> int | None:
    """The kind of file that ``path`` leads to; None where there is nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as fault:  # too long, a loop of links, a folder that must not be searched
        raise error(f"{_short(path)}: {fault.strerror or 'cannot be looked at'}") from fault
    except ValueError as fault:
        raise error(f"{_short(path)}: is no file name ({fault})") from fault


def real_path(path: Path, error: type[ParalossError] = InputError) -> Path:
    """Return the file that ``path`` leads to through links of any kind.

    Raises:
        ParalossError: of the class ``error``: ``path`` is no file name.
    """
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as fault:
        raise error(f"{_short(path)}: is no file name ({fault})") from fault


def _refuse_special(path: Path, mode: int, error: type[ParalossError]) -> None:
    if stat.S_ISDIR(mode):
        raise error(f"{path}: is a folder, not a file; name a file in it")
    for matches, kind in _SPECIAL:
        if matches(mode):
            raise error(f"{path}: is {kind}; name a regular file")
    if not stat.S_ISREG(mode):
        raise error(f"{path}: is no regular file")


def _short(path: Path) -> str:
    return str(path) if len(str(path)) <= 120 else f"{str(path)[:117]}…"
