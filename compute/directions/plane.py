"""Which plane: the directions of a surface as the user chose them, made on rank 0."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import torch
from torch import nn

from paraloss.compute.directions.along import Made
from paraloss.compute.directions.between import direction_between, statistics_differ
from paraloss.compute.directions.moving import left_behind
from paraloss.compute.directions.random import random_direction
from paraloss.compute.directions.recipe import random_recipe
from paraloss.compute.directions.sources import Source, moves, names_in, only
from paraloss.compute.inputs.checkpoints import load_checkpoint
from paraloss.compute.inputs.contents import contents_of
from paraloss.compute.inputs.fitting import fit
from paraloss.compute.inputs.tensors import state_tensors, tensors_sha256
from paraloss.compute.options.surface import DirectionType, Generator, Ignore, Norm, Target
from paraloss.errors import InputError
from paraloss.log import logger
from paraloss.surface.recipes import Recipe, recipes_sha256


class Plane:
    """How x, y and z are chosen.

    Args:
        ends: checkpoint at step 1 of each axis, or None for a random direction.
        norms: normalizations of random directions, one per axis.
        ignore: see ``directions.random_direction``.
        dir_type: see ``directions.random_direction``.
        seed: seed of the random directions.
        given: directions that are there already, instead of all that.
        warn: whether to warn of batch-norm statistics that differ.
        moving: names of the tensors that move; None for all.
        generator: where random numbers come from: ``li2018``, torch's as in Li et al.'s code, or ``philox``, by recipe.
        made: axis -> direction of another kind than these, instead of a random one.
    """

    def __init__(
        self,
        ends: Sequence[Mapping[str, torch.Tensor] | None],
        norms: Sequence[Norm],
        ignore: Ignore,
        dir_type: DirectionType,
        seed: int,
        given: Sequence[Source] | None = None,
        warn: bool = True,
        moving: frozenset[str] | None = None,
        generator: Generator = "li2018",
        made: Mapping[str, Made] | None = None,
    ) -> None:
        self.made = made or {}
        self.moving, self.generator = moving, generator
        self.given, self.ends, self.warn = given, tuple(ends), warn
        self.norms = tuple(norms)
        self.ignore, self.dir_type, self.seed = ignore, dir_type, seed

    def fingerprint(self) -> list[dict[str, Any]]:
        """What decides the directions, one entry an axis."""
        if self.moving is None:
            return self._chosen()
        moving = {"tensors": len(self.moving), "sha256": hashlib.sha256("\n".join(sorted(self.moving)).encode()).hexdigest()}
        return [{**axis, "moving": moving} for axis in self._chosen()]

    def _chosen(self) -> list[dict[str, Any]]:
        if self.given:
            return [{"given": _sha256(direction)} for direction in self.given[: len(self.ends)]]
        # Files from before there was another generator than li2018 do not name it.
        drawn = {} if self.generator == "li2018" else {"generator": self.generator}
        return [
            self.made[axis].facts
            if axis in self.made
            else {"to": _sha256(end), "type": self.dir_type}
            if end
            else {"norm": norm, "ignore": self.ignore, "type": self.dir_type, "seed": self.seed, **drawn}
            for axis, end, norm in zip("xyz"[: len(self.ends)], self.ends, self.norms, strict=True)
        ]

    def with_generator(self, generator: Generator) -> Plane:
        """Return the same plane with random numbers from ``generator``."""
        other = copy.copy(self)
        other.generator = generator
        return other

    @property
    def is_random(self) -> bool:
        """Whether a direction is random."""
        return not self.given and not all(end or axis in self.made for axis, end in zip("xyz", self.ends, strict=False))

    def make(self, model: nn.Module) -> list[Source]:
        """Make one direction per axis; where the model is spread over processes, on all of them together.

        Raises:
            InputError: a checkpoint does not fit the model, too few directions were given, or nothing moves along one.
        """
        moving = self.moving
        directions = self._make(model)
        if moving is None:
            return directions
        directions = [only(direction, moving) for direction in directions]
        for axis, direction in zip("xyz", directions, strict=False):
            if not any(moves(direction, name) for name in names_in(direction)):
                raise InputError(
                    f"nothing moves along {axis}: the tensors that {{move}} names are zero in that direction; biases and other "
                    "tensors of one dimension move with {ignore}=none",
                    arguments=("move", "ignore"),
                )
        return directions

    def _make(self, model: nn.Module) -> list[Source]:
        if self.given:
            if len(self.given) < len(self.ends):
                raise InputError(
                    f"{len(self.ends)} axes require as many directions, but {len(self.given)} were given; "
                    "leave out {y} for a curve, {z} for a surface",
                    arguments=("y", "z"),
                )
            return [
                given if isinstance(given, Recipe) else {name: _storable(tensor) for name, tensor in given.items()}
                for given in self.given[: len(self.ends)]
            ]
        generator = torch.Generator().manual_seed(self.seed)
        directions: list[Source] = []
        for axis, end, norm in zip("xyz"[: len(self.ends)], self.ends, self.norms, strict=True):
            if axis in self.made:
                directions.append(self.made[axis].make(model))
                continue
            if end is None and self.generator == "philox":
                directions.append(random_recipe(model, self.seed, axis, norm, self.ignore, self.moving))
                continue
            if end is None:
                directions.append(random_direction(model, generator, norm, self.ignore, self.dir_type, self.moving))
                continue
            missed = left_behind(model, end, self.moving)
            others = f" (nor do {len(missed) - 1} others)" if len(missed) > 1 else ""
            if missed:
                logger.warning(
                    f"'{missed[0]}' differs between the two models along {axis}, but does not move"
                    f"{others}: the loss at {axis} = 1 is not that of "
                    "the second model"
                )
            if self.warn and self.dir_type == "weights" and statistics_differ(model, end):
                logger.warning(
                    "the batch-norm statistics of the two checkpoints differ and dir_type is 'weights': "
                    f"losses off the center along {axis} are not those of real models; use 'states'"
                )
            directions.append(direction_between(model, end, self.dir_type, f"{axis}_to"))
        return directions


def tensors_of(target: Target, model: nn.Module, key: str | None = None) -> Mapping[str, torch.Tensor]:
    """The tensors of another checkpoint by the names of ``model``.

    Args:
        target: a file or folder, a model or its state_dict.
        model: the model at the center.
        key: where in a file the weights lie; see ``load_checkpoint``.

    Raises:
        InputError: it is another model's.
    """
    if isinstance(target, (str, PurePath)):
        state = load_checkpoint(target, model=model, weights_key=key)[0]
    else:
        state = state_tensors(target) if isinstance(target, nn.Module) else dict(target)
        if not dict(model.named_parameters()).keys() <= state.keys():  # compiled, in DataParallel, tied …
            state = fit(contents_of(state), model, "the other checkpoint").state
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def _storable(tensor: torch.Tensor) -> torch.Tensor:
    """On the CPU in a type that the surface file can hold: float32 for half precision."""
    tensor = tensor.detach().cpu()
    return tensor if tensor.is_complex() else tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _sha256(tensors: Mapping[str, torch.Tensor] | Recipe) -> str:
    if isinstance(tensors, Recipe):
        return recipes_sha256({tensors.axis: tensors})
    return tensors_sha256(tensors)
