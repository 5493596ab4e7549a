"""Paths of runs: their checkpoints in one plane, the loss of each, and the surface over the plane around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from paraloss.compute.api import compute_surface
from paraloss.compute.directions.center import find_center
from paraloss.compute.directions.files import load_directions
from paraloss.compute.directions.moving import names_to_move
from paraloss.compute.directions.principal import Projection, principal_plane, project_onto
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.evaluate.estimator import with_smaller_batches
from paraloss.compute.evaluate.report import PLAIN_REPORT, Report
from paraloss.compute.forward.copying import copy_model
from paraloss.compute.inputs.checkpoints import load_checkpoint, put
from paraloss.compute.inputs.problem import AnySplit, Loss, load_loss, splits_for
from paraloss.compute.inputs.runs import Run, Runs, runs_of
from paraloss.compute.options.runs import TrajectoryKeywords, TrajectoryOptions
from paraloss.compute.options.surface import (
    AccuracyOptions,
    EffortOptions,
    MeasureOptions,
    OutputOptions,
)
from paraloss.compute.ranks.devices import rank_device
from paraloss.compute.ranks.world import world
from paraloss.errors import InputError, SurfaceFileError
from paraloss.log import logger
from paraloss.option import Options, combine
from paraloss.progress import Progress
from paraloss.surface import Surface
from paraloss.surface.reader import read_paths

if TYPE_CHECKING:
    from typing_extensions import Unpack


def project_run(
    model: nn.Module,
    checkpoints: Runs,
    loss: str | Callable[..., Any] | Loss = "cross_entropy",
    data: Any = None,
    *groups: Options,
    step: str | Callable[..., Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Unpack[TrajectoryKeywords],
) -> Surface:
    """Project the checkpoints of one or more runs onto a plane, and compute the surface over the plane around their paths.

    Several runs share the plane of the first two principal components of all their checkpoints together, each checkpoint
    counting the same. The plane goes through the last checkpoint of the first run, unless ``center`` or ``onto`` says
    otherwise: it is the one model of the paths whose own loss is on the surface.

    Args:
        model: model of the checkpoints. Not modified; its weights do not matter.
        checkpoints: folder of checkpoints, or three or more files in the order of training. For several runs a list of
            folders, patterns and lists of files, or a dict with a label for each.
        loss: see ``paraloss.compute.load_criterion``.
        data: see ``compute_surface``.
        groups: options in groups: ``ProjectionOptions``, ``MeasureOptions``, ``AccuracyOptions``, ``EffortOptions``,
            ``OutputOptions`` or all of them, ``TrajectoryOptions``.
        step: see ``compute_surface``.
        provenance: further facts for the file.
        options: single options by name, as in the groups of ``paraloss.compute.options``. They win over groups.

    Returns:
        The complete surface; its ``paths`` have each checkpoint's coordinates, own loss and distance from the plane.

    Raises:
        InputError: checkpoints, model, data and directions do not fit together, or an option is out of range.
        SurfaceFileError: ``path`` cannot be written, belongs to other settings, or another job is writing it.
        TypeError: an option that does not exist.
    """
    asked = combine(TrajectoryOptions, groups, options, "project_run")
    ranks = world()
    runs = ranks.on_all(lambda: runs_of(checkpoints, asked.label))
    if asked.progress and ranks.is_first:
        for run in runs:
            logger.info(run.how)
    criterion = ranks.on_all(lambda: load_loss(loss, step))[1]
    splits = ranks.on_all(lambda: splits_for(criterion, data))
    split = next(iter(asked.split_names), "train" if "train" in splits else next(iter(splits)))
    if split not in splits:
        raise InputError(f"the data have no split '{split}'; they have: {', '.join(splits)}")
    model = ranks.on_all(lambda: copy_model(model))
    center = ranks.on_all(lambda: find_center(model, runs, asked))
    if asked.progress and ranks.is_first and (len(runs) > 1 or center.is_chosen):
        logger.info(f"origin of the plane: {center.path.name}, {center.rule}")

    def find() -> tuple[Projection, np.ndarray]:
        chosen = {split: splits[split].subset(asked.samples)}
        paths = [path for run in runs for path in run.checkpoints]
        found = _projection(model, paths, center.path, asked)
        report = Report(train_mode=asked.train_mode)
        return found, own_losses(model, paths, criterion, chosen, rank_device(asked.device), asked.weights_key, report)

    projection, losses = ranks.on_first(find)
    paths, shares = _paths(runs, projection, losses)
    ranks.on_first(lambda: _check_kept(asked, paths))
    if asked.progress and ranks.is_first:
        _report(projection, paths, shares)
    x, y = axes_around(projection, asked.points, asked.margin)
    facts = {
        **center.facts,
        "explained_variance_ratio": list(projection.explained),
        "projection": asked.method,
        "paths": [
            {"label": label, "checkpoints": len(path["x"]), "variance_in_plane": shares[label]} for label, path in paths.items()
        ],
        "variance_in_plane": projection.share_in_plane(),
        "options": asked.facts(),
    }
    return compute_surface(
        model,
        criterion,
        splits,
        *(asked.part(kind) for kind in (MeasureOptions, AccuracyOptions, EffortOptions, OutputOptions)),
        x=x,
        y=y,
        directions=projection.directions,
        move=asked.move,
        paths=paths,
        provenance={**(provenance or {}), **facts},
        like=center.path,
        weights_key=asked.weights_key,
    )


def _paths(
    runs: Sequence[Run], projection: Projection, losses: np.ndarray
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float | None]]:
    """The path of each run by its label, and the share of its variance in the plane."""
    paths, shares, first = {}, {}, 0
    for run in runs:
        part = slice(first, first + len(run.checkpoints))
        paths[run.label] = {
            "x": projection.x[part],
            "y": projection.y[part],
            "loss": losses[part],
            "step": np.arange(len(run.checkpoints), dtype=float),
            "residual": projection.residual[part],
        }
        shares[run.label] = projection.share_in_plane(part.start, part.stop)
        first = part.stop
    return paths, shares


def _check_kept(asked: TrajectoryOptions, paths: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Refuse to finish a file that holds other paths: what it says of them would not be of these runs.

    Raises:
        SurfaceFileError: names the paths there.
    """
    if asked.path is None or asked.overwrite or not Path(asked.path).is_file():
        return
    kept = read_paths(asked.path)
    same = list(kept) == list(paths) and all(
        len(kept[label]["x"]) == len(path["x"])
        and all(np.allclose(kept[label][name], path[name], rtol=1e-3, equal_nan=True) for name in ("loss", "residual"))
        for label, path in paths.items()
    )
    if not same:
        there = ", ".join(filter(None, kept)) or ("one path" if kept else "no path")
        raise SurfaceFileError(
            f"{asked.path}: holds {there}, other than these runs'. Use {{overwrite}} to start again, or another {{path}}",
            arguments=("overwrite", "path"),
        )


def _projection(model: nn.Module, checkpoints: Sequence[Path], center: Path, asked: TrajectoryOptions) -> Projection:
    moving = names_to_move(model, asked.move)
    if asked.onto is None:
        return principal_plane(model, checkpoints, asked.dir_type, asked.ignore, asked.weights_key, moving, center)
    given = load_directions(Path(asked.onto), model)
    if len(given) < 2:
        raise InputError(f"{asked.onto}: holds one direction; a trajectory requires two")
    plane = (given[0], given[1])
    return project_onto(model, checkpoints, plane, asked.method, asked.dir_type, asked.weights_key, moving, center)


def _report(projection: Projection, paths: Mapping[str, Mapping[str, np.ndarray]], shares: Mapping[str, float | None]) -> None:
    if projection.explained:
        x_share, y_share = (100 * share for share in projection.explained)
        logger.info(f"explained variance: x {x_share:.1f} %, y {y_share:.1f} %")
    for label, path in paths.items():
        # From the path's own start: the origin may lie far from a run.
        extent = max(np.hypot(path["x"] - path["x"][-1], path["y"] - path["y"][-1]).max(), 1e-300)
        farthest = f"up to {100 * path['residual'].max() / extent:.0f} % of the path's extent away from the plane"
        inside = "" if shares[label] is None else f", {100 * (shares[label] or 0):.0f} % of its variance in the plane"
        logger.info(f"{label + ': ' if label else ''}{len(path['x'])} checkpoints, {farthest}{inside}")


def axes_around(projection: Projection, points: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps along x and y that hold all paths with ``margin`` of their extent to each side, the center included.

    One range for both axes' scale would waste points: each axis has its own. A step lies exactly at 0, the center, so that
    its own loss is on the surface.
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
            evaluator = make_evaluator(model, loss, data, [], device, report=report)
            losses.append(with_smaller_batches(evaluator, partial(evaluator, []), path.name)[0])
            bar.advance()
    return np.array(losses)
