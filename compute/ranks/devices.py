"""Which device each rank uses, and which rank runs where."""

from __future__ import annotations

import os
from typing import Any

import torch

from paraloss.errors import InputError


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
