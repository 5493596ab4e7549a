"""Which plane: the directions of a surface as the user chose them, made on rank 0."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paraloss.compute.checkpoints import load_checkpoint
from paraloss.compute.directions import (
    Direction,
    DirectionType,
    Ignore,
    Norm,
    direction_between,
    random_direction,
    statistics_differ,
)
from paraloss.errors import InputError

Target = str | Path | nn.Module | Mapping[str, torch.Tensor]


class Plane:
    """How x and y are chosen."""

    def __init__(
        self,
        x_end: Mapping[str, torch.Tensor] | None,
        y_end: Mapping[str, torch.Tensor] | None,
        norm: Norm | tuple[Norm, Norm],
        ignore: Ignore,
        dir_type: DirectionType,
        seed: int,
        given: Sequence[Direction] | None = None,
    ) -> None:
        self.given = given
        self.ends = (x_end, y_end)
        self.norms = (norm, norm) if isinstance(norm, str) else norm
        self.ignore, self.dir_type, self.seed = ignore, dir_type, seed

    def fingerprint(self, two: bool) -> list[dict[str, Any]]:
        if self.given:
            return [{"given": _tensors_sha256(direction)} for direction in self.given[: 1 + two]]
        return [
            {"to": _tensors_sha256(end), "type": self.dir_type}
            if end
            else {"norm": norm, "ignore": self.ignore, "type": self.dir_type, "seed": self.seed}
            for end, norm in list(zip(self.ends, self.norms, strict=True))[: 1 + two]
        ]

    def make(self, model: nn.Module, two: bool, tell: Callable[[str], None]) -> list[Direction]:
        if self.given:
            if len(self.given) < 1 + two:
                raise InputError("a surface needs two directions, but only one was given; leave out --y for a curve")
            return list(self.given[: 1 + two])
        generator = torch.Generator().manual_seed(self.seed)
        directions = []
        for axis, end, norm in list(zip("xy", self.ends, self.norms, strict=True))[: 1 + two]:
            if end is None:
                directions.append(random_direction(model, generator, norm, self.ignore, self.dir_type))
                continue
            if self.dir_type == "weights" and statistics_differ(model, end):
                tell(
                    "warning: the batch-norm statistics of the two checkpoints differ and dir_type is 'weights': "
                    f"losses off the centre along {axis} are not those of real models; use 'states'"
                )
            directions.append(direction_between(model, end, self.dir_type, f"{axis}_to"))
        return directions


def tensors_of(target: Target) -> Mapping[str, torch.Tensor]:
    if isinstance(target, nn.Module):
        return target.state_dict()
    if isinstance(target, Mapping):
        return target
    return load_checkpoint(target)[0]


def _tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
