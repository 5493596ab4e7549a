"""Which device each rank uses, and which rank runs where."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import torch

from paraloss.compute.ranks.world import World
from paraloss.errors import InputError
from paraloss.log import logger

_DRIVER = Path("/proc/driver/nvidia/version")


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
            raise InputError(
                f"{{device}} {name}: this torch sees no CUDA GPU ({why_no_gpu()}); use {{device}} cpu", arguments=("device",)
            )
        gpus = torch.cuda.device_count()
        if device.index is None:
            device = torch.device("cuda", local_rank % gpus)
        elif device.index >= gpus:
            raise InputError(f"device {name}: there are only {gpus} GPUs")
        torch.cuda.set_device(device)  # what a model or a loss allocates on "cuda" is then on the rank's own GPU
        if local_rank == 0 and local_size > gpus:
            logger.warning(
                f"{local_size} ranks share {gpus} GPU{'s' * (gpus > 1)} on {socket.gethostname()}: more ranks than GPUs are "
                "seldom faster"
            )
    elif world.size > 1:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_size))
    return device


def why_no_gpu() -> str:
    """Why torch uses no GPU on this machine, in a few words; empty where it can use one."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        there = "; there is an NVIDIA driver: install a torch with CUDA" if _DRIVER.exists() else ""
        return f"this torch is built without CUDA{there}"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        text = " ".join(str(error).split())
        if "too old" in text:
            found = re.search(r"found version (\d+)", text)
            version = "" if found is None else f" (for CUDA {int(found[1]) // 1000}.{int(found[1]) % 1000 // 10})"
            return f"the NVIDIA driver{version} is too old for this torch, which is built for CUDA {torch.version.cuda}"
        if "no NVIDIA driver" in text:
            return "no NVIDIA driver"
        return text[:160]
    return "the driver shows no GPU"


def describe_device(device: torch.device) -> str:
    """A device in a few words; of the CPU its threads, and why no GPU is used where none can be."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type != "cpu":
        return str(device)
    threads, why = torch.get_num_threads(), why_no_gpu()
    return f"cpu, {threads} thread{'s' * (threads > 1)}{f' (no GPU: {why})' if why else ''}"


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
