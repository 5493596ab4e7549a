"""The groups of options that several verbs share, as sections of ``--help``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from paraloss.compute.options.runs import ProjectionOptions, TrainOptions
from paraloss.compute.options.surface import (
    AccuracyOptions,
    EffortOptions,
    InputOptions,
    MeasureOptions,
    OutputOptions,
    PlaneOptions,
)
from paraloss.picture_options import GridOptions, MovieOptions, PictureOptions

_INPUT, _PLANE, _MEASURE, _ACCURACY, _TRAINING, _EFFORT, _OUTPUT = (
    Group(name, sort_key=number)
    for number, name in enumerate(("Input", "Plane", "Data and metrics", "Accuracy", "Training", "Effort", "Output"), start=1)
)
INPUT, PLANE, EFFORT = Parameter(group=_INPUT), Parameter(group=_PLANE), Parameter(group=_EFFORT)
OUTPUT = Parameter(name=["--output", "-o"], group=_OUTPUT)
OVERWRITE = Parameter(negative="", group=_OUTPUT)

_HEIGHTS, _PICTURE, _MOVIE = (Group(name, sort_key=number) for number, name in enumerate(("Heights", "Picture", "Movie"), 7))

Inputs = Annotated[InputOptions, Parameter(name="*", group=_INPUT)]
Plane = Annotated[PlaneOptions, Parameter(name="*", group=_PLANE)]
Projection = Annotated[ProjectionOptions, Parameter(name="*", group=_PLANE)]
Measure = Annotated[MeasureOptions, Parameter(name="*", group=_MEASURE)]
Accuracy = Annotated[AccuracyOptions, Parameter(name="*", group=_ACCURACY)]
Training = Annotated[TrainOptions, Parameter(name="*", group=_TRAINING)]
Effort = Annotated[EffortOptions, Parameter(name="*", group=_EFFORT)]
Output = Annotated[OutputOptions, Parameter(name="*", group=_OUTPUT)]

Heights = Annotated[GridOptions, Parameter(name="*", group=_HEIGHTS)]
Picture = Annotated[PictureOptions, Parameter(name="*", group=_PICTURE)]
Movie = Annotated[MovieOptions, Parameter(name="*", group=_MOVIE)]
