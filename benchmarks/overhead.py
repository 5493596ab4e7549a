"""Queue, surface file and progress when a point takes 20 ms: run alone or under mpiexec, prints one line."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from paraloss import Surface
from paraloss.compute.ranks.queue import run_parallel, run_serial
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
    comm = world()
    first = comm is None or comm.rank == 0
    axis = np.linspace(-1, 1, SIDE)
    blank = {name: np.full((SIDE, SIDE), np.nan) for name in ("train_loss", "train_acc")}
    empty = Surface(axis, axis, blank, np.zeros((SIDE, SIDE), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        writer = SurfaceWriter(Path(folder) / "s.h5", empty, {"a": 1}) if first else None
        if comm is not None:
            comm.Barrier()
        began = time.perf_counter()
        with Progress("points", SIDE**2, shown=first) as bar:

            def record(index: int, values: list[float]) -> None:
                writer.add(index, values)
                bar.advance()

            if comm is None:
                run_serial(range(SIDE**2), evaluate, record)
            else:
                run_parallel(comm, range(SIDE**2), evaluate, record)
        if writer is not None:
            writer.close()
        spent = time.perf_counter() - began
    ranks = 1 if comm is None else comm.size
    if first:
        ideal = POINT_S * SIDE**2 / ranks
        print(f"Queue, file and progress with {ranks} rank(s), points of 20 ms: {100 * (spent / ideal - 1):.2f} % of the time.")


if __name__ == "__main__":
    main()
