"""One job per file: a lock beside the file, under which it is computed or repaired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paraloss.errors import InputError, ParalossError
from paraloss.files import real_path
from paraloss.log import logger
from paraloss.text import one_line


@contextmanager
def locked(path: str | Path, error: type[ParalossError] = InputError) -> Iterator[None]:
    """Keep other processes off ``path`` within the block; the lock belongs to the file that all its names lead to.

    Warns where the file system has no locks.

    Args:
        path: the file; it need not exist.
        error: class of what is raised.

    Raises:
        ParalossError: of the class ``error``: another process holds the lock.
    """
    from filelock import FileLock, Timeout

    target = real_path(Path(path), error)
    place = target.with_name(f".{target.name}.lock")
    lock = FileLock(place, timeout=0)
    held = False
    try:
        lock.acquire()
        held = True
    except Timeout as fault:
        raise error(
            f"{path}: another job is computing this file; wait for it, or choose another {{path}}", arguments=("path",)
        ) from fault
    except (OSError, NotImplementedError) as fault:
        reason = one_line(fault)[:80]
        logger.warning(f"{path}: file locking is not available here ({reason}); make sure only one job writes this file")
    try:
        yield
    finally:
        if held:  # removed while it is still held: nobody can hold a lock that has no name
            place.unlink(missing_ok=True)
            lock.release()
