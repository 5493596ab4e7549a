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
    """Compute the paths of runs in one plane by PCA, each checkpoint with its own loss, and the surface over that plane.

    Example: paraloss project runs/sgd runs/adam -o paths.h5 && paraloss render paths.h5 paths.pdf

    Args:
        checkpoints: Folder of checkpoints, or checkpoints in the order of training. Several folders, or patterns in quotes as
            in 'sgd/epoch_*.pt', are several runs in one plane; its origin is the last checkpoint of the first run.
    """
    from paraloss.compute import project_run
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.inputs.runs import runs_of
    from paraloss.compute.ranks.world import world
    from paraloss.files import check_output, files_in

    path = output.path or Path("trajectory.h5")
    ranks = world()
    runs = ranks.on_all(lambda: runs_of(checkpoints, projection.label))
    named = [one for run in runs for one in run.checkpoints]
    read = files_in(*named, projection.onto, projection.center, inputs.model, inputs.data, inputs.loss)
    ranks.on_first(lambda: check_output(path, "surface", read, output.overwrite))
    model, data, loss, facts = ranks.on_all(lambda: load_all(Path(projection.center or runs[0].checkpoints[-1]), inputs))
    groups = (replace(projection, weights_key=inputs.weights_key), measure, accuracy, effort, replace(output, path=path))
    project_run(model, checkpoints, loss, data, *groups, provenance=facts)
    if ranks.is_first:
        print(path)
