"""The work queue at sizes that no test machine has: ranks and points by discrete-event simulation.

    python benchmarks/queue_simulation.py [--ranks 1024] [--points 1000000] [--point-ms 20] [--spread 0.3]

Each rank claims a chunk, evaluates its points, sends a result for each; rank 0 takes results in one at a time. The costs
are measured here first (a claim, a result received and recorded) and may be given: a claim over a network takes about
2 microseconds with remote atomics, about 20 without. What is told: the share of the ideal time, how busy rank 0's
receiver is, and the longest queue in front of it.
"""

from __future__ import annotations

import argparse
import heapq
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from paraloss import Surface
from paraloss.surface import SurfaceWriter

CHUNK_S = 0.2  # as in paraloss.compute.ranks.queue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1024)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--point-ms", type=float, default=20.0)
    parser.add_argument("--spread", type=float, default=0.3, help="between ranks: uneven GPUs, as a share")
    parser.add_argument("--claim-us", type=float, help="time of a claim; measured between two ranks if not given")
    options = parser.parse_args()
    claim, receive = _measured_messages()
    claim = options.claim_us * 1e-6 if options.claim_us else claim
    write = _measured_record()
    print(f"a claim {1e6 * claim:.1f} µs, a result received {1e6 * receive:.1f} µs and written {1e6 * write:.1f} µs")
    record = receive + write
    print("| ranks | points | point | time / ideal | receiver busy | longest queue |\n|---|---|---|---|---|---|")
    for ranks in sorted({1, 16, 128, options.ranks}):
        for point_s in sorted({options.point_ms / 1e3, 0.2}):
            points = min(options.points, int(40 * ranks / point_s))  # 40 s of work show the steady state and the end
            ratio, busy, longest = simulate(ranks, points, point_s, options.spread, claim, record)
            print(f"| {ranks} | {points} | {1e3 * point_s:.0f} ms | {ratio:.3f} | {100 * busy:.0f} % | {longest} |")


def simulate(
    ranks: int, points: int, point_s: float, spread: float, claim: float, record: float, seed: int = 0
) -> tuple[float, float, int]:
    """Time over the ideal, share of the time that rank 0's receiver works, and results waiting for it at most."""
    rng = np.random.default_rng(seed)
    speed = point_s * (1 + spread * rng.uniform(-1, 1, ranks))
    free = [(0.0, rank) for rank in range(ranks)]
    heapq.heapify(free)
    counter_free = taken = 0.0
    finished: list[float] = []
    left_seen = np.full(ranks, points)
    while taken < points:
        now, rank = heapq.heappop(free)
        counter_free = max(counter_free, now) + claim  # claims are served one after the other
        ahead = max(1, int(CHUNK_S / speed[rank]))
        chunk = int(min(ahead, 1 + left_seen[rank] // (2 * ranks), points - taken))
        taken += chunk
        left_seen[rank] = points - taken
        ends = counter_free + speed[rank] * np.arange(1, chunk + 1)
        finished += ends.tolist()
        heapq.heappush(free, (float(ends[-1]), rank))
    arrivals = np.sort(finished)
    # A single server: result k is done at max(arrival_k, done_{k-1}) + record.
    slack = arrivals - record * np.arange(len(arrivals))
    done = np.maximum.accumulate(slack) + record * np.arange(1, len(arrivals) + 1)
    waiting = int((np.arange(1, len(arrivals) + 1) - np.searchsorted(done, arrivals)).max())
    ideal = points / (1 / speed).sum()
    return float(done[-1] / ideal), len(arrivals) * record / float(done[-1]), waiting


def _measured_record() -> float:
    """Writing a result into a surface file of 1000×1000 points, a second's worth at once."""
    axis, count = np.linspace(-1, 1, 1000), 50_000
    blank = {name: np.full((1000, 1000), np.nan) for name in ("train_loss", "train_acc")}
    empty = Surface(axis, axis, blank, np.zeros((1000, 1000), np.uint8))
    with tempfile.TemporaryDirectory() as folder, SurfaceWriter(Path(folder) / "s.h5", empty, {"a": 1}) as writer:
        began = time.perf_counter()
        for index in range(count):
            writer.add(index, [1.0, 2.0])
        writer.flush()
        return (time.perf_counter() - began) / count


def _measured_messages() -> tuple[float, float]:
    """A claim, and the receipt of a result, between two real ranks."""
    code = (
        "from paraloss.compute.ranks.world import world\n"
        "from paraloss.compute.ranks.mpi import MpiTransport\nimport time\n"
        "comm = world().comm; transport = MpiTransport(comm)\n"
        "began = time.perf_counter()\n"
        "for _ in range(20000): transport.take(1)\n"
        "claim = (time.perf_counter() - began) / 20000\n"
        "comm.Barrier()\n"
        "if comm.rank:\n"
        "    for k in range(20000): transport.send((k, [1.0, 2.0]))\n"
        "    transport.settle()\n"
        "    print('claim', claim)\n"
        "else:\n"
        "    left = 20000\n"
        "    began = time.perf_counter()\n"
        "    while left: left -= len(transport.receive())\n"
        "    print('receive', (time.perf_counter() - began) / 20000)\n"
        "comm.Barrier(); transport.close()\n"
    )
    mpiexec = Path(sys.executable).parent / "mpiexec"
    try:
        done = subprocess.run([mpiexec, "-n", "2", sys.executable, "-c", code], capture_output=True, text=True, check=True)
        words = done.stdout.split()
        return float(words[words.index("claim") + 1]), float(words[words.index("receive") + 1])
    except (OSError, subprocess.CalledProcessError):
        return 20e-6, 20e-6


if __name__ == "__main__":
    main()
