"""Whether all ranks compute the same: user code that draws random numbers gives every rank a problem of its own."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from paraloss.compute.ranks.world import World
from paraloss.errors import InputError

_SEED_FIRST = "random numbers drawn before the computation differ from rank to rank: seed torch, numpy and random first"


def check_same_problem(world: World, fingerprint: Mapping[str, Any]) -> None:
    """Check that weights, data, loss, directions and settings are those of rank 0 on every rank.

    Args:
        world: all ranks.
        fingerprint: what decides the values, see ``Settings.fingerprint``.

    Raises:
        InputError: one differs; names it and the rank.
    """
    own = {
        key: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
        for key, value in fingerprint.items()
    }
    everyone = world.allgather(own)
    for rank, other in enumerate(everyone):
        differing = [key for key in {**everyone[0], **other} if everyone[0].get(key) != other.get(key)]
        if differing:
            raise InputError(f"rank {rank} has other {' and '.join(differing)} than rank 0; {_SEED_FIRST}")


def check_same_loss(world: World, loss: float, place: str, tolerance: float) -> None:
    """Check that every rank finds the same loss at one point.

    Args:
        world: all ranks.
        loss: this rank's.
        place: the point, for the message.
        tolerance: relative difference that rounding may bring.

    Raises:
        InputError: a rank finds another; names it.
    """
    everyone = world.allgather(loss)
    for rank, other in enumerate(everyone):
        if not same_number(everyone[0], other, tolerance):
            raise InputError(
                f"at {place} rank {rank} finds the loss {other:.6g}, rank 0 {everyone[0]:.6g}, with the same weights and data: "
                f"the model or the loss holds something else that differs; {_SEED_FIRST}"
            )


def same_number(one: float, other: float, tolerance: float) -> bool:
    """Whether two losses differ by rounding only; two that are not finite are the same."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.isfinite(one) == math.isfinite(other)
    return abs(one - other) <= tolerance * max(abs(one), abs(other)) + 1e-12
