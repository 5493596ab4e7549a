"""``paraloss figure``"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.cli.groups import INPUT, OVERWRITE, Accuracy, Effort, Inputs, Measure, Plane
from paraloss.compute.options.surface import (
    AccuracyOptions,
    EffortOptions,
    InputOptions,
    MeasureOptions,
    OutputOptions,
    PlaneOptions,
)


def figure(
    *,
    weights: Annotated[list[Path], Parameter(consume_multiple=True, negative=""), INPUT],
    inputs: Inputs = InputOptions(),
    plane: Plane = PlaneOptions(),
    measure: Measure = MeasureOptions(),
    accuracy: Accuracy = AccuracyOptions(),
    effort: Effort = EffortOptions(),
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("figure"),
    width: str = "icml",
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Compute surfaces and curves of checkpoints, and draw all figures for a paper; the same command finishes a stopped one.

    Example: paraloss figure --weights with/final.pt without/final.pt -o figure1

    Args:
        weights: Checkpoints of one data set, one surface each.
        output: Folder for the surfaces and for surfaces.png (lit), contours.pdf, curves.pdf, surfaces.html and caption.txt.
        width: Width of the figures in print, as in 3.3in, or icml, neurips, ieee, slides or poster; see render.
        overwrite: Start the surfaces again, and replace files that this command did not make.
    """
    from paraloss.compute import compute_surface
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.ranks.world import world
    from paraloss.errors import InputError
    from paraloss.print_size import print_size
    from paraloss.rendering.figure_set import check_set, draw_set

    ranks, printed = world(), print_size(width)
    if plane.z is not None or printed is None:
        raise InputError("a figure shows surfaces of two axes; leave out {z}", arguments=("z",))
    names = _names(weights)
    ranks.on_first(lambda: _make_folder(output))
    ranks.on_first(lambda: check_set(output, overwrite))
    both = replace(plane, y=plane.y or plane.x, curve=False, weights_key=inputs.weights_key)
    one = replace(both, y=None, y_to=None, y_norm=None, curve=True)
    found: dict[str, list] = {"": [], "_curve": []}  # type: ignore[type-arg]
    for checkpoint, name in zip(weights, names, strict=True):
        model, data, loss, facts = ranks.on_all(partial(load_all, checkpoint, inputs))
        for suffix, axes in (("", both), ("_curve", one)):
            kept = OutputOptions(path=output / f"{name}{suffix}.h5", overwrite=overwrite)
            found[suffix].append(compute_surface(model, loss, data, axes, measure, accuracy, effort, kept, provenance=facts))
    if ranks.is_first:
        for file in draw_set(found[""], found["_curve"], output, names, printed):
            print(file)


def _names(weights: list[Path]) -> list[str]:
    """A name for the files of each checkpoint: its own, or with that of its folder, or with a number."""
    short = [path.stem for path in weights]
    long = [f"{path.resolve().parent.name}_{path.stem}" for path in weights]
    chosen = short if len(set(short)) == len(short) else long
    return chosen if len(set(chosen)) == len(chosen) else [f"{name}_{k}" for k, name in enumerate(chosen, start=1)]


def _make_folder(folder: Path) -> None:
    from paraloss.errors import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror}); choose another name") from error
