"""``paraloss project``"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from paraloss.cli.groups import Accuracy, Effort, Inputs, Measure, Output, Projection
from paraloss.compute.options.runs import ProjectionOptions
from paraloss.compute.options.surface import (
    AccuracyOptions,
    EffortOptions,
    InputOptions,
    MeasureOptions,
    OutputOptions,
)


def project(
    *checkpoints: Path,
    inputs: Inputs = InputOptions(),
    projection: Projection = ProjectionOptions(),
    measure: Measure = MeasureOptions(),
    accuracy: Accuracy = AccuracyOptions(),
    effort: Effort = EffortOptions(),
    output: Output = OutputOptions(),
) -> None:
    """Compute a run's path: its plane by PCA, each checkpoint in it with its own loss, and the surface over that plane.

    Example: paraloss project runs/r56 -o path.h5 && paraloss render path.h5 path.pdf

    Args:
        checkpoints: Folder of numbered checkpoints, or checkpoints in the order of training; the last is the origin.
    """
    from paraloss.compute import project_run
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.inputs.order import checkpoints_in_order
    from paraloss.compute.ranks.world import world
    from paraloss.files import check_output, files_in

    path = output.path or Path("trajectory.h5")
    ranks = world()
    paths, _ = ranks.on_all(lambda: checkpoints_in_order(checkpoints))
    read = files_in(*paths, projection.onto, inputs.model, inputs.data, inputs.loss)
    ranks.on_first(lambda: check_output(path, "surface", read, output.overwrite))
    model, data, loss, facts = ranks.on_all(lambda: load_all(paths[-1], inputs))
    groups = (replace(projection, weights_key=inputs.weights_key), measure, accuracy, effort, replace(output, path=path))
    project_run(model, paths, loss, data, *groups, provenance=facts)
    if ranks.is_first:
        print(path)
