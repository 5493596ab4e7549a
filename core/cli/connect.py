"""``paraloss connect``"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from paraloss.cli.groups import OUTPUT, Connection, Inputs
from paraloss.compute.options.connected import ConnectOptions
from paraloss.compute.options.surface import InputOptions


def connect(
    one: Path,
    other: Path,
    /,
    *,
    inputs: Inputs = InputOptions(),
    connection: Connection = ConnectOptions(),
    output: Annotated[Path, OUTPUT] = Path("curve"),
) -> None:
    """Train a curve of low loss between two solutions, and evaluate it; the same command finishes an interrupted one.

    Example: paraloss connect runs/a/final.pt runs/b/final.pt -o curve

    Prints the barrier on the straight line and on the curve. Batch norm's statistics are recomputed at each point.

    Args:
        one: Checkpoint at the beginning.
        other: Checkpoint at the end.
        output: Folder for bend.pt (the trained point), curve.h5 and line.h5 (losses along both), barrier.png (both in one
            figure) and plane.h5 (the surface over the plane of the three points, with both ways on it).
    """
    from paraloss.compute import connect as connect_models
    from paraloss.compute.connected.connecting import report
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.inputs.rewriting import check_best
    from paraloss.compute.ranks.world import world
    from paraloss.files import check_output, files_in

    ranks = world()
    figure = output / "barrier.png"
    read = files_in(one, other, inputs.model, inputs.data, inputs.loss)
    ranks.on_first(lambda: check_best(connection.save_best, output, read, connection.overwrite))
    if figure.exists():
        ranks.on_first(lambda: check_output(figure, "picture", read, connection.overwrite))
    model, data, loss, facts = ranks.on_all(lambda: load_all(one, inputs))
    found = connect_models(
        model,
        other,
        loss,
        data,
        output,
        replace(connection, weights_key=inputs.weights_key),
        like=one,
        record=facts["trained"],
        provenance=facts,
    )
    if ranks.is_first:
        from paraloss.rendering import GridOptions, draw_curves

        draw_curves([found.line, found.curve], figure, ["straight line", "curve"], GridOptions())
        print("\n".join([*report(found), str(output)]))
