"""Directions from files: those of a surface file, eigenvectors of a spectrum, or a direction file of Li et al. 2018's code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from paraloss.compute.directions.between import movable
from paraloss.compute.directions.random import Direction
from paraloss.compute.directions.recipe import check_recipe
from paraloss.compute.directions.sources import Source, as_tensors
from paraloss.errors import InputError
from paraloss.surface import read_directions
from paraloss.surface.hdf5 import member, members, open_hdf5, read_dataset, read_text
from paraloss.surface.reader import read_direction_groups
from paraloss.surface.recipes import recipes_of

SPECTRUM_FORMAT = "paraloss-spectrum"  # a file of evaluate/spectrum_file.py


def load_directions(path: str | Path, model: nn.Module) -> list[Direction]:
    """x and, where there are more, y and z, as tensors: made where the file holds recipes; see ``load_sources``."""
    return [as_tensors(source, model) for source in load_sources(path, model)]


def load_sources(path: str | Path, model: nn.Module) -> list[Source]:
    """x and, where there are more, y and z, as the file holds them.

    Args:
        path: a surface file of ours, a spectrum with its eigenvectors (``paraloss hessian``), or Li et al.'s direction file,
            whose tensors are numbered in the order of the model's parameters (or of its state_dict, for ``states``) and go
            by that order, not by name.
        model: names the tensors.

    Raises:
        InputError: neither kind of file, or tensors that do not fit the model; names the first.
        SurfaceFileError: the file cannot be read.
    """
    with open_hdf5(path) as file:
        foreign = [axis for axis in "xy" if member(file, f"{axis}direction", path) is not None]
        if foreign:
            return [_numbered({k: read_dataset(file, f"{axis}direction/{k}", path)
                               for k in members(file, f"{axis}direction", path)}, model, path)
                    for axis in foreign]  # fmt: skip
        spectrum = read_text(file, "format") == SPECTRUM_FORMAT
        kept = read_direction_groups(file, path) if spectrum else {}
        recipes = {} if spectrum else recipes_of(file, path)
    found = kept or read_directions(path, beside_recipes=True)
    if "x" not in found and "x" not in recipes:
        raise InputError(f"{path}: holds no directions")
    tensors = movable(model)
    directions: list[Source] = []
    for axis in ("x", "y", "z"):
        if axis in recipes:
            check_recipe(recipes[axis], model, f"{path}: ")
            directions.append(recipes[axis])
            continue
        direction = {name: torch.from_numpy(values) for name, values in found.get(axis, {}).items()}
        for name, values in direction.items():
            if name not in tensors or tensors[name].shape != values.shape:
                there = tuple(tensors[name].shape) if name in tensors else "missing"
                raise InputError(
                    f"{path}: direction {axis} is of another model: '{name}' is {tuple(values.shape)}, not {there}"
                )
        directions += [direction] if direction else []
    return directions


def _numbered(datasets: dict, model: nn.Module, path: str | Path) -> Direction:  # type: ignore[type-arg]
    values = [torch.from_numpy(datasets[key]) for key in sorted(datasets, key=int)]  # "10" comes after "2"
    parameters = dict(model.named_parameters())
    names = list(parameters if len(values) == len(parameters) else model.state_dict())
    if len(values) != len(names):
        raise InputError(f"{path}: holds {len(values)} tensors, the model has {len(parameters)} parameters")
    tensors, direction = {**parameters, **model.state_dict()}, {}
    for number, (name, tensor) in enumerate(zip(names, values, strict=True)):
        if tensor.shape != tensors[name].shape:
            raise InputError(f"{path}: tensor {number} is {tuple(tensor.shape)}, but '{name}' {tuple(tensors[name].shape)}")
        if tensors[name].dtype.is_floating_point:
            direction[name] = tensor
    return direction
