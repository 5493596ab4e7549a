"""Which device each rank uses, and which rank runs where."""

from __future__ import annotations

import os
import socket

import torch

from paraloss.compute.ranks.world import World
from paraloss.errors import InputError


def rank_device(name: str, world: World | None = None) -> torch.device:
    """The device of this rank; CPU ranks share the cores of their host evenly.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` …; ``cuda`` is the GPU of the rank's number on its host.
        world: all ranks. Default: this process alone.

    Raises:
        InputError: an unknown device, or no such GPU.
    """
    world = world or World()
    local_rank, local_size = world.on_host()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device '{name}'; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"{{device}} {name}: this torch sees no CUDA GPU; use {{device}} cpu", arguments=("device",))
        if device.index is None:
            device = torch.device("cuda", local_rank % torch.cuda.device_count())
        elif device.index >= torch.cuda.device_count():
            raise InputError(f"device {name}: there are only {torch.cuda.device_count()} GPUs")
    elif world.size > 1:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_size))
    return device


def who_is_where(world: World, device: torch.device) -> str:
    """A line with each rank's host, process and device; empty for one process.

    MPI's messages name processes: the line says which rank that is.
    """
    places = world.allgather((socket.gethostname(), os.getpid(), str(device)))
    if len(places) == 1:
        return ""
    if len(places) > 8:
        hosts = sorted({host for host, _, _ in places})
        return f"{len(places)} ranks on {len(hosts)} hosts: {', '.join(hosts[:8])}{' …' if len(hosts) > 8 else ''}"
    return "ranks: " + ", ".join(f"{rank} on {host} (pid {pid}, {on})" for rank, (host, pid, on) in enumerate(places))
