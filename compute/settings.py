"""What a surface's options mean for a model, a loss and data: the settings of one computation, the same on every rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from paraloss.compute.directions.files import load_sources
from paraloss.compute.directions.moving import names_to_move
from paraloss.compute.directions.plane import Plane, tensors_of
from paraloss.compute.directions.sources import Source
from paraloss.compute.evaluate.at_center import Center
from paraloss.compute.evaluate.home import Home, is_large, is_sharded
from paraloss.compute.evaluate.measures import choose_measures
from paraloss.compute.evaluate.ways import center_of, ways_made
from paraloss.compute.inputs.checkpoints import state_sha256
from paraloss.compute.inputs.metrics import UserMetric, load_metrics
from paraloss.compute.inputs.problem import AnySplit, Loss, splits_for
from paraloss.compute.options.surface import Generator, SurfaceOptions
from paraloss.errors import InputError
from paraloss.surface.recipes import Recipe

End = Mapping[str, torch.Tensor] | None


@dataclass(frozen=True)
class Settings:
    """What to compute, checked, the same on every rank.

    Attributes:
        model: model at the origin.
        criterion: name of the loss, and the criterion or step.
        chosen: the splits to evaluate, as drawn.
        population: split -> the number of samples that it was drawn from.
        bn_data: samples that batch-norm statistics are estimated from at each point; None keeps the statistics.
        steps: "x", "y", "z" -> the steps along it, for the axes of the surface.
        plane: the directions.
        measures: metrics that need more than a forward pass.
        moving: names of the tensors that move, and that these metrics are of; None for all.
        user_metrics: the user's own metrics.
        options: everything else that was asked for.
        home: puts the model back where it is moved itself.
    """

    model: nn.Module
    criterion: tuple[str, Loss]
    chosen: Mapping[str, AnySplit]
    population: Mapping[str, int]
    bn_data: AnySplit | None
    steps: Mapping[str, np.ndarray]
    plane: Plane
    measures: Sequence[str]
    moving: frozenset[str] | None
    user_metrics: Sequence[UserMetric]
    options: SurfaceOptions
    home: Home

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the surface's arrays: x runs fastest, along the last axis."""
        return tuple(len(axis) for axis in self.steps.values())[::-1]

    @cached_property
    def grid(self) -> np.ndarray:
        """(points, axes) coordinates of every point, in the order of the flat index."""
        axes = np.meshgrid(*list(self.steps.values())[::-1], indexing="ij")
        return np.stack([axis.ravel() for axis in axes[::-1]], axis=1)

    def place(self, index: int) -> str:
        """The point with flat index ``index``, for messages."""
        return ", ".join(f"{axis}={step:g}" for axis, step in zip("xyz", self.grid[index], strict=False))

    @property
    def accuracy(self) -> bool:
        """Whether the accuracy is computed where targets are classes."""
        return "acc" in self.options.metric_names

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the values: a file that was begun with another one is not continued.

        The options behind weights, data, criterion, directions and steps are compared as what they lead to; options defined
        with ``decides=True`` by their values, only where they are not the defaults, so that older files can be finished.
        """
        given = self.options
        return {
            "weights": state_sha256(self.model),
            "data": {name: split.sha256() for name, split in self.chosen.items()},
            "criterion": self.criterion[0],
            "directions": self.plane.fingerprint(),
            "x": self.steps["x"].tolist(),
            "y": self.steps["y"].tolist() if "y" in self.steps else None,
            "precision": given.precision,
            "sampling": {"rtol": given.rtol, "loss_cap": given.loss_cap, **({"seed": given.seed} if given.sampled else {})},
            **({"z": self.steps["z"].tolist()} if "z" in self.steps else {}),
            **({"measures": list(self.measures)} if self.measures else {}),
            **({"bn_data": self.bn_data.sha256()} if self.bn_data is not None else {}),
            **({} if self.accuracy else {"acc": False}),
            **({"metrics": [metric.source for metric in self.user_metrics]} if self.user_metrics else {}),
            **given.deciding(),
        }


def resolve(model: nn.Module, loss: tuple[str, Loss], data: Any, options: SurfaceOptions) -> Settings:
    """Find what ``options`` mean for a model, a loss and data; see ``compute_surface``.

    Raises:
        InputError: no data, a split, metric or checkpoint that does not exist, or a loss that is unknown.
    """
    names, user_metrics = load_metrics(options.metric_names)
    measures = choose_measures(names)
    if data is None:
        raise InputError(
            "{data} is missing: give (inputs, targets), a data set of pairs, or a dict of splits", arguments=("data",)
        )
    all_splits = splits_for(loss[1], data)
    whole = _choose_splits(all_splits, options.split_names)
    chosen = {name: split.subset(options.samples) for name, split in whole.items()}
    bn_data = _training_split(chosen, all_splits, options.samples) if options.bn == "recompute" else None
    steps, moving = options.steps(), names_to_move(model, options.move)
    return Settings(
        model=model,
        criterion=loss,
        chosen=chosen,
        population={name: len(split) for name, split in whole.items()},
        bn_data=bn_data,
        steps=steps,
        plane=_plane(model, options, len(steps), bn_data is None, moving, center_of(model, loss[1], chosen, options, moving)),
        measures=measures,
        moving=moving,
        user_metrics=user_metrics,
        options=options,
        home=Home(model),
    )


def _plane(
    model: nn.Module,
    options: SurfaceOptions,
    axes: int,
    warn: bool,
    moving: frozenset[str] | None,
    center: Center,
) -> Plane:
    targets = (options.x_to, options.y_to, options.z_to)[:axes]
    ends: list[End] = [None if target is None else tensors_of(target, model, options.weights_key) for target in targets]
    between = any(ends) or any(way.kind in ("task", "delta") for way in options.ways.values())
    dir_type = options.dir_type or ("states" if between else "weights")
    given = options.directions
    directions: list[Source] | None = None
    if isinstance(given, (str, Path)):
        directions = load_sources(Path(given), model)
    elif given is not None:
        directions = [direction if isinstance(direction, Recipe) else dict(direction) for direction in given]
    generator: Generator = options.generator if options.generator != "auto" else _generator(model)
    made = ways_made(model, options, dir_type, moving, center)
    return Plane(ends, options.norms[:axes], options.ignore, dir_type, options.seed, directions, warn, moving, generator, made)


def _generator(model: nn.Module) -> Generator:
    return "philox" if is_large(model) or is_sharded(model) else "li2018"


def _choose_splits(data: Mapping[str, AnySplit], wanted: Sequence[str]) -> dict[str, AnySplit]:
    names = wanted or ["train" if "train" in data else next(iter(data))]
    for name in names:
        if name not in data:
            raise InputError(f"the data have no split '{name}'; they have: {', '.join(data)}")
    return {name: data[name] for name in names}


def _training_split(chosen: Mapping[str, AnySplit], data: Mapping[str, AnySplit], samples: int | None) -> AnySplit:
    """Return the samples for batch-norm statistics: of the training split, as drawn where it is evaluated, too."""
    if "train" in chosen:
        return chosen["train"]
    return data["train"].subset(samples) if "train" in data else next(iter(chosen.values()))
