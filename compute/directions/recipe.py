"""Random directions by recipe: made, and turned into numbers, a part of a tensor at a time.

The numbers of a tensor are those of ``philox.normals`` for the recipe's seed and the tensor's name: row k, column c belongs to
the c-th number of slice k along the first axis (a tensor of one dimension is one row). Whoever holds a part of a tensor makes
the numbers of that part alone; only the norms that a recipe is scaled by need all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.directions.philox import normals
from paraloss.compute.directions.random import NORMS, Direction
from paraloss.compute.directions.shards import Piece, local_part, pieces, real, real_shape, summed
from paraloss.compute.inputs.tensors import distinct_parameters
from paraloss.compute.options.surface import Ignore, Norm
from paraloss.errors import InputError
from paraloss.surface.recipes import Part, Recipe

_TINY = 1e-10  # keeps a zero filter a zero direction instead of NaN, as in ``random.normalize``


def random_recipe(
    model: nn.Module,
    seed: int,
    axis: str = "x",
    norm: Norm = "filter",
    ignore: Ignore = "biasbn",
    moving: Collection[str] | None = None,
) -> Recipe:
    """Make the recipe of a Gaussian direction that is normalized to the weights of ``model``.

    Args:
        model: the center of the surface. Where its parameters are spread over processes, each makes the same recipe;
            the norms are added up over them.
        seed: seed of the random numbers. The numbers of a parameter follow from seed, axis and name alone.
        axis: x, y or z; each has numbers of its own.
        norm: see ``random.normalize``.
        ignore: see ``random.normalize``.
        moving: names of the parameters in the direction. Default: all.

    Returns:
        The recipe. Parameters that would not move are left out.

    Raises:
        InputError: no such norm.
    """
    if norm not in NORMS:
        raise InputError(f"unknown norm '{norm}'; there are {', '.join(NORMS)}")
    recipe = Recipe(seed, axis, {})
    parts = {}
    for name, weight in distinct_parameters(model).items():
        still = weight.ndim <= 1 and norm != "none" and ignore == "biasbn"
        if weight.layout == torch.strided and not still and (moving is None or name in moving):
            parts[name] = _part(recipe, name, weight.detach(), norm)
    return Recipe(seed, axis, parts)


def piece_of(recipe: Recipe, name: str, piece: Piece, weights: Tensor) -> Tensor:
    """Make the numbers of one piece of a tensor.

    Args:
        recipe: the direction.
        name: the tensor, one of ``recipe.parts``.
        piece: which part of it.
        weights: the weights at the center there, of the type to compute in.

    Returns:
        The direction there, of the shape, type and device of ``weights``.
    """
    part = recipe.parts[name]
    if part.kind == "weights":
        return weights
    numbers = _numbers(recipe, name, piece, weights.device).to(weights.dtype)
    if part.kind == "times_weights":
        return numbers.mul_(weights)
    scale = part.scale if len(part.scale) == 1 else part.scale[slice(*piece.rows)]
    factors = torch.from_numpy(scale).to(weights.device, weights.dtype)
    return numbers.mul_(factors.reshape(-1, *[1] * (numbers.ndim - 1)))


def tensors_of_recipe(recipe: Recipe, model: nn.Module) -> Direction:
    """Make all numbers of a direction: CPU tensors by name, as ``random.random_direction`` returns them.

    Raises:
        InputError: the recipe is of another model; names the tensor.
    """
    check_recipe(recipe, model)
    parameters, direction = distinct_parameters(model), {}
    for name, part in recipe.parts.items():
        center = parameters[name].detach()
        made = torch.empty(center.shape, dtype=torch.promote_types(center.dtype, torch.float32))
        work = torch.from_numpy(part.scale).dtype
        for piece in pieces(real(made)):
            piece.cut(real(made)).copy_(piece_of(recipe, name, piece, piece.cut(real(center)).to("cpu", work)))
        direction[name] = made
    return direction


def check_recipe(recipe: Recipe, model: nn.Module, place: str = "") -> None:
    """Check that a recipe is of this model; ``place`` begins the message where it is not.

    Raises:
        InputError: a tensor is missing or has another shape; names it.
    """
    parameters = distinct_parameters(model)
    for name, part in recipe.parts.items():
        found = real_shape(parameters[name]) if name in parameters else "missing"
        if found != part.shape:
            raise InputError(f"{place}direction {recipe.axis} is of another model: '{name}' is {part.shape}, not {found}")


def _part(recipe: Recipe, name: str, weight: Tensor, norm: Norm) -> Part:
    shape = real_shape(weight)
    work = np.float64 if weight.dtype in (torch.float64, torch.complex128) else np.float32
    one = np.ones(1, work)
    if norm == "none":
        return Part(shape, "numbers", one)
    if weight.ndim <= 1:
        return Part(shape, "weights", one)
    if norm == "weight":
        return Part(shape, "times_weights", one)
    squares = _squares(recipe, name, weight)
    weights, numbers = np.sqrt(squares if norm in ("filter", "dfilter") else squares.sum(axis=1, keepdims=True))
    wanted = weights if norm in ("filter", "layer") else np.ones_like(weights)
    scale = wanted / (numbers + _TINY) if norm in ("filter", "dfilter") else wanted / np.maximum(numbers, _TINY)
    return Part(shape, "numbers", scale.astype(work))


def _squares(recipe: Recipe, name: str, weight: Tensor) -> np.ndarray:
    """(2, rows) float64: sums of squares of the weights and of the random numbers of each slice, over all processes."""
    local, box = local_part(weight)
    sums = torch.zeros(2, weight.shape[0], dtype=torch.float64, device=local.device)
    for piece in pieces(real(local), box):
        rows = slice(*piece.rows)
        for row, values in zip(sums, (piece.cut(real(local)), _numbers(recipe, name, piece, local.device)), strict=True):
            row[rows] += values.flatten(1).to(torch.float64).square().sum(dim=1)
    return summed(sums, weight).cpu().numpy()


def _numbers(recipe: Recipe, name: str, piece: Piece, device: torch.device) -> Tensor:
    make: Callable[[tuple[int, int]], Tensor] = lambda columns: normals(  # noqa: E731
        recipe.seed, recipe.stream(name), piece.rows, columns, device
    )
    return piece.shaped(make)
