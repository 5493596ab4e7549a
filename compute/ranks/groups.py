"""Ranks that share one point: each evaluates a part of its samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from paraloss.errors import InputError, ParalossError


class Group:
    """Ranks that evaluate each point together, every one a part of the samples.

    Args:
        comm: all ranks.
        number: how many groups; the ranks are dealt out evenly, in order.

    Attributes:
        comm: the ranks of this group.
        shard: (k, n): this rank takes rows k, k + n, … of every split.
        leaders: the first ranks of all groups, which draw points from the queue; None on the others.
    """

    def __init__(self, comm: Any, number: int) -> None:
        color = comm.rank * number // comm.size
        self.comm = comm.Split(color, comm.rank)
        self.shard = (self.comm.rank, self.comm.size)
        leaders = comm.Split(0 if self.comm.rank == 0 else 1, comm.rank)
        self.leaders = leaders if self.comm.rank == 0 else None

    def lead(self, evaluator: Any, coordinates: np.ndarray) -> list[float]:
        """On the leader: the metrics at ``coordinates`` over the samples of all."""
        self.comm.bcast(coordinates)
        metrics: list[float] = evaluator.metrics_of(self._add_up(evaluator, coordinates))
        return metrics

    def release(self) -> None:
        """On the leader: there are no more points."""
        self.comm.bcast(None)

    def follow(self, evaluator: Any) -> None:
        """On the others: evaluate what the leader asks for until it releases them."""
        while (coordinates := self.comm.bcast(None)) is not None:
            try:
                self._add_up(evaluator, coordinates)
            except ParalossError:
                continue  # the leader raises it, and ends the job

    def _add_up(self, evaluator: Any, coordinates: np.ndarray) -> torch.Tensor:
        message, mine = None, None
        try:
            mine = evaluator.sums(coordinates.tolist()).cpu()
        except Exception as error:
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        messages = [told for told in self.comm.allgather(message) if told]
        if messages or mine is None:
            raise InputError(messages[0])
        total = np.empty_like(mine.numpy())
        self.comm.Allreduce(mine.numpy(), total)
        return torch.from_numpy(total)
