"""From a checkpoint to a surface file: models, data, directions, evaluation, the MPI work queue, training.

Each name below brings torch when it is first used; the options alone need neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paraloss.compute.api import compute_surface, plan_surface
    from paraloss.compute.connected.aligning import align
    from paraloss.compute.connected.connecting import connect
    from paraloss.compute.directions.between import direction_between
    from paraloss.compute.directions.files import load_directions
    from paraloss.compute.directions.random import normalize, random_direction
    from paraloss.compute.directions.recipe import random_recipe
    from paraloss.compute.ensemble import compute_ensemble
    from paraloss.compute.evaluate.full import Evaluator
    from paraloss.compute.inputs.checkpoints import apply_checkpoint, file_sha256, load_checkpoint
    from paraloss.compute.inputs.criteria import load_criterion
    from paraloss.compute.inputs.data import classes_of, load_data
    from paraloss.compute.inputs.pairs import as_data_set
    from paraloss.compute.inputs.sources import load_model
    from paraloss.compute.inputs.split import Split
    from paraloss.compute.options.connected import AlignOptions, ConnectOptions
    from paraloss.compute.options.runs import ProjectionOptions, TrainOptions, TrajectoryOptions
    from paraloss.compute.options.surface import (
        AccuracyOptions,
        EffortOptions,
        InputOptions,
        MeasureOptions,
        OutputOptions,
        PlaneOptions,
        SurfaceOptions,
    )
    from paraloss.compute.training import train
    from paraloss.compute.trajectory import project_run

_HOMES = {
    "connected.aligning": ("align",),
    "connected.connecting": ("connect",),
    "options.connected": ("AlignOptions", "ConnectOptions"),
    "api": ("compute_surface", "plan_surface"),
    "directions.between": ("direction_between",),
    "directions.files": ("load_directions",),
    "directions.random": ("normalize", "random_direction"),
    "directions.recipe": ("random_recipe",),
    "ensemble": ("compute_ensemble",),
    "evaluate.full": ("Evaluator",),
    "inputs.checkpoints": ("apply_checkpoint", "file_sha256", "load_checkpoint"),
    "inputs.criteria": ("load_criterion",),
    "inputs.data": ("classes_of", "load_data"),
    "inputs.pairs": ("as_data_set",),
    "inputs.split": ("Split",),
    "inputs.sources": ("load_model",),
    "options.surface": (
        "AccuracyOptions",
        "EffortOptions",
        "InputOptions",
        "MeasureOptions",
        "OutputOptions",
        "PlaneOptions",
        "SurfaceOptions",
    ),
    "options.runs": ("ProjectionOptions", "TrainOptions", "TrajectoryOptions"),
    "training": ("train",),
    "trajectory": ("project_run",),
}

__all__ = [
    "AccuracyOptions",
    "AlignOptions",
    "ConnectOptions",
    "EffortOptions",
    "Evaluator",
    "InputOptions",
    "MeasureOptions",
    "OutputOptions",
    "PlaneOptions",
    "ProjectionOptions",
    "Split",
    "SurfaceOptions",
    "TrainOptions",
    "TrajectoryOptions",
    "align",
    "apply_checkpoint",
    "as_data_set",
    "classes_of",
    "compute_ensemble",
    "compute_surface",
    "connect",
    "direction_between",
    "file_sha256",
    "load_checkpoint",
    "load_criterion",
    "load_data",
    "load_directions",
    "load_model",
    "normalize",
    "plan_surface",
    "project_run",
    "random_direction",
    "random_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"paraloss.compute.{home}"), name)
    raise AttributeError(f"module 'paraloss.compute' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
