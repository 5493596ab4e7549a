"""What a computation is going to do, in a few lines before the first point."""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from paraloss.compute.directions.sources import bytes_in_file
from paraloss.compute.settings import Settings
from paraloss.compute.setup import Setup
from paraloss.progress import duration
from paraloss.ways import way_in_words

_OVERHEAD = 30_000
"""Bytes of a surface file without points and directions, about."""


def opening_lines(settings: Settings, setup: Setup, provenance: Mapping[str, Any]) -> list[str]:
    """Return what is computed, of what, on which samples and by which device, a line each.

    Args:
        settings: what is computed.
        setup: how it is computed.
        provenance: see ``compute_surface``; its "model" and "data" are the names to show.
    """
    facts = setup.facts
    still = facts["still"]
    name = provenance.get("model") or type(settings.model).__name__
    moving = f"{still['of_numbers'] - still['numbers']:,} of {still['of_numbers']:,} parameters move"
    samples = ", ".join(
        f"{split} {count:,}" + (f" of {facts['samples_of'][split]:,}" if facts["samples_of"].get(split, count) != count else "")
        for split, count in facts["samples"].items()
    )
    data = f" of {provenance['data']}" if provenance.get("data") else ""
    ranks = f", {facts['ranks']} ranks" if facts["ranks"] > 1 else ""
    return [
        f"{extent(settings)}; {_directions(settings)}",
        f"model: {name}, {moving}",
        f"samples: {samples}{data}; loss: {facts['criterion']}",
        f"device: {setup.evaluator.how(facts['evaluated'])}{ranks}",
    ]


def _directions(settings: Settings) -> str:
    """Where each axis leads."""
    asked = settings.options
    if asked.directions is not None:
        return "directions as given"
    targets = {"x": asked.x_to, "y": asked.y_to, "z": asked.z_to}
    parts, made = [], settings.plane.made
    named = {
        "directions": [made[axis].facts if axis in made else {} for axis in "xyz"],
        "options": {"along": asked.facts()["along"]},
    }
    for axis, norm, end in zip(settings.steps, asked.norms, settings.plane.ends, strict=False):
        target = targets[axis]
        name = Path(target).name if isinstance(target, (str, Path)) else "the other model"
        by = ", by recipe (philox)" if settings.plane.generator == "philox" else ""
        if axis in made:
            parts.append(f"{axis} along {way_in_words(named, axis)}")
        else:
            parts.append(f"{axis} random, normalized by {norm}{by}" if end is None else f"{axis} to {name}")
    seed = f", seed {asked.seed}" if settings.plane.is_random else ""
    return ", ".join(parts) + seed


def extent(settings: Settings) -> str:
    """Return whether it is a curve, a surface or a volume, and of how many points; why, where that was not asked for."""
    asked, steps = settings.options, settings.steps
    kind = ("curve", "surface", "volume")[len(steps) - 1]
    sides = " × ".join(f"{len(along):,}" for along in steps.values())
    points = f"{sides} = {len(settings.grid):,} points" if len(steps) > 1 else f"{sides} points"
    why = ""
    if asked.y is None and not asked.curve:
        why = (
            ", y as x; --curve computes a curve"
            if "y" in steps
            else ", a line, as x leads to another model; --y adds a second direction"
        )
    return f"a {kind} of {points}{why}"


def estimate(settings: Settings, setup: Setup, left: int) -> str:
    """Return how long ``left`` points will take and how large the file will be, from one point that is evaluated for it."""
    if left == 0:
        return "nothing is left to compute"
    times = []
    for _ in range(2):  # the first one also pays for what is made once
        began = time.perf_counter()
        setup.evaluator(settings.grid[len(settings.grid) // 2])
        times.append(time.perf_counter() - began)
        if times[0] > 2:
            break
    point, rounds = min(times), ceil(left / setup.groups)
    most = "at most " if settings.options.sampled or settings.options.refine is not None else ""
    kept = [*setup.directions, *(setup.tensors if settings.options.save_directions else [])]
    numbers = sum(map(bytes_in_file, kept))
    size = numbers + len(settings.grid) * (8 * len(setup.estimator.metrics) + 1) + _OVERHEAD
    every = ", all samples at each" if settings.options.sampled else ""
    total = f"{most}{duration(point * rounds)} for {left:,} points{every}"
    return f"estimate: {point:.3g} s per point, {total}; file {size / 1e6:.3g} MB"
