"""``paraloss info``"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from paraloss.text import printable

_FACTS = (
    "model", "checkpoint", "data", "samples", "criterion", "precision", "evaluated", "tuning", "sampling", "device",
    "torch_version", "command",
)  # fmt: skip


_CHECKPOINTS = {".pt", ".pth", ".t7", ".tar", ".ckpt", ".bin", ".safetensors", ".json"}


def info(file: Path | None = None, *, repair: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Print what a surface file or a checkpoint holds; without a file, what is installed.

    Example: paraloss info surface.h5

    Args:
        file: Surface file (.h5), or checkpoint: file (.pt, .ckpt, .safetensors …) or folder.
        repair: Mend a surface file that was cut short; the damaged file is kept beside it.
    """
    if repair:
        from paraloss.errors import InputError
        from paraloss.surface.repair import repair as mend

        if file is None:
            raise InputError("{repair} requires a file, as in: paraloss info {repair} surface.h5", arguments=("repair",))
        for line in mend(file) or ["the file is sound; nothing was changed"]:
            print(line)
    if file is None:
        _installation()
    elif file.is_dir() or file.suffix.lower() in _CHECKPOINTS:
        _checkpoint(file)
    else:
        _surface(file)


def _surface(file: Path) -> None:
    from paraloss.analysis.paths import path_line, path_numbers
    from paraloss.surface.summary import read_summary
    from paraloss.surface.value import INTERPOLATED, NOT_FINITE, PENDING

    found = read_summary(file)
    for name, axis in zip("xyz", found.axes, strict=False):
        if len(axis):
            _line(name, f"{axis[0]:g} to {axis[-1]:g} in {len(axis)} steps")
    if found.counted < found.points:
        _line("sample", f"the first {found.counted:,} of {found.points:,} points were read; the numbers below are of these")
    done = found.counted - found.status.get(PENDING, 0)
    _line("points", f"{done} of {found.counted} evaluated, {found.status.get(NOT_FINITE, 0)} not finite")
    if found.status.get(INTERPOLATED):
        _line("", f"{found.status[INTERPOLATED]} of them interpolated (--refine)")
    for name, (low, high) in found.ranges.items():
        if math.isfinite(low):
            _line(name, f"{low:.6g} to {high:.6g}")
    facts = dict(found.provenance)
    for key in _FACTS:
        if key in facts:
            _line(key, facts[key] if isinstance(facts[key], str) else json.dumps(facts[key]))
    for label, numbers in path_numbers(found.paths, facts).items():
        _line(f"path {label}".strip(), path_line(numbers))
    if isinstance(facts.get("still"), dict):
        _line("still", _still(facts["still"]))
    if "batch_norms_folded" in facts:
        why = f" ({facts['not_folded']})" if facts.get("not_folded") else ""
        fused = facts.get("relus_fused", 0)
        _line("made faster", f"{facts['batch_norms_folded']} batch norms folded, {fused} ReLUs fused{why}")


def _still(still: dict[str, Any]) -> str:
    """What does not move, in one line."""
    listing = still.get("names")
    names = [str(name) for name in listing] if isinstance(listing, list) else []
    found = (still.get(key, 0) for key in ("tensors", "numbers", "of_tensors", "of_numbers"))
    tensors, numbers, of_tensors, of_numbers = (number if isinstance(number, int) else 0 for number in found)
    listed = ", ".join(names[:6]) + (" …" if tensors > 6 else "")
    counts = f"{tensors} of {of_tensors} parameters ({numbers} of {of_numbers} numbers) do not move"
    return counts + (f": {listed}" if names else "")


def _checkpoint(file: Path) -> None:
    from paraloss.compute.inputs.checkpoints import record_of
    from paraloss.compute.inputs.contents import contents_of, only_state, sets_of
    from paraloss.compute.inputs.formats import read_content

    content = read_content(file, mapped=True)
    contents = contents_of(content)
    places = sets_of(contents) or only_state(contents, str(file))  # the latter says that there is none
    for place in places:
        if len(places) > 1:
            _line("weights", place or "the top level")
        tensors = {name: contents.tensors[f"{place}.{name}" if place else name] for name in places[place]}
        numbers = sum(t.numel() for n, t in tensors.items() if "running_" not in n and "num_batches" not in n)
        _line("tensors", len(tensors))
        _line("parameters", f"{numbers:,}")
    for key, value in record_of(content).items():
        _line(key, value)


def _installation() -> None:
    import platform
    import shutil
    from importlib.metadata import PackageNotFoundError, version

    import torch

    _line("paraloss", f"{version('paraloss')}, Python {platform.python_version()} on {sys.platform}")
    for package in ("torch", "numpy", "h5py", "vtk", "pyvista", "matplotlib", "mpi4py", "mlxtend"):
        try:
            _line(package, version(package))
        except PackageNotFoundError:
            _line(package, "not installed")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    _line("GPUs", ", ".join(gpus) or "none that torch sees")
    for program in ("mpiexec", "pvpython", "pvbatch", "paraview", "xvfb-run"):
        _line(program, shutil.which(program) or "not found")


def _line(name: object, value: object) -> None:
    """Print one fact; what a file says cannot steer the terminal."""
    print(f"{printable(name):12} {printable(value)}")
