"""Queue, surface file and progress when a point takes 20 ms: run alone or under mpiexec, prints one line."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from paraloss import Surface
from paraloss.compute.ranks.world import world
from paraloss.progress import Progress
from paraloss.surface import SurfaceWriter

POINT_S, SIDE = 0.02, 24


def evaluate(index: int) -> list[float]:
    until = time.perf_counter() + POINT_S
    while time.perf_counter() < until:  # busy, as an evaluation is
        pass
    return [1.0 + index, 50.0]


def main() -> None:
    ranks = world()
    axis = np.linspace(-1, 1, SIDE)
    blank = {name: np.full((SIDE, SIDE), np.nan) for name in ("train_loss", "train_acc")}
    empty = Surface(axis, axis, blank, np.zeros((SIDE, SIDE), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        writer = SurfaceWriter(Path(folder) / "s.h5", empty, {"a": 1}) if ranks.is_first else None
        ranks.allgather(None)
        began = time.perf_counter()
        with Progress("points", SIDE**2, shown=ranks.is_first) as bar:

            def record(index: int, values: list[float]) -> None:
                writer.add(index, values)
                bar.advance()

            ranks.visit(range(SIDE**2), evaluate, record, lambda: None)
        if writer is not None:
            writer.close()
        spent = time.perf_counter() - began
    if ranks.is_first:
        share = 100 * (spent * ranks.size / (POINT_S * SIDE**2) - 1)
        print(f"Queue, file and progress with {ranks.size} rank(s), points of 20 ms: {share:.2f} % of the time.")


if __name__ == "__main__":
    main()
