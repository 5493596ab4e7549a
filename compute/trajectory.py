"""A run's path: its checkpoints in a plane, the loss of each, and the surface over the plane around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from paraloss.compute.api import compute_surface
from paraloss.compute.directions.files import load_directions
from paraloss.compute.directions.moving import names_to_move
from paraloss.compute.directions.principal import Projection, principal_plane, project_onto
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.evaluate.report import PLAIN_REPORT, Report
from paraloss.compute.forward.copying import copy_model
from paraloss.compute.inputs.checkpoints import load_checkpoint, put
from paraloss.compute.inputs.order import checkpoints_in_order
from paraloss.compute.inputs.problem import AnySplit, Loss, load_loss, splits_for
from paraloss.compute.options.runs import TrajectoryKeywords, TrajectoryOptions
from paraloss.compute.options.surface import (
    AccuracyOptions,
    EffortOptions,
    MeasureOptions,
    OutputOptions,
)
from paraloss.compute.ranks.devices import rank_device
from paraloss.compute.ranks.world import world
from paraloss.errors import InputError
from paraloss.option import Options, combine
from paraloss.progress import Progress, say
from paraloss.surface import Surface

if TYPE_CHECKING:
    from typing_extensions import Unpack


def project_run(
    model: nn.Module,
    checkpoints: Sequence[str | Path],
    loss: str | Callable[..., Any] | Loss = "cross_entropy",
    data: Any = None,
    *groups: Options,
    step: str | Callable[..., Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Unpack[TrajectoryKeywords],
) -> Surface:
    """Project a run's checkpoints onto a plane, and compute the surface over the plane around their path.

    Args:
        model: model with the weights of the last checkpoint. Not modified.
        checkpoints: folder of numbered checkpoints, or three or more files in the order of training; the last is the origin.
        loss: see ``paraloss.compute.load_criterion``.
        data: see ``compute_surface``.
        groups: options in groups: ``ProjectionOptions``, ``MeasureOptions``, ``AccuracyOptions``, ``EffortOptions``,
            ``OutputOptions`` or all of them, ``TrajectoryOptions``.
        step: see ``compute_surface``.
        provenance: further facts for the file.
        options: single options by name, as in the groups of ``paraloss.compute.options``. They win over groups.

    Returns:
        The complete surface; its ``trajectory`` has each checkpoint's coordinates, own loss and distance from the plane.

    Raises:
        InputError: checkpoints, model, data and directions do not fit together, or an option is out of range.
        SurfaceFileError: ``path`` cannot be written, belongs to other settings, or another job is writing it.
        TypeError: an option that does not exist.
    """
    asked = combine(TrajectoryOptions, groups, options, "project_run")
    ranks = world()
    paths, how = ranks.on_all(lambda: checkpoints_in_order([Path(path) for path in checkpoints]))
    if asked.progress and ranks.is_first:
        say(how)
    criterion = ranks.on_all(lambda: load_loss(loss, step))[1]
    splits = ranks.on_all(lambda: splits_for(criterion, data))
    split = next(iter(asked.split_names), "train" if "train" in splits else next(iter(splits)))
    if split not in splits:
        raise InputError(f"the data have no split '{split}'; they have: {', '.join(splits)}")

    def find() -> tuple[Projection, np.ndarray]:
        chosen = {split: splits[split].subset(asked.samples)}
        found = _projection(model, paths, asked)
        report = Report(train_mode=asked.train_mode)
        return found, own_losses(model, paths, criterion, chosen, rank_device(asked.device), asked.weights_key, report)

    projection, losses = ranks.on_first(find)
    if asked.progress and ranks.is_first:
        _report(projection)
    x, y = axes_around(projection, asked.points, asked.margin)
    facts = {"explained_variance_ratio": list(projection.explained), "projection": asked.method, "options": asked.facts()}
    return compute_surface(
        model,
        criterion,
        splits,
        *(asked.part(kind) for kind in (MeasureOptions, AccuracyOptions, EffortOptions, OutputOptions)),
        x=x,
        y=y,
        directions=projection.directions,
        move=asked.move,
        trajectory=_path(projection, losses),
        provenance={**(provenance or {}), **facts},
    )


def _path(projection: Projection, losses: np.ndarray) -> dict[str, np.ndarray]:
    steps = np.arange(len(losses), dtype=float)
    return {"x": projection.x, "y": projection.y, "loss": losses, "step": steps, "residual": projection.residual}


def _projection(model: nn.Module, checkpoints: Sequence[Path], asked: TrajectoryOptions) -> Projection:
    moving = names_to_move(model, asked.move)
    if asked.onto is None:
        return principal_plane(model, checkpoints, asked.dir_type, asked.ignore, asked.weights_key, moving)
    given = load_directions(Path(asked.onto), model)
    if len(given) < 2:
        raise InputError(f"{asked.onto}: holds one direction; a trajectory requires two")
    plane = (given[0], given[1])
    return project_onto(model, checkpoints, plane, asked.method, asked.dir_type, asked.weights_key, moving)


def _report(projection: Projection) -> None:
    if projection.explained:
        x_share, y_share = (100 * share for share in projection.explained)
        say(f"explained variance: x {x_share:.1f} %, y {y_share:.1f} %")
    farthest = 100 * projection.residual.max() / max(np.hypot(projection.x, projection.y).max(), 1e-300)
    say(f"{len(projection.x)} checkpoints, up to {farthest:.0f} % of the path's extent away from the plane")


def axes_around(projection: Projection, points: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps along x and y that hold the whole path with ``margin`` of its extent to each side, the center included.

    One range for both axes' scale would waste points: each axis has its own. A step lies exactly at 0, the last
    checkpoint, so that its own loss is on the surface.
    """
    axes = []
    for values in (projection.x, projection.y):
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        extent = max(high - low, 1e-12)
        steps = np.linspace(low - margin * extent, high + margin * extent, points)
        axes.append(steps - steps[np.abs(steps).argmin()])
    return axes[0], axes[1]


def own_losses(
    model: nn.Module,
    checkpoints: Sequence[Path],
    loss: Loss,
    data: Mapping[str, AnySplit],
    device: torch.device,
    key: str | None = None,
    report: Report = PLAIN_REPORT,
) -> np.ndarray:
    """(n,) the loss of each checkpoint itself, which is not the plane's height below it."""
    model = copy_model(model)
    losses = []
    with Progress("losses of the checkpoints", len(checkpoints), unit="checkpoints") as bar:
        for path in checkpoints:
            put(model, load_checkpoint(path, model=model, weights_key=key)[0], str(path))
            losses.append(make_evaluator(model, loss, data, [], device, report=report)([])[0])
            bar.advance()
    return np.array(losses)
