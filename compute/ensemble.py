"""The same surface over several random planes: mean, spread, and how much the picture depends on the draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from paraloss.analysis.numbers import draw_dependence
from paraloss.compute.api import compute_surface
from paraloss.compute.inputs.problem import Loss
from paraloss.compute.options.surface import SurfaceKeywords, SurfaceOptions
from paraloss.compute.ranks.world import world
from paraloss.errors import InputError
from paraloss.files import check_output, files_in
from paraloss.log import logger
from paraloss.option import Options, combine
from paraloss.surface import DONE, NOT_FINITE, Surface, write_surface

if TYPE_CHECKING:
    from typing_extensions import Unpack

STATISTICS = ("std", "min", "max")


def compute_ensemble(
    model: nn.Module,
    loss: str | Callable[..., Any] | Loss,
    data: Any,
    *groups: Options,
    repeats: int,
    step: str | Callable[..., Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Unpack[SurfaceKeywords],
) -> Surface:
    """Compute ``repeats`` surfaces that differ in the seed of their random directions alone, and their summary.

    Args:
        model: see ``compute_surface``.
        loss: see ``compute_surface``.
        data: see ``compute_surface``.
        groups: see ``compute_surface``. ``path`` is the summary; the surface of seed 123 lies beside it as
            ``<name>_seed123.h5``. Each can be resumed. ``seed`` is that of the first plane.
        repeats: number of planes, at least 2; their seeds are ``seed``, ``seed + 1`` …
        step: see ``compute_surface``.
        provenance: further facts for the files.
        options: see ``compute_surface``.

    Returns:
        The mean surface; beside each metric ``<metric>_std``, ``_min`` and ``_max`` over the planes. The provenance's
        ``draw_dependence`` is explained in ``paraloss.analysis.numbers.draw_dependence``.

    Raises:
        InputError: fewer than two repeats, no path, no random direction, or as ``compute_surface``.
    """
    asked = combine(SurfaceOptions, groups, options, "compute_ensemble")
    path = _checked_path(asked, repeats)
    ranks = world()
    first = ranks.is_first
    seeds = range(asked.seed, asked.seed + repeats)
    ranks.on_first(lambda: _check_outputs(path, seeds, asked))
    members, files = [], []
    for number, seed in enumerate(seeds):
        if first and asked.progress:
            logger.info(f"plane {number + 1} of {repeats}, seed {seed}")
        file = _member(path, seed)
        one = replace(asked, path=file, seed=seed)
        members.append(compute_surface(model, loss, data, one, step=step, provenance=provenance))
        files.append(file.name)
    summary = summarize(members, files)
    share = summary.provenance["draw_dependence"]
    if first and asked.progress:
        logger.info(f"the spread over the planes is {100 * share:.0f} % of the surface's own height: {_verdict(share)}")
    ranks.on_first(lambda: str(write_surface(summary, path)))
    return summary


def _member(path: Path, seed: int) -> Path:
    return path.with_name(f"{path.stem}_seed{seed}.h5")


def _check_outputs(path: Path, seeds: Sequence[int], asked: SurfaceOptions) -> None:
    """Refuse before the first plane what would be refused after the last."""
    inputs = files_in(asked.x_to, asked.y_to, asked.z_to, asked.directions)
    check_output(path, "summary", inputs, asked.overwrite)
    for seed in seeds:
        check_output(_member(path, seed), "surface", inputs, asked.overwrite)


def _checked_path(asked: SurfaceOptions, repeats: int) -> Path:
    if repeats < 2:
        raise InputError(f"{{repeats}} must be at least 2 for an ensemble, not {repeats}", arguments=("repeats",))
    ends = dict(zip(asked.steps(), (asked.x_to, asked.y_to, asked.z_to), strict=False))
    if asked.directions is not None or all(end is not None or axis in asked.ways for axis, end in ends.items()):
        raise InputError("{repeats} draws other random directions each time; here none is random", arguments=("repeats",))
    if asked.path is None:
        raise InputError("an ensemble requires {path}, the file of its summary", arguments=("path",))
    return Path(asked.path)


def summarize(members: Sequence[Surface], files: Sequence[str] = ()) -> Surface:
    """Return the mean of surfaces over the same steps; beside each metric its standard deviation, minimum and maximum."""
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
