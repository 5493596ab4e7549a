"""All attacks in stages, and a table of what came of them: ``make attack``, or ``python attack.py STAGE …`` for some of them.

Stages: kills, damaged (files), options, requests, traps. Each prints lines of progress and a table of its own.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from helpers import surface_of


def kills(share: float) -> tuple[int, int]:
    """Every kind of job killed ten times; (kills, kinds that came to harm)."""
    import kills as stage

    number = max(1, round(10 * share))
    return number * len(stage.JOBS), stage.everything(number, list(stage.JOBS))


def damaged(share: float) -> tuple[int, int]:
    """Damaged files of every format; (files, how many came to harm)."""
    import damaged_files

    cases = round(10_400 * share)
    return cases, damaged_files.show(damaged_files.everything(cases))


def options(share: float) -> tuple[int, int]:
    """Random combinations of options; (combinations, how many came to harm)."""
    import option_combinations

    cases = round(2_100 * share)
    return cases, option_combinations.show(option_combinations.everything(cases))


def traps(share: float) -> tuple[int, int]:
    """Files that would run a program; (traps, how many sprang or came to harm). Always all of them."""
    import traps as stage

    tallies = stage.everything()
    return sum(tally.cases for tally in tallies.values()), stage.show(tallies)


def requests(share: float) -> tuple[int, int]:
    """Requests to the live server, all connected before the first one asks; (requests, how many were not answered)."""
    import threading

    from paraloss.picture_options import GridOptions
    from paraloss.rendering.server import ViewServer

    number = max(1, round(200 * share))
    with tempfile.TemporaryDirectory() as folder:
        path = surface_of(lambda x, y: x**2 + y**2 + 0.1, 9, 9).save(Path(folder) / "s.h5")
        server = ViewServer([path], ["s"], GridOptions())
        threading.Thread(target=server.run, daemon=True).start()
        address = server.url.removeprefix(f"http://127.0.0.1:{server.port}")
        links = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(number)]
        for link in links:
            link.sendall(f"GET {address} HTTP/1.0\r\nHost: localhost:{server.port}\r\n\r\n".encode())
        answered = 0
        for link in links:
            with link, link.makefile("rb") as answer:
                text = answer.read()
                answered += text.startswith(b"HTTP/1.0 200 OK") and text.rstrip().endswith(b"</html>")
        server.close()
    print(f"{answered} of {number} requests at once were answered")
    return number, number - answered


STAGES: dict[str, tuple[str, Callable[[float], tuple[int, int]]]] = {
    "kills": ("kills, each result compared bit for bit", kills),
    "damaged": ("damaged files", damaged),
    "options": ("combinations of options", options),
    "requests": ("requests at once to the live server", requests),
    "traps": ("files that would run a program", traps),
}


def main() -> int:
    """Run the stages and print the table; how many cases came to harm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES)}; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="part of the cases, as in 0.1 (default: 1)")
    asked = parser.parse_args()
    if unknown := set(asked.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    rows, total = [], 0
    for name in asked.stages or STAGES:
        what, stage = STAGES[name]
        print(f"== {name}: {what}", flush=True)
        began = time.monotonic()
        cases, harm = stage(asked.share)
        rows.append((what, cases, harm, time.monotonic() - began))
        total += harm
    print(f"\n{'attack':45}{'cases':>8}{'harm':>6}{'minutes':>9}")
    for what, cases, harm, seconds in rows:
        print(f"{what:45}{cases:8,}{harm:6}{seconds / 60:9.1f}")
    return total


if __name__ == "__main__":
    sys.exit(bool(main()))
