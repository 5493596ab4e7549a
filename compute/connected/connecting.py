"""Connect two solutions: train a curve of low loss, evaluate it beside the straight line, and the surface around both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from paraloss.compute.api import compute_surface
from paraloss.compute.connected.along import (
    CURVE,
    CurveJob,
    along_curve,
    directions_of,
    parts_at,
    place_of_bend,
    read_directions,
)
from paraloss.compute.connected.barrier import Barrier, barriers_of
from paraloss.compute.connected.bending import Bending, check_settings
from paraloss.compute.connected.ends import check_ends, choose_splits
from paraloss.compute.connected.planes import CurvePlane, axes_around, plane_of
from paraloss.compute.directions.plane import tensors_of
from paraloss.compute.forward.copying import copy_model
from paraloss.compute.forward.precision import own_precision
from paraloss.compute.inputs.checkpoints import load_checkpoint, save_content, state_sha256
from paraloss.compute.inputs.problem import Loss, load_loss, splits_for
from paraloss.compute.inputs.randomness import seeded
from paraloss.compute.lowest import Form, Place, lowest_point, model_at, write_lowest
from paraloss.compute.options.connected import ConnectKeywords, ConnectOptions
from paraloss.compute.options.surface import EffortOptions, Target, names_in
from paraloss.compute.ranks.devices import rank_device
from paraloss.compute.ranks.world import world
from paraloss.errors import InputError
from paraloss.files import check_output, made_folder
from paraloss.locking import locked
from paraloss.log import logger
from paraloss.option import Options, combine
from paraloss.surface import Surface

if TYPE_CHECKING:
    from typing_extensions import Unpack

LINE, PLANE, TRAINING = "line.h5", "plane.h5", "training.pt"
_SETTINGS = "connected"  # key of a bend's record
_DECIDING = ("curve", "bends", "epochs", "lr", "train_batch", "weight_decay", "momentum", "seed", "samples")


@dataclass(frozen=True)
class Connection:
    """Two solutions and the curve between them.

    Attributes:
        curve: losses along the curve; x runs from 0 to 1.
        line: losses along the straight line.
        plane: the surface over the plane of the ends and the bends, with paths "curve", "straight line" and "bend"; None
            where it was not asked for.
        barriers: "curve", "line" -> loss -> barrier.
        bends: checkpoints of the bends.
    """

    curve: Surface
    line: Surface
    plane: Surface | None
    barriers: dict[str, dict[str, Barrier]]
    bends: tuple[Path, ...]


@seeded(0)  # the order of a shuffled loader is the same on every rank
def connect(
    model: nn.Module,
    other: Target,
    loss: str | Callable[..., Any] | Loss = "cross_entropy",
    data: Any = None,
    folder: str | Path = "curve",
    *groups: Options,
    step: str | Callable[..., Any] | None = None,
    like: str | Path | None = None,
    record: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Unpack[ConnectKeywords],
) -> Connection:
    """Train a curve of low loss from ``model`` to ``other``, and evaluate it; the same call goes on where it stopped.

    Args:
        model: the first end. Not modified.
        other: checkpoint, model or state_dict of the last end.
        loss: see ``paraloss.compute.load_criterion``.
        data: see ``compute_surface``. The split "train", or the first, trains the curve and gives batch norm's statistics.
        folder: folder for ``bend.pt``, ``curve.h5``, ``line.h5`` and ``plane.h5``; made when missing.
        groups: options as ``ConnectOptions``.
        step: see ``compute_surface``.
        like: checkpoint whose form ``save_best`` keeps. Default: ``{"state_dict": …}``.
        record: what ``paraloss train`` noted with the first end; kept in the bends, so that they load as it does.
        provenance: further facts for the surface files.
        options: single options by name, as in ``ConnectOptions``. They win over groups.

    Returns:
        The losses along curve and straight line, their barriers, and the surface around both.

    Raises:
        InputError: the ends do not fit together, or hold NaN or the same weights; the folder holds another curve.
        SurfaceFileError: a file in the folder cannot be written.
    """
    asked = combine(ConnectOptions, groups, options, "connect")
    ranks, place = world(), Path(folder)
    model = ranks.on_all(lambda: copy_model(model))
    theirs = ranks.on_all(lambda: dict(tensors_of(other, model, asked.weights_key)))
    title = str(other) if isinstance(other, (str, Path)) else "the other model"
    ranks.on_all(lambda: check_ends(model, theirs, (str(like or "the first model"), title)))
    name, criterion = ranks.on_all(lambda: load_loss(loss, step))
    job = ranks.on_all(lambda: _job(model, theirs, (name, criterion), data, asked, place, record or {}))
    ranks.on_first(lambda: _prepare(job))
    found = _evaluated(job, {**(provenance or {}), "connected": dict(job.settings)}, data)
    if asked.save_best is not None:
        ranks.on_first(lambda: _save_best(job, found.curve, Path(asked.save_best or ""), like))
    return found


def _evaluated(job: CurveJob, facts: Mapping[str, Any], data: Any) -> Connection:
    """The losses along curve and straight line, and the surface around both."""
    asked, place, directions = job.asked, job.folder, directions_of(job)
    curve = along_curve(job, directions, facts)
    common: dict[str, Any] = {
        "splits": list(job.chosen), "samples": asked.samples, "progress": asked.progress, "provenance": facts,
        "bn": "keep" if job.bn_data is None else "recompute", "overwrite": asked.overwrite,
    }  # fmt: skip
    splits, effort = splits_for(job.loss, data), asked.part(EffortOptions)
    line = compute_surface(
        job.model, job.loss, splits, effort, x=(0, 1, asked.points), curve=True, x_to=job.other, path=place / LINE,
        precision=own_precision(job.model), **common,
    )  # fmt: skip
    plane = None
    if asked.grid:
        found = plane_of(directions[-1], directions[:-1])
        paths = _paths(job, found, curve, line)
        x, y = axes_around(_joined(paths), asked.grid, asked.margin)
        common["provenance"] = {**facts, "y_length": found.y_length}
        if asked.progress and job.world.is_first and found.y_length < 1:
            logger.info(f"the curve stays close to the straight line: y is drawn {1 / found.y_length:.3g} times as wide as x")
        plane = compute_surface(
            job.model,
            job.loss,
            splits,
            effort,
            x=x,
            y=y,
            directions=found.directions,
            paths=paths,
            path=place / PLANE,
            **common,
        )
    return Connection(curve, line, plane, {"curve": barriers_of(curve), "line": barriers_of(line)}, job.bends)


def _job(
    model: nn.Module,
    other: dict[str, Tensor],
    loss: tuple[str, Loss],
    data: Any,
    asked: ConnectOptions,
    folder: Path,
    record: Mapping[str, Any],
) -> CurveJob:
    if data is None:
        raise InputError("{data} is missing: a curve is trained on them", arguments=("data",))
    splits = splits_for(loss[1], data)
    whole = choose_splits(splits, names_in(asked.splits or ""), ("train", "test"))
    chosen = {name: split.subset(asked.samples) for name, split in whole.items()}
    training = (splits["train"] if "train" in splits else next(iter(splits.values()))).subset(asked.samples)
    end = copy_model(model)
    end.load_state_dict(other, strict=False)
    settings = {
        "from": state_sha256(model), "to": state_sha256(end), "data": training.sha256(), "loss": loss[0],
        **{name: getattr(asked, name) for name in _DECIDING},
    }  # fmt: skip
    return CurveJob(model, other, loss[1], chosen, training, asked, folder, record, settings)


def _prepare(job: CurveJob) -> None:
    """Make the folder, and train the bends that it does not hold; on rank 0. A folder that stays empty goes away again."""
    with made_folder(job.folder):
        _train(job)


def _train(job: CurveJob) -> None:
    """Train the bends, unless the folder holds them."""
    folder, asked = job.folder, job.asked
    for name in (CURVE, LINE, PLANE):
        check_output(folder / name, "surface", (), asked.overwrite)
    file = folder / TRAINING
    if all(bend.exists() for bend in job.bends):
        records = [load_checkpoint(bend)[1].get(_SETTINGS) or {} for bend in job.bends]
        if all(record == dict(job.settings) for record in records):
            return
        if not asked.overwrite:
            check_settings(job.bends[0], records[0], job.settings)
    elif not asked.overwrite and not file.exists():
        for bend in job.bends:
            if bend.exists():
                raise InputError(
                    f"{folder}: holds {bend.name} of another curve; choose another folder, or {{overwrite}}", ("overwrite",)
                )
    if asked.overwrite:
        file.unlink(missing_ok=True)
    device = rank_device(asked.device)
    with locked(file):
        if asked.progress:
            logger.info(f"training a {asked.curve} curve with {asked.bends} bend{'s' if asked.bends > 1 else ''} on {device}")
        trained = Bending(job.model, job.other, job.loss, job.training, asked, device, file, job.settings).train()
        for number, (path, found) in enumerate(zip(job.bends, trained, strict=True), start=1):
            state, metrics = model_at(
                job.model, job.loss, job.chosen, place_of_bend(job, found, number), device, asked.batch_size
            )
            settings = {_SETTINGS: dict(job.settings), "bend": number, **metrics}
            save_content(path, {"state_dict": state, "paraloss": {**job.record, **settings}})
    file.unlink(missing_ok=True)


def _paths(job: CurveJob, plane: CurvePlane, curve: Surface, line: Surface) -> dict[str, dict[str, np.ndarray]]:
    """Curve, straight line and bends as paths of the surface, each place with its own loss."""
    places, loss = job.places(), curve.default_metric
    count = len(places)
    straight = {"x": places, "y": np.zeros(count), "residual": np.zeros(count)}
    corners = plane.along(np.eye(job.asked.bends + 2))
    paths = {
        "curve": {**plane.along(parts_at(job, places)), "loss": curve.metrics[loss], "step": places},
        "straight line": {**straight, "loss": line.metrics[loss], "step": places},
    }

    def losses() -> list[float]:
        found = [load_checkpoint(bend)[1].get(loss, float("nan")) for bend in job.bends]
        return [float(value) for value in found]

    own = job.world.on_first(losses)
    for k in range(1, job.asked.bends + 1):
        label = "bend" if job.asked.bends == 1 else f"bend {k}"
        at = {name: values[k : k + 1] for name, values in corners.items()}
        paths[label] = {**at, "loss": np.array([own[k - 1]]), "step": np.array([k / (job.asked.bends + 1)])}
    return paths


def _joined(paths: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {axis: np.concatenate([path[axis] for path in paths.values()]) for axis in "xy"}


def _save_best(job: CurveJob, curve: Surface, path: Path, like: str | Path | None) -> None:
    index, _ = lowest_point(curve)
    steps = parts_at(job, job.places())[index, 1:].tolist()
    place = Place(read_directions(job), steps, job.bn_data)
    state, metrics = model_at(job.model, job.loss, job.chosen, place, rank_device(job.asked.device), job.asked.batch_size)
    note = {"lowest_of": str(job.folder / CURVE), "x": float(curve.x[index])}
    form = Form(path, None if like is None else Path(like), job.asked.weights_key, job.asked.overwrite, note)
    write_lowest(job.model, state, metrics, form)


def report(found: Connection) -> list[str]:
    """Lines about a connection: the barriers."""
    lines = []
    for name, curve in found.barriers["curve"].items():
        line = found.barriers["line"][name]
        lines.append(
            f"barrier of {name}: {line.height:.4g} on the straight line, {curve.height:.4g} on the curve "
            f"(highest loss {line.highest:.4g} and {curve.highest:.4g})"
        )
    return lines
