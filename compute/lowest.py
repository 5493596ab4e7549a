"""The model at one point of a surface or a curve as a checkpoint (``--save-best``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.directions.random import Direction
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.forward.copying import computing_part, copy_model
from paraloss.compute.inputs.checkpoints import put
from paraloss.compute.inputs.problem import AnySplit, Loss
from paraloss.compute.inputs.rewriting import holds, save_like
from paraloss.compute.inputs.tensors import state_tensors
from paraloss.compute.settings import Settings
from paraloss.errors import InputError
from paraloss.log import logger
from paraloss.surface import DONE, Surface


@dataclass(frozen=True)
class Place:
    """Where a model lies, and what decides its loss there.

    Attributes:
        directions: one per coordinate.
        coordinates: steps along them.
        bn_data: samples from which batch-norm statistics are estimated; None keeps those of the directions.
    """

    directions: Sequence[Direction]
    coordinates: Sequence[float]
    bn_data: AnySplit | None = None


@dataclass(frozen=True)
class Form:
    """How a checkpoint is written.

    Attributes:
        path: the file.
        like: checkpoint whose form is kept. Default: ``{"state_dict": …}``.
        weights_key: place of the weights there.
        overwrite: replace the file where it holds something else.
        note: facts for its record.
    """

    path: Path
    like: Path | None = None
    weights_key: str | None = None
    overwrite: bool = False
    note: Mapping[str, Any] = field(default_factory=dict)


def lowest_point(surface: Surface) -> tuple[int, float]:
    """Flat index and value of the lowest evaluated point of the default loss.

    Raises:
        InputError: no point has a finite loss.
    """
    values = np.where((surface.status == DONE) & np.isfinite(surface.metric()), surface.metric(), np.inf).ravel()
    index = int(values.argmin())
    if not math.isfinite(values[index]):
        raise InputError("no point of the surface has a finite loss, so that there is no lowest one to save")
    return index, float(values[index])


def save_lowest(
    settings: Settings, surface: Surface, directions: Sequence[Direction], device: torch.device, form: Form
) -> None:
    """Write the lowest point of a surface as a checkpoint.

    Args:
        settings: what was computed.
        surface: the values.
        directions: one per axis.
        device: where to compute.
        form: how to write it.

    Raises:
        InputError: no point has a finite loss, or the file exists and holds something else.
    """
    index, _ = lowest_point(surface)
    steps = settings.grid[index].tolist()
    place = Place(directions, steps, settings.bn_data)
    size = settings.options.batch_size
    state, metrics = model_at(settings.model, settings.criterion[1], settings.chosen, place, device, size)
    note = {"lowest_at": dict(zip("xyz", steps, strict=False))}
    write_lowest(settings.model, state, metrics, replace(form, note=note))


def model_at(
    model: nn.Module,
    loss: Loss,
    data: Mapping[str, AnySplit],
    place: Place,
    device: torch.device,
    batch_size: int | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The tensors of a model at a place by its own names, and the metrics there, in the model's own precision.

    Args:
        model: the model at the origin.
        loss: a criterion, or a step.
        data: splits to evaluate.
        place: where.
        device: where to compute.
        batch_size: samples at once. Default: by the size of a sample.
    """
    evaluator = make_evaluator(model, loss, data, place.directions, device, batch_size=batch_size, bn_data=place.bn_data)
    metrics = dict(zip(evaluator.metrics, evaluator(place.coordinates), strict=True))
    found = copy_model(model)
    put(computing_part(found), {n: t.cpu() for n, t in state_tensors(evaluator.model).items()}, "the lowest point")
    return {name: tensor.detach().cpu() for name, tensor in state_tensors(found).items()}, metrics


def write_lowest(model: nn.Module, state: Mapping[str, Tensor], metrics: Mapping[str, float], form: Form) -> None:
    """Write a checkpoint, unless the file holds the same already.

    Raises:
        InputError: the file exists and holds something else.
    """
    if form.path.exists() and not form.overwrite:
        if holds(form.path, state, model, form.weights_key):
            return
        raise InputError(
            f"{form.path}: exists and holds something else; choose another name, or replace it with {{overwrite}}",
            arguments=("overwrite",),
        )
    save_like(form.path, state, model, form.like, form.weights_key, {**form.note, **metrics})
    shown = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items() if name.endswith(("_loss", "_acc")))
    logger.info(f"{form.path}: {shown}")
