"""``paraloss hessian``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.cli.groups import EFFORT, INPUT, OUTPUT, OVERWRITE, Inputs
from paraloss.compute.options.surface import InputOptions

_PICTURES = (".png", ".pdf", ".svg")


def hessian(
    *,
    weights: Annotated[Path, INPUT],
    inputs: Inputs = InputOptions(),
    samples: Annotated[int | None, INPUT] = None,
    top: int = 10,
    repeats: int = 4,
    density: bool = True,
    move: Annotated[list[str] | None, Parameter(negative="")] = None,
    batch_size: Annotated[int | None, EFFORT] = None,
    device: Annotated[str, EFFORT] = "auto",
    output: Annotated[Path, OUTPUT] = Path("spectrum.h5"),
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Compute the Hessian's spectrum at a checkpoint: leading eigenvalues and eigenvectors, the density of all.

    Example: paraloss hessian --weights final.pt --top 10 -o spectrum.h5

    The eigenvectors may serve as directions: paraloss compute --directions spectrum.h5 … A map of the smallest and largest
    eigenvalue over a plane is a surface with --metrics loss,acc,hessian.

    Args:
        weights: Checkpoint: a state_dict, or a dict with the key state_dict.
        samples: Number of training samples drawn. Default: all.
        top: Number of eigenpairs, those of largest magnitude.
        repeats: Number of random starts that the density is averaged over.
        density: Compute the density of all eigenvalues, which takes most of the time.
        move: Pattern of the names of parameters that the Hessian is of, as in compute; may be repeated. Default: all.
        batch_size: Samples per batch. Default: chosen by the size of a sample.
        device: auto, cpu, cuda or cuda:N.
        output: File for eigenvalues, density and the two leading eigenvectors; a .png, .pdf or .svg is drawn instead.
        overwrite: Replace a file that this command did not make.
    """
    from paraloss.compute import EffortOptions, MeasureOptions
    from paraloss.compute.at_checkpoint import evaluator_at
    from paraloss.compute.evaluate.curvature import spectrum
    from paraloss.compute.evaluate.spectrum_file import save_spectrum
    from paraloss.files import check_output, files_in
    from paraloss.log import logger

    _check_ending(output, density)
    check_output(output, "spectrum", files_in(weights, inputs.model, inputs.data, inputs.loss), overwrite)
    _check_count("top", top)
    _check_count("repeats", repeats)
    effort, measure = EffortOptions(device=device, batch_size=batch_size), MeasureOptions(samples=samples)
    evaluator, split, facts = evaluator_at(weights, inputs, effort, measure, move)
    logger.info(f"each product of the Hessian with a vector is a pass over {evaluator.samples[split]:,} samples of {split}")
    batches, only = evaluator.batches_to_measure(split), evaluator.measured
    logger.info(evaluator.how())
    with evaluator.exactly():
        found = spectrum(evaluator.model, evaluator.loss, batches, top, repeats=repeats, only=only, density=density, shown=True)
    for number, value in enumerate(found.eigenvalues, start=1):
        logger.info(f"eigenvalue {number:3}: {value:.6g}")
    if output.suffix.lower() in _PICTURES:
        from paraloss.rendering.spectrum import draw_spectrum

        draw_spectrum(found.eigenvalues, found.grid, found.density, output, weights.name)
    else:
        save_spectrum(found, output, {**facts, "samples": {split: evaluator.samples[split]}})
    print(output)


def _check_ending(path: Path, density: bool) -> None:
    from paraloss.errors import InputError

    if path.suffix.lower() in _PICTURES and not density:
        raise InputError("a picture shows the density: leave out --no-density, or write an .h5 file")
    if path.suffix.lower() not in (".h5", ".hdf5", *_PICTURES):
        raise InputError(f"{path}: unknown ending '{path.suffix}'; there are .h5 {' '.join(_PICTURES)}")


def _check_count(name: str, value: int) -> None:
    from paraloss.errors import InputError

    if value < 1:
        raise InputError(f"{{{name}}} must be at least 1, not {value}", arguments=(name,))
