"""Compute a surface: from a model, a loss and data to a surface file, on one process or many ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from paraloss.compute.inputs.problem import Loss, load_loss
from paraloss.compute.inputs.randomness import seeded
from paraloss.compute.inputs.rewriting import check_new_checkpoint
from paraloss.compute.job import Job
from paraloss.compute.lowest import Form, save_lowest
from paraloss.compute.options.surface import SurfaceKeywords, SurfaceOptions
from paraloss.compute.ranks.world import World, world
from paraloss.compute.settings import Settings, resolve
from paraloss.compute.summary import estimate, opening_lines
from paraloss.files import files_in
from paraloss.log import logger
from paraloss.option import Options, combine
from paraloss.surface import Surface

if TYPE_CHECKING:
    from typing_extensions import Unpack


@seeded(0)  # the order of a shuffled loader is the same on every rank; the caller's generators are left as they were
def compute_surface(
    model: nn.Module,
    loss: str | Callable[..., Any] | Loss = "cross_entropy",
    data: Any = None,
    *groups: Options,
    step: str | Callable[..., Any] | None = None,
    trajectory: Mapping[str, np.ndarray] | None = None,
    paths: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    like: str | Path | None = None,
    **options: Unpack[SurfaceKeywords],
) -> Surface:
    """Evaluate a model's loss and accuracy over a plane, a line or a volume through its weights.

    Example: ``compute_surface(model, "cross_entropy", data, x=(-1, 1, 51), rtol=0.01)``

    Args:
        model: model at the origin of the surface. Not modified.
        loss: see ``paraloss.compute.load_criterion``.
        data: (inputs, targets), a data set of pairs, or a dict of splits; see ``paraloss.compute.as_data_set``. With a step:
            batches of any kind, see ``paraloss.compute.inputs.batch_split.as_batches``.
        groups: options in groups: ``PlaneOptions``, ``MeasureOptions``, ``AccuracyOptions``, ``EffortOptions``,
            ``OutputOptions`` or all of them, ``SurfaceOptions``. Later groups win over earlier ones.
        step: instead of ``loss``, a function (model, batch) that returns (n,) losses, a pair (sum, count) or the batch's mean;
            ``file.py:callable``; or ``huggingface``.
        trajectory: projected path to keep with the surface: "x", "y", "loss", "step", "residual", (n,) each.
        paths: the same for several runs: label -> as ``trajectory``.
        provenance: further facts for the file, such as the model's name.
        like: checkpoint whose form ``save_best`` keeps. Default: ``{"state_dict": …}``.
        options: single options by name, as in the groups of ``paraloss.compute.options``, where each is documented. They win
            over groups.

    Returns:
        The complete surface, with its directions. Under mpiexec every rank calls this and gets it.

    Raises:
        InputError: model, loss, data, axes or checkpoints do not fit together, or an option is out of range.
        SurfaceFileError: ``path`` cannot be written, belongs to other settings, or another job is writing it.
        TypeError: an option that does not exist.
    """
    asked = combine(SurfaceOptions, groups, options, "compute_surface")
    ranks = world()
    if asked.save_best is not None:
        ranks.on_first(lambda: _check_best(asked, like))
    settings: Settings = ranks.on_all(lambda: resolve(model, load_loss(loss, step), data, asked))
    with settings.home:
        job = _begin(settings, ranks)
        if job.progress:
            for line in opening_lines(job.settings, job.setup, provenance or {}):
                logger.info(line)
        kept = {**({} if trajectory is None else {"": trajectory}), **(paths or {})}
        surface = job.run(kept, {"options": asked.facts(), **(provenance or {})})
    if asked.save_best is not None:
        form = Form(Path(asked.save_best), None if like is None else Path(like), asked.weights_key, asked.overwrite)
        ranks.on_first(lambda: save_lowest(settings, surface, job.setup.tensors, job.setup.device, form))
    return surface


def _check_best(asked: SurfaceOptions, like: str | Path | None) -> None:
    """Refuse before the first point what would be refused after the last."""
    assert asked.save_best is not None
    inputs = files_in(like, asked.x_to, asked.y_to, asked.z_to, asked.directions)
    begun = asked.path is not None and Path(asked.path).exists()
    check_new_checkpoint(Path(asked.save_best), inputs, asked.overwrite or begun)


@seeded(0)
def plan_surface(
    model: nn.Module,
    loss: str | Callable[..., Any] | Loss = "cross_entropy",
    data: Any = None,
    *groups: Options,
    step: str | Callable[..., Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Unpack[SurfaceKeywords],
) -> list[str]:
    """Say what ``compute_surface`` would do with the same arguments, and how long it would take; nothing is written.

    Args:
        model: see ``compute_surface``.
        loss: see ``compute_surface``.
        data: see ``compute_surface``.
        groups: see ``compute_surface``.
        step: see ``compute_surface``.
        provenance: see ``compute_surface``.
        options: see ``compute_surface``.

    Returns:
        Lines of text. One or two points are evaluated for the estimate of the time.

    Raises:
        InputError: as ``compute_surface``.
        SurfaceFileError: as ``compute_surface``.
    """
    asked = combine(SurfaceOptions, groups, options, "plan_surface")
    ranks = world()
    settings: Settings = ranks.on_all(lambda: resolve(model, load_loss(loss, step), data, asked))
    with settings.home:
        job = _begin(settings, ranks)
        done = ranks.on_first(job.finished)
        left = len(settings.grid) - done
        time: str = ranks.on_all(lambda: estimate(job.settings, job.setup, left))
        kept = [f"resuming: {done:,} of {len(settings.grid):,} points are finished already"] if job.resumed else []
        return [*opening_lines(job.settings, job.setup, provenance or {}), *kept, time]


def _begin(settings: Settings, ranks: World) -> Job:
    """Make the job, and warn on rank 0 of steps that pass by a model."""
    job = Job(settings, ranks)
    for axis, end in zip(settings.steps, settings.plane.ends, strict=True):
        if end is not None and settings.options.directions is None and ranks.is_first:
            _warn_of_missed_models(axis, settings.steps[axis])
    return job


def _warn_of_missed_models(axis: str, steps: np.ndarray) -> None:
    """Warn where the steps towards another checkpoint pass by one of the two models."""
    missed = [end for end in (0, 1) if steps[0] < end < steps[-1] and np.abs(steps - end).min() > 1e-9]
    if missed:
        logger.warning(
            f"the {axis} grid does not contain {' or '.join(map(str, missed))}, so the surface will not include the loss of "
            f"the model there; choose another number of steps, as in {axis}=-0.5:1.5:41"
        )
