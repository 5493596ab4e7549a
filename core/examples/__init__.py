"""Sample data that travel with the package: small networks trained on handwritten digits and on CIFAR-10, and their surfaces.

>>> from paraloss import examples
>>> examples.names()
['cifar10_resnet56', 'cifar10_resnet56_noshort', 'resnet56', 'resnet56_noshort']
>>> examples.surface("cifar10_resnet56").plot("surface.png")  # doctest: +SKIP

They were trained by ``paraloss demo --train``, on 1,437 of scikit-learn's digits, and by ``paraloss demo --cifar10 --train``;
their weights are rounded to fp16. The surfaces were computed by ``paraloss demo`` and ``paraloss demo --cifar10``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paraloss.errors import InputError

if TYPE_CHECKING:
    from paraloss.surface import Surface

__all__ = ["CIFAR10_EPOCHS", "CIFAR10_RECIPE", "checkpoint", "names", "slurm_script", "surface"]

# What ``paraloss train`` was given for both networks on CIFAR-10, beside --model.
CIFAR10_RECIPE = ("--data", "cifar10", "--recipe", "cifar", "--progressive", "--precision", "auto", "--lr", "0.05")
CIFAR10_EPOCHS = 25

_FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """Return the names of the sample networks."""
    return sorted(path.stem for path in _FOLDER.glob("*.pt"))


def checkpoint(name: str) -> Path:
    """Return the path of a sample network's checkpoint; its record names model, data and test accuracy.

    Raises:
        InputError: there is no sample network ``name``.
    """
    return _file(name, ".pt")


def slurm_script() -> Path:
    """Return the path of the job script for Slurm that ``paraloss slurm`` prints."""
    return _FOLDER / "slurm.sh"


def surface(name: str) -> Surface:
    """Return a sample network's loss surface, 51 × 51 points: half a weight norm to each side of the checkpoint on digits, one
    on CIFAR-10.

    Raises:
        InputError: there is no sample network ``name``.
    """
    from paraloss.surface import read_surface

    return read_surface(_file(name, ".h5"))


def _file(name: str, ending: str) -> Path:
    if name not in names():
        raise InputError(f"no sample network '{name}'; there are {', '.join(names())}")
    return _FOLDER / f"{name}{ending}"
