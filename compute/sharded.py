"""Models that are spread over processes: what can be computed of them, all ranks together."""

from __future__ import annotations

from typing import Any

from paraloss.compute.inputs.tensors import is_spread
from paraloss.compute.settings import Settings
from paraloss.errors import InputError


def check_sharded(settings: Settings, ranks: int) -> None:
    """Check that what is asked for can be computed of a model whose parameters are spread over processes.

    Args:
        settings: what to compute.
        ranks: number of ranks of the job.

    Raises:
        InputError: it cannot; names the option.
    """
    options, spread = settings.options, next(filter(is_spread, settings.model.parameters()))
    mesh: Any = spread
    processes = mesh.device_mesh.size()
    if processes != ranks:
        raise InputError(
            f"the model is spread over {processes} processes, but this job has {ranks} rank{'s' * (ranks > 1)}: start as many "
            "ranks as processes, with torchrun"
        )
    refused = {
        "metrics": bool(settings.measures),
        "rtol": options.rtol is not None,
        "loss_cap": options.loss_cap is not None,
        "split_data": (options.split_data or 1) > 1,
        "along": bool(settings.plane.made),
        "generator": settings.plane.generator == "li2018" and settings.plane.is_random,
        **{f"{axis}_to": end is not None for axis, end in zip("xyz", settings.plane.ends, strict=False)},
    }
    for name in (name for name, is_asked in refused.items() if is_asked):
        raise InputError(
            f"{{{name}}}: this requires the whole model in one process, but it is spread over {processes}; leave it out",
            arguments=(name,),
        )
