"""The options of surfaces, trajectories and training; a field is a flag, a keyword, a check and a fact in the file."""

from paraloss.compute.options.runs import ProjectionOptions, TrainOptions, TrajectoryOptions
from paraloss.compute.options.surface import (
    COSTLY,
    PLAIN,
    AccuracyOptions,
    DirectionType,
    EffortOptions,
    Ignore,
    InputOptions,
    MeasureOptions,
    Norm,
    OutputOptions,
    PlaneOptions,
    SurfaceKeywords,
    SurfaceOptions,
    Target,
)

__all__ = [
    "COSTLY",
    "PLAIN",
    "AccuracyOptions",
    "DirectionType",
    "EffortOptions",
    "Ignore",
    "InputOptions",
    "MeasureOptions",
    "Norm",
    "OutputOptions",
    "PlaneOptions",
    "ProjectionOptions",
    "SurfaceKeywords",
    "SurfaceOptions",
    "Target",
    "TrainOptions",
    "TrajectoryOptions",
]
