"""Numbers of optimizer paths: each checkpoint's own loss at both ends, distance from the plane, variance in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from paraloss.surface.value import Tensors

MEANINGS = {
    "checkpoints": "checkpoints of the run",
    "first_loss": "own loss of the first checkpoint",
    "last_loss": "own loss of the last checkpoint",
    "extent": "largest distance of a checkpoint from the last one, in the plane",
    "off_plane": "largest distance of a checkpoint from the plane",
    "last_off_plane": "distance of the last checkpoint from the plane",
    "in_plane": "share of the checkpoints' variance that lies in the plane",
}


def path_numbers(paths: Mapping[str, Tensors], provenance: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Numbers of each path, by label and by the names in ``MEANINGS``; NaN for what the file does not hold.

    Args:
        paths: see ``Surface.paths``. The extent is in units of the directions, which are lengths in principal planes.
        provenance: see ``Surface.provenance``; holds the variance in the plane of each path.
    """
    recorded = provenance.get("paths")
    shares = [one.get("variance_in_plane") if isinstance(one, dict) else None for one in recorded or []]
    found = {}
    for number, (label, path) in enumerate(paths.items()):
        x, y, loss, residual = (np.asarray(path.get(name, []), float) for name in ("x", "y", "loss", "residual"))
        size = min(len(x), len(y))
        share = shares[number] if number < len(shares) else None
        found[label] = {
            "checkpoints": float(size),
            "first_loss": float(loss[0]) if len(loss) else float("nan"),
            "last_loss": float(loss[-1]) if len(loss) else float("nan"),
            "extent": float(np.hypot(x[:size] - x[-1], y[:size] - y[-1]).max()) if size else float("nan"),
            "off_plane": float(residual.max()) if len(residual) else float("nan"),
            "last_off_plane": float(residual[-1]) if len(residual) else float("nan"),
            "in_plane": float(share) if isinstance(share, int | float) else float("nan"),
        }
    return found


def path_line(numbers: Mapping[str, float]) -> str:
    """One line about a path, from its ``path_numbers``."""
    known = {name: value for name, value in numbers.items() if value == value}
    parts = [f"{numbers['checkpoints']:.0f} checkpoints"]
    if "last_loss" in known:
        parts.append(f"own loss {numbers['first_loss']:.4g} to {numbers['last_loss']:.4g}")
    if "off_plane" in known:
        parts.append(f"up to {numbers['off_plane']:.4g} off the plane (end {numbers['last_off_plane']:.4g})")
    if "in_plane" in known:
        parts.append(f"{100 * numbers['in_plane']:.0f} % of its variance in the plane")
    return ", ".join(parts)
