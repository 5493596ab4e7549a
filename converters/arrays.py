"""``.npz``: all arrays of a surface for numpy, with its provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from paraloss.converters.formats import register
from paraloss.marks import mark
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface


@register(".npz", "numpy arrays")
def write_npz(surface: Surface, path: Path, options: GridOptions) -> None:
    """``x``, ``y`` (``z``), ``status``, every metric as computed, ``provenance`` as JSON; curves and volumes too."""
    arrays: dict[str, Any] = {**dict(zip("xyz", surface.axes, strict=False)), "status": surface.status, **surface.metrics}
    for number, (label, kept) in enumerate(surface.paths.items()):
        arrays |= {f"trajectory_{number}_{name}" if label else f"trajectory_{name}": v for name, v in kept.items()}
    if surface.trajectories:
        arrays["trajectory_labels"] = np.array(list(surface.trajectories))
    np.savez_compressed(path, **arrays, provenance=json.dumps(dict(surface.provenance)))
    with ZipFile(path, "a") as archive:
        archive.comment = mark("conversion").encode()
