"""Directions by recipe: what a file holds of a direction whose numbers are made again whenever they are used.

A recipe is a seed and, for each tensor that moves, its shape, what becomes of the random numbers there, and one scale per
filter; a thousandth of the direction. ``paraloss.compute.directions.recipe`` makes the numbers. Needs numpy and h5py only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np

from paraloss.errors import SurfaceFileError
from paraloss.surface.hdf5 import check_sizes, checked, dataset_names, member, members, open_hdf5, read_text, write_text
from paraloss.text import printable

Kind = Literal["numbers", "times_weights", "weights"]
METHOD = "philox4x32-10, Box-Muller, 1"
"""How the numbers are made; another method would be another text."""

_GROUP = "recipes"
_MOST_NUMBERS = 2**62


@dataclass(frozen=True)
class Part:
    """One tensor of a direction.

    Attributes:
        shape: of the tensor; a complex one counts as real with a last axis of length 2.
        kind: ``numbers``, random ones; ``times_weights``, these times the weights at the center; ``weights``, those alone.
        scale: one factor per filter (slice along the first axis), or one in all; float32 or float64, the direction's type.
    """

    shape: tuple[int, ...]
    kind: Kind
    scale: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """A direction whose numbers are made when they are used.

    Attributes:
        seed: seed of the random numbers, 64 bits.
        axis: x, y or z; each has numbers of its own.
        parts: parameter name -> its part; what is not named does not move.
    """

    seed: int
    axis: str
    parts: Mapping[str, Part]

    def stream(self, name: str) -> tuple[int, int]:
        """Return the two words of 32 bits that give the tensor ``name`` numbers of its own, whatever else the model holds."""
        digest = hashlib.sha256(f"{self.axis}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def write_recipes(file: h5py.File, recipes: Mapping[str, Recipe]) -> None:
    """Write the recipes of a surface's axes into an open file; nothing where there is none."""
    for axis, recipe in recipes.items():
        group = file.create_group(f"{_GROUP}/{axis}")
        write_text(group, "method", METHOD)
        write_text(group, "axis", recipe.axis)
        group.attrs["seed"] = np.int64(recipe.seed)
        for name, part in recipe.parts.items():
            dataset = group.create_dataset(name, data=part.scale)
            dataset.attrs["shape"] = np.array(part.shape, np.int64)
            write_text(dataset, "kind", part.kind)
    if recipes:
        write_text(file, "recipes_sha256", recipes_sha256(recipes))


def read_recipes(path: str | Path) -> dict[str, Recipe]:
    """Read the recipes in a surface file by axis; none where its directions are tensors.

    Raises:
        SurfaceFileError: the file cannot be read, is of a newer method, or the recipes are not those that were written.
    """
    with open_hdf5(path) as file:
        return recipes_of(file, path)


def recipes_of(file: h5py.File, path: str | Path) -> dict[str, Recipe]:
    """Read the recipes of an open file; see ``read_recipes``."""
    found = {axis: _recipe(file, axis, path) for axis in members(file, _GROUP, path)}
    if found and recipes_sha256(found) != read_text(file, "recipes_sha256"):
        raise SurfaceFileError(f"{path}: its recipes of directions are damaged; mend it with: paraloss info --repair {path}")
    return found


def drop_recipes(file: h5py.File) -> None:
    """Remove the recipes, damaged or not, from a file that is open for writing."""
    if file.id.links.exists(_GROUP.encode()):
        del file[_GROUP]
    file.attrs.pop("recipes_sha256", None)


def recipes_sha256(recipes: Mapping[str, Recipe]) -> str:
    """Identify recipes, so that damage to them does not go unnoticed."""
    digest = hashlib.sha256()
    for axis in sorted(recipes):
        recipe = recipes[axis]
        digest.update(f"{axis}/{METHOD}/{recipe.axis}/{recipe.seed}".encode())
        for name in sorted(recipe.parts):
            part = recipe.parts[name]
            digest.update(f"{name}/{part.shape}/{part.kind}/{part.scale.dtype}".encode())
            digest.update(np.ascontiguousarray(part.scale).tobytes())
    return digest.hexdigest()


def _recipe(file: h5py.File, axis: str, path: str | Path) -> Recipe:
    place = f"{_GROUP}/{axis}"
    group = member(file, place, path)
    if not isinstance(group, h5py.Group):
        raise SurfaceFileError(f"{path}: '{place}' is no group of datasets; the file is damaged")
    method, own = read_text(group, "method"), read_text(group, "axis")
    if method != METHOD:
        raise SurfaceFileError(
            f"{path}: its directions are made by '{printable(method)[:60]}', which this Paraloss lacks; update it"
        )
    names = dataset_names(file, place, path)  # a parameter's name may hold a slash
    datasets = {name: checked(file, f"{place}/{name}", path) for name in names}
    check_sizes(list(datasets.values()), path)
    if own is None or axis not in ("x", "y", "z"):
        raise SurfaceFileError(f"{path}: '{printable(place)}' is no recipe of x, y or z; the file is damaged")
    return Recipe(int(group.attrs["seed"]), own, {name: _part(datasets[name], name, path) for name in names})


def _part(dataset: h5py.Dataset, name: str, path: str | Path) -> Part:
    shape: Any = tuple(int(size) for size in np.atleast_1d(dataset.attrs["shape"]))
    kind: Any = read_text(dataset, "kind")
    scale = np.asarray(dataset[...])
    rows = shape[0] if len(shape) > 1 else 1
    sound = kind in get_args(Kind) and scale.dtype in (np.float32, np.float64) and scale.shape in ((1,), (rows,))
    if not sound or min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) > _MOST_NUMBERS:
        raise SurfaceFileError(
            f"{path}: the recipe of '{printable(name)}' is damaged; mend it with: paraloss info --repair {path}"
        )
    return Part(shape, kind, scale)
