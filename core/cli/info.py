"""``paraloss info``"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def info(file: Path | None = None, *, repair: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Tell what is in a surface file or a checkpoint; without a file, what this installation can do.

    Example: paraloss info surface.h5

    Args:
        file: A surface file (.h5) or a checkpoint (.pt, .t7).
        repair: Mend a surface file that was cut short; the damaged one is kept beside it.
    """
    if repair:
        from paraloss.errors import InputError
        from paraloss.surface.repair import repair as mend

        if file is None:
            raise InputError("--repair needs a file, as in: paraloss info --repair surface.h5")
        for line in mend(file) or ["the file is sound; nothing was changed"]:
            print(line)
    if file is None:
        _installation()
    elif file.suffix.lower() in {".pt", ".pth", ".t7", ".tar", ".ckpt"}:
        _checkpoint(file)
    else:
        _surface(file)


def _surface(file: Path) -> None:
    import numpy as np

    from paraloss.converters import open_surface

    surface = open_surface(file)
    facts = dict(surface.provenance)
    for name, axis in zip("xyz", surface.axes, strict=False):
        print(f"{name:12} {axis[0]:g} to {axis[-1]:g} in {len(axis)} steps")
    done = int((surface.status != 0).sum())
    print(f"{'points':12} {done} of {surface.status.size} evaluated, {int((surface.status == 2).sum())} not finite")
    if (surface.status == 3).any():
        print(f"{'':12} {int((surface.status == 3).sum())} of them interpolated (--refine)")
    for name, values in surface.metrics.items():
        finite = values[np.isfinite(values)]
        if finite.size:
            print(f"{name:12} {finite.min():.6g} to {finite.max():.6g}")
    for key in (
        "model",
        "checkpoint",
        "data",
        "samples",
        "criterion",
        "precision",
        "tuning",
        "sampling",
        "device",
        "torch_version",
        "command",
    ):
        if key in facts:
            value = facts[key]
            print(f"{key:12} {value if isinstance(value, str) else json.dumps(value)}")
    if "batch_norms_folded" in facts:
        why = f" ({facts['not_folded']})" if facts.get("not_folded") else ""
        fused = facts.get("relus_fused", 0)
        print(f"{'made faster':12} {facts['batch_norms_folded']} batch norms folded, {fused} ReLUs fused{why}")


def _checkpoint(file: Path) -> None:
    from paraloss.compute import load_checkpoint

    tensors, record = load_checkpoint(file)
    numbers = sum(t.numel() for n, t in tensors.items() if "running_" not in n and "num_batches" not in n)
    print(f"{'tensors':12} {len(tensors)}")
    print(f"{'parameters':12} {numbers:,}")
    for key, value in record.items():
        print(f"{key:12} {value}")


def _installation() -> None:
    import platform
    import shutil
    from importlib.metadata import PackageNotFoundError, version

    import torch

    print(f"{'paraloss':12} {version('paraloss')}, Python {platform.python_version()} on {sys.platform}")
    for package in ("torch", "numpy", "h5py", "vtk", "pyvista", "matplotlib", "mpi4py", "mlxtend"):
        try:
            print(f"{package:12} {version(package)}")
        except PackageNotFoundError:
            print(f"{package:12} not installed")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'GPUs':12} {', '.join(gpus) or 'none that torch sees'}")
    for program in ("mpiexec", "pvpython", "pvbatch", "paraview", "xvfb-run"):
        print(f"{program:12} {shutil.which(program) or 'not found'}")
