"""``paraloss hessian``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def hessian(
    *,
    weights: Path,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("spectrum.h5"),
    top: int = 10,
    repeats: int = 4,
    model: str | None = None,
    data: str | None = None,
    loss: str | None = None,
    model_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    data_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    samples: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
) -> None:
    """The Hessian's spectrum at a checkpoint: its leading eigenvalues, their eigenvectors, the density of all.

    Example: paraloss hessian --weights final.pt --top 10 -o spectrum.h5

    The eigenvectors may serve as directions: paraloss compute --directions spectrum.h5 … A map of the smallest and largest
    eigenvalue over a plane is a surface with --metrics loss,acc,hessian.

    Args:
        weights: Checkpoint.
        output: File for eigenvalues, density and the two leading eigenvectors; a .png, .pdf or .svg is drawn instead.
        top: Eigenpairs wanted, those of largest magnitude.
        repeats: Random starts that the density is averaged over.
        model: As for compute.
        data: As for compute.
        loss: As for compute.
        model_arg: As for compute.
        data_arg: As for compute.
        samples: Draw this many training samples. Default: all.
        batch_size: Samples at once.
        device: auto, cpu, cuda or cuda:N.
    """
    from paraloss.compute import Evaluator, load_criterion
    from paraloss.compute.evaluate.curvature import spectrum
    from paraloss.compute.evaluate.spectrum_file import save_spectrum
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.ranks.devices import rank_device
    from paraloss.errors import InputError
    from paraloss.progress import say

    if output.suffix.lower() not in (".h5", ".hdf5", *_PICTURES):
        raise InputError(f"{output}: unknown ending '{output.suffix}'; there are .h5 {' '.join(_PICTURES)}")
    if not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist; create it first")
    if repeats < 1:
        raise InputError(f"--repeats must be at least 1, not {repeats}")
    network, data_set, loss, facts = load_all(weights, model, model_arg or [], data, data_arg or [], loss)
    split = "train" if "train" in data_set else next(iter(data_set))
    chosen = {split: data_set[split].subset(samples)}
    criterion = load_criterion(loss)[1]
    evaluator = Evaluator(network, criterion, chosen, [], rank_device(device, None), batch_size)
    say(f"Hessian over {len(chosen[split])} samples of {split}; Lanczos takes some tens to hundreds of products")
    found = spectrum(evaluator.model, criterion, evaluator.batches[split], len(chosen[split]), top, repeats=repeats)
    for number, value in enumerate(found.eigenvalues, start=1):
        say(f"eigenvalue {number:3}: {value:.6g}")
    if output.suffix.lower() in _PICTURES:
        from paraloss.rendering.spectrum import draw_spectrum

        draw_spectrum(found.eigenvalues, found.grid, found.density, output, weights.name)
    else:
        save_spectrum(found, output, {**facts, "samples": {split: len(chosen[split])}})
    print(output)


_PICTURES = (".png", ".pdf", ".svg")
