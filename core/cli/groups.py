"""The groups of options that several verbs share, as sections of ``--help``."""

from __future__ import annotations

from typing import Annotated, Any, get_type_hints

from cyclopts import Group, Parameter

from paraloss.compute.options.connected import AlignOptions, ConnectOptions
from paraloss.compute.options.runs import ProjectionOptions, TrainOptions
from paraloss.compute.options.surface import (
    AccuracyOptions,
    EffortOptions,
    InputOptions,
    MeasureOptions,
    OutputOptions,
    PlaneOptions,
)
from paraloss.option import Flag, Options
from paraloss.picture_options import GridOptions, MovieOptions, PictureOptions

_INPUT, _PLANE, _MATCHING, _CURVE, _MEASURE, _ACCURACY, _TRAINING, _EFFORT, _OUTPUT = (
    Group(name, sort_key=number)
    for number, name in enumerate(
        (
            "Input",
            "Plane",
            "Matching",
            "Curve",
            "Data and metrics",
            "Accuracy",
            "Training",
            "Effort",
            "Output",
        ),
        start=1,
    )
)
INPUT, PLANE, EFFORT = Parameter(group=_INPUT), Parameter(group=_PLANE), Parameter(group=_EFFORT)
OUTPUT = Parameter(name=["--output", "-o"], group=_OUTPUT)
OUTPUT_GROUP = Parameter(group=_OUTPUT)
OVERWRITE = Parameter(negative="", group=_OUTPUT)

_HEIGHTS, _PICTURE, _MOVIE = (Group(name, sort_key=number) for number, name in enumerate(("Heights", "Picture", "Movie"), 9))

Inputs = Annotated[InputOptions, Parameter(name="*", group=_INPUT)]
Plane = Annotated[PlaneOptions, Parameter(name="*", group=_PLANE)]
Matching = Annotated[AlignOptions, Parameter(name="*", group=_MATCHING)]
Connection = Annotated[ConnectOptions, Parameter(name="*", group=_CURVE)]
Projection = Annotated[ProjectionOptions, Parameter(name="*", group=_PLANE)]
Measure = Annotated[MeasureOptions, Parameter(name="*", group=_MEASURE)]
Accuracy = Annotated[AccuracyOptions, Parameter(name="*", group=_ACCURACY)]
Training = Annotated[TrainOptions, Parameter(name="*", group=_TRAINING)]
Effort = Annotated[EffortOptions, Parameter(name="*", group=_EFFORT)]
Output = Annotated[OutputOptions, Parameter(name="*", group=_OUTPUT)]

Heights = Annotated[GridOptions, Parameter(name="*", group=_HEIGHTS)]
Picture = Annotated[PictureOptions, Parameter(name="*", group=_PICTURE)]
Movie = Annotated[MovieOptions, Parameter(name="*", group=_MOVIE)]


def _name_flags(kind: type[Options]) -> None:
    """Give the fields of ``kind`` whose annotations hold a ``Flag`` what cyclopts reads in its place."""
    hints = get_type_hints(kind, include_extras=True)
    for name in kind.__annotations__:
        for flag in getattr(hints[name], "__metadata__", ()):
            if isinstance(flag, Flag):
                kind.__annotations__[name] = Annotated[hints[name], _parameter(flag)]


def _parameter(flag: Flag) -> Parameter:
    words: dict[str, Any] = {"parse": None if flag.parsed else False}
    if flag.names:
        words["name"] = flag.names
    if not flag.opposite:
        words["negative"] = ""
    return Parameter(**words)


for _kind in (
    InputOptions,
    PlaneOptions,
    ProjectionOptions,
    MeasureOptions,
    AccuracyOptions,
    TrainOptions,
    EffortOptions,
    OutputOptions,
    AlignOptions,
    ConnectOptions,
):
    _name_flags(_kind)
