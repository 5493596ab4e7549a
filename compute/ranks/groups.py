"""What ranks share: devices, tensors, and a point whose samples are split over several of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from paraloss.compute.directions.random import Direction
from paraloss.compute.evaluate.full import Evaluator
from paraloss.errors import InputError, ParalossError


def rank_device(name: str, comm: Any | None) -> torch.device:
    """The device of this rank; CPU ranks share the machine's cores evenly."""
    local_rank, local_size = 0, 1
    if comm is not None:
        from mpi4py import MPI

        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        local_rank, local_size = node.rank, node.size
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device '{name}'; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"device {name}: this torch sees no CUDA GPU; use --device cpu")
        if device.index is None:
            device = torch.device("cuda", local_rank % torch.cuda.device_count())
        elif device.index >= torch.cuda.device_count():
            raise InputError(f"device {name}: there are only {torch.cuda.device_count()} GPUs")
    elif comm is not None:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_size))
    return device


def same_number(comm: Any | None, directions: list[Direction]) -> list[Direction]:
    if comm is None:
        return directions
    number = comm.bcast(len(directions))
    return directions or [{} for _ in range(number)]


def share_direction(comm: Any | None, direction: Direction) -> Direction:
    """Rank 0's direction on every rank."""
    if comm is None:
        return direction
    shapes = comm.bcast({name: (tuple(t.shape), str(t.numpy().dtype)) for name, t in direction.items()})
    if comm.rank > 0:
        direction = {n: torch.from_numpy(np.empty(shape, dtype)) for n, (shape, dtype) in shapes.items()}
    share_tensors(comm, direction)
    return direction


def share_tensors(comm: Any | None, tensors: Mapping[str, torch.Tensor]) -> None:
    """Overwrite ``tensors`` on every rank with rank 0's."""
    if comm is None:
        return
    for tensor in tensors.values():
        if comm.rank == 0:
            comm.Bcast(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        else:
            buffer = np.empty(tensor.numel() * tensor.element_size(), np.uint8)
            comm.Bcast(buffer)
            with torch.no_grad():
                tensor.detach().copy_(torch.from_numpy(buffer).view(tensor.dtype).reshape(tensor.shape))


def who_is_where(comm: Any, device: torch.device) -> str:
    """A line that tells each rank's host, process and device, so that a message about a process names its rank."""
    import socket

    places = comm.gather((socket.gethostname(), os.getpid(), str(device)))
    if places is None:
        return ""
    if len(places) > 8:
        hosts = sorted({host for host, _, _ in places})
        return f"{len(places)} ranks on {len(hosts)} hosts: {', '.join(hosts[:8])}{' …' if len(hosts) > 8 else ''}"
    return "ranks: " + ", ".join(f"{rank} on {host} (pid {pid}, {on})" for rank, (host, pid, on) in enumerate(places))


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

    def lead(self, evaluator: Evaluator, coordinates: np.ndarray) -> list[float]:
        """On the leader: the metrics at ``coordinates`` over the samples of all."""
        self.comm.bcast(coordinates)
        return evaluator.metrics_of(self._add_up(evaluator, coordinates))

    def release(self) -> None:
        """On the leader: there are no more points."""
        self.comm.bcast(None)

    def follow(self, evaluator: Evaluator) -> None:
        """On the others: evaluate what the leader asks for until it releases them."""
        while (coordinates := self.comm.bcast(None)) is not None:
            try:
                self._add_up(evaluator, coordinates)
            except ParalossError:
                continue  # the leader raises it, and ends the job

    def _add_up(self, evaluator: Evaluator, coordinates: np.ndarray) -> torch.Tensor:
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
