"""Directions as a job has them: tensors by name, or recipes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from paraloss.compute.directions.random import Direction
from paraloss.compute.directions.recipe import tensors_of_recipe
from paraloss.compute.ranks.sharing import from_first
from paraloss.compute.ranks.world import World
from paraloss.surface.recipes import Part, Recipe

Source = Direction | Recipe
"""A direction: its tensors by name, or its recipe."""


def names_in(source: Source) -> Collection[str]:
    """Names of the tensors that a direction holds."""
    return source.parts.keys() if isinstance(source, Recipe) else source.keys()


def moves(source: Source, name: str) -> bool:
    """Whether a direction moves the tensor ``name``, rather than being zero there."""
    if isinstance(source, Recipe):
        return name in source.parts and bool(source.parts[name].scale.any())
    return name in source and bool(source[name].any())


def only(source: Source, names: Collection[str]) -> Source:
    """Return a direction without the tensors that are not among ``names``."""
    if isinstance(source, Recipe):
        return replace(source, parts={name: part for name, part in source.parts.items() if name in names})
    return {name: part for name, part in source.items() if name in names}


def is_exact(sources: Sequence[Source]) -> bool:
    """Whether a direction holds float64 numbers: then all sums are in float64."""
    types = (torch.float64, torch.complex128)
    return any(
        part.scale.dtype == np.float64 if isinstance(part, Part) else part.dtype in types
        for source in sources
        for part in (source.parts if isinstance(source, Recipe) else source).values()
    )


def bytes_in_file(source: Source) -> int:
    """Bytes that a direction takes in a file."""
    parts = [part.scale for part in source.parts.values()] if isinstance(source, Recipe) else list(source.values())
    return sum(part.nbytes for part in parts)


def as_tensors(source: Source, model: nn.Module) -> Direction:
    """Return a direction's tensors, made where it is a recipe.

    Raises:
        InputError: the recipe is of another model.
    """
    return tensors_of_recipe(source, model) if isinstance(source, Recipe) else source


def tensors_only(sources: Sequence[Source]) -> list[Direction]:
    """Return directions that are all tensors.

    Raises:
        TypeError: one is a recipe.
    """
    if any(isinstance(source, Recipe) for source in sources):
        raise TypeError("directions by recipe require a model that is moved in place (Home)")
    return [source for source in sources if not isinstance(source, Recipe)]


def share_sources(world: World, sources: Sequence[Source]) -> list[Source]:
    """Rank 0's directions on every rank; what the other ranks pass does not count."""
    recipes = world.bcast([source if isinstance(source, Recipe) else None for source in sources])
    tensors = iter(from_first(world, [source for source in sources if not isinstance(source, Recipe)]))
    return [next(tensors) if recipe is None else recipe for recipe in recipes]
