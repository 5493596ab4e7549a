"""Points at which every sample is evaluated, so that it is predicted between them, and what is known there.

Their losses are the largest part of a sampled surface of many samples. They are kept beside the surface's file until it is
complete: a job that goes on does not evaluate them again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.compute.ranks.world import World
from paraloss.files import real_path
from paraloss.log import logger

_COARSER = (4, 2, 1)  # strides of the levels, in that of the finest
_MARK, _SUM = b"anchors of a surface of Paraloss\n", 32  # what the file begins with; bytes of a row's sum


def anchor_points(shape: Sequence[int]) -> np.ndarray:
    """Flat indices of the finest sub-grid at which every sample is evaluated: about a sixteenth of a 51×51 grid.

    The stride is 4 for up to 51 points per axis (8 on a curve), then grows so that the number of anchors does not.
    """
    return _sub_grid(shape, _stride(shape))


def anchor_levels(shape: Sequence[int]) -> list[np.ndarray]:
    """Sub-grids of four times, twice and once the stride of ``anchor_points``, each with the points of the one before it."""
    return [_sub_grid(shape, times * _stride(shape)) for times in _COARSER]


def _stride(shape: Sequence[int]) -> int:
    return int((4 if len(shape) == 2 else 8) * 2 ** max(0, math.ceil(math.log2(max(shape) / 51))))


def _sub_grid(shape: Sequence[int], stride: int) -> np.ndarray:
    axes = [[i for i in range(size) if (i - (size - 1) // 2) % stride == 0] for size in shape]
    return np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), tuple(shape)).ravel()


class AnchorTable:
    """What was found at each anchor: metrics, and for each split losses and hits of all samples.

    Args:
        count: number of anchors.
        width: number of metrics.
        samples: split -> N.

    Attributes:
        done: (count,) whether an anchor was evaluated.
    """

    def __init__(self, count: int, width: int, samples: Mapping[str, int]) -> None:
        fields: list[Any] = [("metrics", "f8", (width,))]
        for number, size in enumerate(samples.values()):
            fields += [(f"losses {number}", "f8", (size,)), (f"hits {number}", "f4", (size,))]
        self._numbers = {name: number for number, name in enumerate(samples)}
        self._rows = np.zeros(count, dtype=np.dtype(fields))
        self.done = np.zeros(count, bool)
        self._file: _RowFile | None = None

    def keep(self, surface: Path, settings: Mapping[str, Any], resumed: bool) -> None:
        """Keep rows beside a surface's file from now on.

        Args:
            surface: the surface's file.
            settings: all that decides the values; JSON types.
            resumed: take the rows that are there of the same settings; else they are replaced.
        """
        self._file = _RowFile(anchor_file(surface), json.dumps(settings, sort_keys=True, default=str), self._rows.itemsize)
        if not resumed:
            self._file.remove()
            return
        for position in range(len(self._rows)):
            data = self._file.read(position)
            if data is not None:
                self._rows[position] = np.frombuffer(data, self._rows.dtype)[0]
                self.done[position] = True

    def row(self, metrics: Sequence[float], found: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> list[float]:
        """One anchor's numbers in a row, as ``add`` takes them: ranks send them so."""
        parts = [np.asarray(metrics, dtype=np.float64)]
        for losses, hits in found.values():
            parts += [losses, np.zeros(len(losses)) if hits is None else hits]
        return list(np.concatenate(parts).tolist())

    def add(self, position: int, values: Sequence[float]) -> None:
        """Enter what ``row`` gave."""
        ends = np.cumsum([self._rows.dtype[name].shape[0] for name in self._rows.dtype.names or ()])
        for name, part in zip(self._rows.dtype.names or (), np.split(np.asarray(values), ends[:-1]), strict=True):
            self._rows[name][position] = part
        self.done[position] = True
        if self._file is not None:
            self._file.write(position, self._rows[position].tobytes())

    def share(self, world: World, positions: Sequence[int]) -> None:
        """Give rank 0's rows to all ranks. Collective."""
        for position in positions:
            world.fill(self._rows[position : position + 1].view(np.uint8))
            self.done[position] = True

    def metrics(self, position: int) -> list[float]:
        """The metrics of an anchor."""
        return [float(value) for value in self._rows["metrics"][position]]

    def losses(self, name: str, positions: int | np.ndarray) -> np.ndarray:
        """(anchors, N) losses of a split's samples; (N,) at one anchor."""
        return np.asarray(self._rows[f"losses {self._numbers[name]}"][positions])

    def hits(self, name: str, positions: int | np.ndarray) -> np.ndarray:
        """(anchors, N) hits of a split's samples: 0 or 1, a share where a sample has several places."""
        return np.asarray(self._rows[f"hits {self._numbers[name]}"][positions])

    def drop(self) -> None:
        """Take no row as evaluated."""
        self.done[:] = False

    def clear(self) -> None:
        """Free the rows; what is kept of them stays."""
        self._rows = self._rows[:0].copy()

    def forget(self) -> None:
        """Remove what is kept."""
        if self._file is not None:
            self._file.remove()


def anchor_file(surface: Path) -> Path:
    """Where the anchors of a surface's file are kept, until it is complete."""
    target = real_path(surface)
    return target.with_name(f".{target.name}.anchors")


class _RowFile:
    """Rows of one length in a file, each behind a sum over settings and contents: one that was cut short is none.

    What has the name and is no such file is left alone, and nothing is kept. Nobody needs the file: what fails is a warning.

    Args:
        path: the file; appears with the first row.
        settings: rows that were written under others are none.
        length: bytes of a row.
    """

    def __init__(self, path: Path, settings: str, length: int) -> None:
        self._path, self._settings, self._length = path, settings.encode(), length
        self._failed = False
        try:
            self._failed = os.path.lexists(path) and not self._is_ours()
            path.lstat()
        except FileNotFoundError:
            pass
        except OSError as error:  # a name too long, a folder that cannot be searched
            self._fails(error)

    def _is_ours(self) -> bool:
        """Whether the file is one of these, or the beginning of one that did not fit."""
        if not stat.S_ISREG(self._path.lstat().st_mode):
            return False
        with self._path.open("rb") as file:
            start = file.read(len(_MARK))
            return start == _MARK or (_MARK.startswith(start) and not file.read(1))

    def _fails(self, error: OSError) -> None:
        self._failed = True
        reason = error.strerror or error
        logger.warning(f"{self._path}: anchors are not kept ({reason}); a job that goes on will evaluate them again")

    def read(self, position: int) -> bytes | None:
        if self._failed:
            return None
        with suppress(OSError), self._path.open("rb") as file:
            file.seek(self._place(position))
            kept, data = file.read(_SUM), file.read(self._length)
            if kept == self._sum(position, data):
                return data
        return None

    def write(self, position: int, data: bytes) -> None:
        """Write a row; warns once where that fails, for the surface does not need it."""
        if self._failed:
            return
        try:
            with self._path.open("r+b" if self._path.exists() else "x+b") as file:
                file.write(_MARK)
                file.seek(self._place(position))
                file.write(self._sum(position, data) + data)
        except OSError as error:
            self.remove()  # others need the room
            self._fails(error)

    def remove(self) -> None:
        """Remove the file."""
        if self._failed:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning(f"{self._path}: cannot be removed ({error.strerror or error}); nobody needs it any more")

    def _place(self, position: int) -> int:
        return len(_MARK) + position * (_SUM + self._length)

    def _sum(self, position: int, data: bytes) -> bytes:
        return hashlib.sha256(b"%d %s\n%s" % (position, self._settings, data)).digest()
