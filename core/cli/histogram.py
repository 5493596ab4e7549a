"""``paraloss histogram``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def histogram(
    *files: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    bins: int = 200,
    size: str | None = None,
    width: str | None = None,
    for_: Annotated[Literal["icml", "neurips", "ieee", "slides", "poster"] | None, Parameter(name="--for")] = None,
    weights_key: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw histograms of the weights of checkpoints, with their norms.

    Example: paraloss histogram small_batch/final.pt large_batch/final.pt weights.png

    Args:
        files: Checkpoints, then the picture (.png .pdf .svg) unless -o names it.
        output: Picture.
        label: Name of a network, once per checkpoint. Default: the checkpoint's folder and name.
        bins: Number of bins.
        size: Size of the picture as WIDTHxHEIGHT in pixels.
        width: Width in print instead of --size, as in 3.3in: letters have 8 points there; prints the line for LaTeX.
        for_: Width and letters for icml, neurips, ieee, slides or poster; see render.
        weights_key: Place of the weights in the checkpoints, as in ema. Default: the only place.
        overwrite: Replace a file that this command did not make.
    """
    from paraloss.cli.options import parse_size, split_output
    from paraloss.compute import load_checkpoint
    from paraloss.errors import InputError
    from paraloss.files import check_output
    from paraloss.log import logger
    from paraloss.print_size import print_size
    from paraloss.rendering.histogram import draw_histograms

    inputs, target = split_output(files, output, (".png", ".pdf", ".svg"))
    check_output(target, "histogram", inputs, overwrite)
    if label and len(label) != len(inputs):
        raise InputError(f"{len(label)} labels for {len(inputs)} checkpoints; give one per checkpoint")
    if not 2 <= bins <= 10_000:
        raise InputError(f"{{bins}} must lie between 2 and 10,000, not {bins}", arguments=("bins",))
    if sum(1 for one in (size, width, for_) if one) > 1:
        raise InputError("give one of --width, --for and --size")
    printed = print_size(width or for_)
    weights = [
        {name: tensor.float().numpy() for name, tensor in state.items() if tensor.is_floating_point()}
        for state in (load_checkpoint(path, weights_key=weights_key)[0] for path in inputs)
    ]
    names = label or [f"{path.parent.name}/{path.name}" if path.parent.name else path.name for path in inputs]
    draw_histograms(weights, target, names, bins, parse_size(size) if size else None, printed)
    if printed is not None:
        logger.info(printed.latex(target.name))
    print(target)
