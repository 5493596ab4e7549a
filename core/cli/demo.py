"""``paraloss demo``"""

from __future__ import annotations

import filecmp
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.examples import CIFAR10_EPOCHS, CIFAR10_RECIPE


@dataclass(frozen=True)
class _Figure:
    """What the demo draws.

    Attributes:
        networks: sample network -> what trains it again, as arguments of ``paraloss train``.
        side: steps to each side, in weight norms.
        title: name of the data.
        epochs: epochs of training.
    """

    networks: Mapping[str, Sequence[str]]
    side: str
    title: str
    epochs: int


_RATES = {"resnet56": "0.05", "resnet56_noshort": "0.01"}  # lower without shortcuts, as in Li et al. 2018
_DIGITS = _Figure(
    {name: ["--model", name, "--lr", rate, "--batch-size", "64"] for name, rate in _RATES.items()},
    side="0.5", title="1,437 handwritten digits", epochs=30,
)  # fmt: skip
_CIFAR10 = _Figure(
    {f"cifar10_{name}": ["--model", name, *CIFAR10_RECIPE] for name in _RATES},
    side="1",
    title="the 50,000 images of CIFAR-10",
    epochs=CIFAR10_EPOCHS,
)


def demo(
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    cifar10: Annotated[bool, Parameter(negative="")] = False,
    ranks: int = 2,
    grid: int = 51,
    samples: int = 256,
    train: Annotated[bool, Parameter(negative="")] = False,
    epochs: int | None = None,
) -> None:
    """Make Figure 1 of Li et al. 2018, ResNet-56 with and without shortcuts, from weights to picture.

    Example: paraloss demo -o runs/demo

    Example: paraloss demo --cifar10

    Each step prints the command it runs; a second run uses the files of the first. The networks travel with Paraloss, so
    that every machine draws the same surfaces.

    Args:
        output: Folder for all files; made when missing. Default: runs/demo, with --cifar10 runs/demo_cifar10.
        cifar10: Networks trained on CIFAR-10, whose images are fetched where they are missing; half an hour on two cores.
            Default: networks trained on handwritten digits, two to four minutes.
        ranks: Number of MPI ranks. Without mpiexec one process does the work.
        grid: Points per side of each surface.
        samples: Number of training images per point, a fixed random draw.
        train: Train both networks here instead. Training ends elsewhere on another processor or number of threads.
        epochs: Epochs of training, with --train. Default: 30; 25 with --cifar10.
    """
    from paraloss.log import logger
    from paraloss.progress import duration

    began = time.monotonic()
    figure = _CIFAR10 if cifar10 else _DIGITS
    output = output or Path("runs/demo_cifar10" if cifar10 else "runs/demo")
    if cifar10:
        _fetch()
    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for network, training in figure.networks.items():
        if train:
            logger.info(f"\n== {network}: train on {figure.title}")
            run = output / network
            _run(["train", *training, "--epochs", str(figure.epochs if epochs is None else epochs), "-o", str(run)])
            weights = run / "final.pt"
        else:
            weights = _copied(network, output)
        logger.info(f"\n== {network}: loss surface, {grid} × {grid} points, {samples} images each, {ranks} ranks")
        path = output / (f"{network}_trained.h5" if train else f"{network}.h5")
        steps = f"=-{figure.side}:{figure.side}:{grid}"
        arguments = ["compute", "--weights", str(weights), f"--x{steps}", f"--y{steps}", "--precision", "fp32"]
        _run([*arguments, "--samples", str(samples), "-o", str(path)], ranks)
        _run(["convert", str(path), str(path.with_suffix(".vts"))])
        _run(["convert", str(path), str(path.with_suffix(".vtp"))])
        paths.append(path)
    logger.info("\n== both on one scale")
    picture = output / "figure1.png"
    _run(["render", *map(str, paths), str(picture), "--contours", "14"])

    _print_table(paths)
    for file in sorted(output.glob("*.*")):
        print(file)
    print(f"\nthe picture: {picture} ({duration(time.monotonic() - began)} in all)")


def _fetch() -> None:
    """Fetch the images of CIFAR-10 where ``--data cifar10`` does not find them."""
    from paraloss.compute import load_data
    from paraloss.errors import InputError
    from paraloss.log import logger

    try:
        load_data("cifar10")
    except InputError:
        logger.info("\n== CIFAR-10: the images")
        _run(["data", "cifar10"])


def _copied(network: str, folder: Path) -> Path:
    """Copy a sample network's checkpoint into ``folder``, where nothing else has its name; return the copy.

    Raises:
        InputError: another file of that name is there.
    """
    from paraloss import examples
    from paraloss.errors import InputError
    from paraloss.files import replacing

    source, copy = examples.checkpoint(network), folder / f"{network}.pt"
    if not copy.exists():
        with replacing(copy) as temporary:
            shutil.copyfile(source, temporary)
    elif not filecmp.cmp(source, copy, shallow=False):
        raise InputError(f"{copy}: is not the sample network; choose another folder")
    return copy


def _print_table(paths: Sequence[Path]) -> None:
    from paraloss.analysis.numbers import basin_area, convex_share, roughness
    from paraloss.surface import read_surface

    print(f"\n{'':24} {'test accuracy':>14} {'basin area':>11} {'convex':>8} {'roughness':>10}")
    for path in paths:
        surface = read_surface(path)
        values = surface.metric()
        accuracy = surface.provenance["trained"].get("test_acc", float("nan"))
        print(
            f"{path.stem:24} {accuracy:12.1f} % {100 * basin_area(surface):9.1f} % {100 * convex_share(values):6.1f} % "
            f"{roughness(surface):10.4f}"
        )
    print("basin area: share of the plot, joined to the center, where the loss is at most 1 above the checkpoint's")
    print("convex: share of points with no direction of negative curvature in the plane")
    print("roughness: mean height of ln(loss + 0.1) above the highest bowl below it, 0 for any bowl\n")


def _run(arguments: list[str], ranks: int = 1) -> None:
    """Run a command of Paraloss in a process of its own, as a user types it; its failure ends the demo."""
    from paraloss import processes
    from paraloss.errors import InputError
    from paraloss.log import logger
    from paraloss.stopping import SIGNALS, Stopped

    mpiexec = _mpiexec() if ranks > 1 else None
    launcher = [mpiexec, "-n", str(ranks)] if mpiexec else []
    if ranks > 1 and not mpiexec:
        logger.info("no mpiexec of mpi4py's MPI found (pip install 'paraloss[mpich]'): one process does the work")
    logger.info(" ".join(["$", *(["mpiexec", "-n", str(ranks)] if mpiexec else []), "paraloss", *arguments]))
    done = processes.run([*launcher, sys.executable, "-m", "paraloss", *arguments], stdout=sys.stderr)
    if done.returncode < 0 or done.returncode - 128 in SIGNALS:
        raise Stopped(abs(done.returncode) % 128, "the same command goes on from there")
    if done.returncode:
        raise InputError(f"the step 'paraloss {arguments[0]}' failed with exit code {done.returncode}; see above")


def _mpiexec() -> str | None:
    """Return mpiexec of the same environment, else of the PATH; None where mpi4py is missing."""
    from importlib.util import find_spec

    if find_spec("mpi4py") is None:
        return None
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")
