"""``paraloss align``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.cli.groups import OUTPUT, OVERWRITE, Inputs, Matching
from paraloss.compute.options.connected import AlignOptions
from paraloss.compute.options.surface import InputOptions


def align(
    one: Path,
    other: Path,
    /,
    *,
    inputs: Inputs = InputOptions(),
    matching: Matching = AlignOptions(),
    output: Annotated[Path, OUTPUT],
    overwrite: Annotated[bool, OVERWRITE, Parameter(negative="")] = False,
) -> None:
    """Permute the hidden units of a model to match another: the same outputs, with a lower barrier between the two.

    Example: paraloss align runs/a/final.pt runs/b/final.pt -o b_aligned.pt

    Prints the barrier on the straight line before and after; with batch norm also with its statistics recomputed at each point.

    Args:
        one: Checkpoint to match.
        other: Checkpoint to permute.
        output: Checkpoint to write, in the form of the second one. Nothing is written where an output would differ by more
            than 1e-5.
        overwrite: Replace the file where it exists.
    """
    from dataclasses import replace

    from paraloss.compute import align as align_models
    from paraloss.compute.connected.aligning import report
    from paraloss.compute.inputs.load import load_all, load_without_data
    from paraloss.compute.inputs.rewriting import check_new_checkpoint, save_like
    from paraloss.compute.ranks.world import world
    from paraloss.files import files_in

    ranks = world()
    read = files_in(one, other, inputs.model, inputs.data, inputs.loss)
    ranks.on_first(lambda: check_new_checkpoint(output, read, overwrite))
    shape = matching.shape
    options = replace(matching, weights_key=inputs.weights_key)
    if shape is not None and inputs.data is None:
        model = ranks.on_all(lambda: load_without_data(one, inputs, shape))
        found = align_models(model, other, "cross_entropy", None, options)
    else:
        model, data, loss, _ = ranks.on_all(lambda: load_all(one, inputs))
        found = align_models(model, other, loss, data, options)
    note = {"aligned_to": one.name, "by": matching.by}
    ranks.on_first(lambda: save_like(output, found.state, model, other, inputs.weights_key, note))
    if ranks.is_first:
        print("\n".join([*report(found), str(output)]))
