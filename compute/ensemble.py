"""The same surface over several random planes: mean, spread, and how much the picture depends on the draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from paraloss.analysis.numbers import draw_dependence
from paraloss.compute.api import compute_surface
from paraloss.compute.ranks.world import on_first_rank, world
from paraloss.errors import InputError
from paraloss.progress import say
from paraloss.surface import DONE, NOT_FINITE, Surface
from paraloss.surface.file import write_surface

STATISTICS = ("std", "min", "max")


def compute_ensemble(
    model: nn.Module,
    loss: Any,
    data: Any,
    *,
    repeats: int,
    path: str | Path,
    seed: int = 123,
    **options: Any,
) -> Surface:
    """Compute ``repeats`` surfaces that differ in the seed of their random directions alone, and their summary.

    Args:
        model: as in ``compute_surface``; so are ``loss``, ``data`` and all ``options``.
        loss: see there.
        data: see there.
        repeats: number of planes, 2 at least; their seeds are ``seed``, ``seed + 1`` …
        path: the summary; the surface of seed 123 lies beside it as ``<name>_seed123.h5``. Each can be resumed.
        seed: of the first plane.
        options: of ``compute_surface``.

    Returns:
        The mean surface; beside each metric ``<metric>_std``, ``_min`` and ``_max`` over the planes. The provenance's
        ``draw_dependence`` is explained in ``paraloss.analysis.numbers.draw_dependence``.

    Raises:
        InputError: fewer than two repeats, or as ``compute_surface``.
    """
    if repeats < 2:
        raise InputError(f"an ensemble needs two planes at least, not {repeats}")
    path = Path(path)
    comm = world()
    first = comm is None or comm.rank == 0
    members, files = [], []
    for number in range(repeats):
        if first:
            say(f"plane {number + 1} of {repeats}, seed {seed + number}")
        file = path.with_name(f"{path.stem}_seed{seed + number}.h5")
        members.append(compute_surface(model, loss, data, path=file, seed=seed + number, **options))
        files.append(file.name)
    summary = summarize(members, files)
    share = summary.provenance["draw_dependence"]
    if first:
        say(f"spread over the planes is {100 * share:.0f} % of the surface's own height: {_verdict(share)}")
    on_first_rank(comm, lambda: str(write_surface(summary, path)))
    return summary


def summarize(members: Sequence[Surface], files: Sequence[str] = ()) -> Surface:
    """The mean of surfaces over the same steps, and beside each metric its standard deviation, minimum and maximum."""
    metrics: dict[str, np.ndarray] = {}
    for name in members[0].metrics:
        values = np.stack([member.metrics[name] for member in members])
        metrics[name] = values.mean(axis=0)
        for kind, array in zip(STATISTICS, (values.std(axis=0, ddof=1), values.min(axis=0), values.max(axis=0)), strict=True):
            metrics[f"{name}_{kind}"] = array
    finite = np.logical_and.reduce([np.isfinite(values) for values in metrics.values()])
    one = members[0]
    return Surface(
        x=one.x,
        y=one.y,
        z=one.z,
        metrics=metrics,
        status=np.where(finite, DONE, NOT_FINITE).astype(np.uint8),
        provenance={
            **one.provenance,
            "ensemble": list(files),
            "draw_dependence": draw_dependence([member.metric() for member in members]),
        },
    )


def _verdict(share: float) -> str:
    if share < 0.1:
        return "the picture hardly depends on the draw"
    return "the draw shows: look at several planes" if share < 0.3 else "the picture depends on the draw"
