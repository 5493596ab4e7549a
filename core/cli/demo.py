"""``paraloss demo``"""

from __future__ import annotations

import filecmp
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

NETWORKS = {"resnet56": "0.05", "resnet56_noshort": "0.01"}  # rates: lower without shortcuts, as in Li et al. 2018


def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("runs/demo"),
    ranks: int = 2,
    grid: int = 51,
    samples: int = 256,
    train: Annotated[bool, Parameter(negative="")] = False,
    epochs: int = 30,
) -> None:
    """Make Figure 1 of Li et al. 2018 on handwritten digits: ResNet-56 with and without shortcuts, from weights to picture.

    Example: paraloss demo -o runs/demo

    Each step prints the command it runs; a second run uses the files of the first. The two networks travel with Paraloss,
    so that every machine draws the same surfaces.

    Args:
        output: Folder for all files; made when missing.
        ranks: Number of MPI ranks. Without mpiexec one process does the work.
        grid: Points per side of each surface.
        samples: Number of training images per point, a fixed random draw.
        train: Train both networks here instead. Training ends elsewhere on another processor or number of threads.
        epochs: Epochs of training, with --train.
    """
    from paraloss.log import logger
    from paraloss.progress import duration

    began = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    side = f"=-0.5:0.5:{grid}"
    paths = []
    for network in NETWORKS:
        weights = _trained(network, output / network, epochs) if train else _copied(network, output)
        logger.info(f"\n== {network}: loss surface, {grid} × {grid} points, {samples} images each, {ranks} ranks")
        path = output / f"{network}.h5"
        arguments = ["compute", "--weights", str(weights), f"--x{side}", f"--y{side}", "--precision", "fp32"]
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


def _trained(network: str, run: Path, epochs: int) -> Path:
    """Train a network in the folder ``run``; return its final checkpoint."""
    from paraloss.log import logger

    logger.info(f"\n== {network}: train on 1,437 handwritten digits")
    rate = NETWORKS[network]
    _run(["train", "--model", network, "--lr", rate, "--batch-size", "64", "--epochs", str(epochs), "-o", str(run)])
    return run / "final.pt"


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

    print(f"\n{'':18} {'test accuracy':>14} {'basin area':>11} {'convex':>8} {'roughness':>10}")
    for path in paths:
        surface = read_surface(path)
        values = surface.metric()
        accuracy = surface.provenance["trained"].get("test_acc", float("nan"))
        print(
            f"{path.stem:18} {accuracy:12.1f} % {100 * basin_area(surface):9.1f} % {100 * convex_share(values):6.1f} % "
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
