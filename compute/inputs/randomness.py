"""Random numbers at a point: drawn from one seed, the same at every point, and the caller's generators left alone.

With common random numbers the surface of a model that samples (a variational autoencoder, dropout that is kept on) is
smooth and comes out the same on every rank and on every day.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_State = tuple[Any, ...]


def seed_all(seed: int) -> None:
    """Seed torch (all devices), numpy and random."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed torch, numpy and random with ``seed`` within the context; afterwards they go on as if nothing had been drawn.

    Args:
        seed: None keeps the generators' states at the start of the context.
    """
    before = generator_states()
    try:
        if seed is not None:
            seed_all(seed)
        yield
    finally:
        restore(before)


def generator_states() -> _State:
    """The states of torch's, numpy's and random's global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def restore(states: _State) -> None:
    """Put back what ``generator_states`` gave."""
    torch_state, cuda, numpy_state, random_state = states
    torch.set_rng_state(torch_state)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy_state)
    random.setstate(random_state)


def same_states(one: _State, other: _State) -> bool:
    """Whether nothing was drawn in between."""
    cuda = len(one[1]) == len(other[1]) and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    numpy_same = bool((one[2][1] == other[2][1]).all()) and one[2][2:] == other[2][2:]
    return torch.equal(one[0], other[0]) and cuda and numpy_same and one[3] == other[3]
