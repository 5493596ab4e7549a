"""Shared memory that MPICH leaves in /dev/shm when its ranks are killed: 2 MB per job, of the 64 MB that a container may have.

Each rank notes which segments it uses in a file beside them. The next job removes the segments of ranks that are provably dead:
of the same user, in the same process namespace, and no process with that number and start time exists.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

SHARED = Path("/dev/shm")
_SEGMENT = re.compile(r"mpich_shm_[0-9a-f]+_\d+")
_NOTE = re.compile(r"paraloss_(\d+)_(\d+)_(\d+)")  # process namespace, process, its start time


def note(shared: Path = SHARED) -> Path | None:
    """Write down the segments that this process maps; the note, to be removed at its end, or None where there is none."""
    with suppress(OSError):
        used = sorted(set(_SEGMENT.findall(Path("/proc/self/maps").read_text())))
        start = _start_of(os.getpid())
        if used and start is not None:
            place = shared / f"paraloss_{_namespace()}_{os.getpid()}_{start}"
            place.write_text("\n".join(used))
            return place
    return None


def clean(shared: Path = SHARED) -> list[str]:
    """Remove what dead ranks of this user left; the names of the segments removed."""
    removed: list[str] = []
    with suppress(OSError):
        notes = {place: found for place in shared.iterdir() if (found := _NOTE.fullmatch(place.name)) and _is_ours(place)}
        dead = [place for place, found in notes.items() if _is_dead(*map(int, found.groups()))]
        alive = {name for place in notes if place not in dead for name in _names(place)}
        for place in dead:
            for name in _names(place):
                if name not in alive and _is_ours(shared / name):
                    with suppress(OSError):
                        (shared / name).unlink()
                        removed.append(name)
            with suppress(OSError):
                place.unlink()
    return removed


def _names(place: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError):
        return [line for line in place.read_text()[:10_000].splitlines() if _SEGMENT.fullmatch(line)]
    return []


def _is_ours(place: Path) -> bool:
    with suppress(OSError):
        return place.lstat().st_uid == os.getuid() and place.is_file() and not place.is_symlink()
    return False


def _is_dead(namespace: int, process: int, start: int) -> bool:
    return namespace == _namespace() and _start_of(process) != start


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_of(process: int) -> int | None:
    """The start time of a process in clock ticks since boot; None where there is no such process."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
