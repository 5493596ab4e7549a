"""``paraloss compute``"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from paraloss.cli.groups import EFFORT, INPUT, OUTPUT_GROUP, PLANE, Accuracy, Effort, Inputs, Measure, Output, Plane
from paraloss.compute.options.surface import (
    AccuracyOptions,
    EffortOptions,
    InputOptions,
    MeasureOptions,
    OutputOptions,
    PlaneOptions,
    SurfaceOptions,
)


def compute(
    *,
    weights: Annotated[Path, INPUT],
    inputs: Inputs = InputOptions(),
    plane: Plane = PlaneOptions(),
    repeats: Annotated[int, PLANE] = 1,
    measure: Measure = MeasureOptions(),
    accuracy: Accuracy = AccuracyOptions(),
    effort: Effort = EffortOptions(),
    output: Output = OutputOptions(),
    dry_run: Annotated[bool, EFFORT, Parameter(negative="")] = False,
    catalyst: Annotated[list[Path] | None, OUTPUT_GROUP, Parameter(negative="")] = None,
) -> None:
    """Compute a loss surface, or with --curve a curve, around a checkpoint; the same command finishes a partial file.

    Example: mpiexec -n 4 paraloss compute --weights runs/r56/final.pt --x=-1:1:51 --y=-1:1:51 -o surface.h5

    Args:
        weights: Checkpoint at the origin: file of torch.save, .safetensors, or folder of save_pretrained.
        repeats: Number of random planes, with seeds from --seed on. The output then holds their mean and spread, and each
            plane's surface lies beside it.
        dry_run: Print what would be computed, on what, and how long it would take; write nothing.
        catalyst: Pipeline that ParaView exported (File > Save Catalyst State): run on the surface while it is computed, in
            ParaView, which must be installed on the first rank's machine; repeat it for several. This runs the script.
    """
    from paraloss.compute import compute_ensemble, compute_surface, plan_surface
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.ranks.world import world
    from paraloss.errors import InputError
    from paraloss.files import check_output, files_in
    from paraloss.option import combine

    if not 1 <= repeats <= 10_000:
        raise InputError(f"{{repeats}} must be at least 1 and at most 10,000, not {repeats}", arguments=("repeats",))
    if repeats > 1 and output.save_best is not None:
        raise InputError("{save_best} saves the lowest point of one plane: leave out {repeats}", ("save_best", "repeats"))
    if plane.curve and catalyst:
        raise InputError("{catalyst} draws surfaces: leave out {curve}", arguments=("catalyst", "curve"))
    if repeats > 1 and catalyst:
        raise InputError("{catalyst} follows one surface: leave out {repeats}", arguments=("catalyst", "repeats"))
    path = output.path or Path("surface.h5")
    options = combine(
        SurfaceOptions,
        (replace(plane, weights_key=inputs.weights_key), measure, accuracy, effort, replace(output, path=path)),
        {},
        "compute",
    )
    ranks = world()
    read = files_in(weights, inputs.model, inputs.data, inputs.loss)
    if catalyst:
        from paraloss.rendering.catalyst import check_pipelines

        ranks.on_first(lambda: check_pipelines(catalyst))
    ranks.on_first(lambda: check_output(path, "surface" if repeats == 1 else "summary", read, output.overwrite))
    model, data, loss, facts = ranks.on_all(lambda: load_all(weights, inputs))
    if dry_run:
        lines = plan_surface(model, loss, data, replace(options, path=path if repeats == 1 else None), provenance=facts)
        if ranks.is_first:
            print("\n".join(lines) + (f"\nand that for each of {repeats} planes" if repeats > 1 else ""))
        return
    work: Any = partial(compute_surface, like=weights) if repeats == 1 else partial(compute_ensemble, repeats=repeats)
    with _shown(Path(path), catalyst or [], ranks.is_first):
        work(model, loss, data, options, provenance=facts)
    if ranks.is_first:
        print(path)


def _shown(path: Path, pipelines: list[Path], first: bool) -> AbstractContextManager[None]:
    """The pipelines of ``--catalyst``, run by the first rank while the block runs."""
    if not pipelines or not first:
        return nullcontext()
    from paraloss.rendering.catalyst import catalyst

    return catalyst(path, pipelines)
