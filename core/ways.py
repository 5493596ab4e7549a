"""What the axes of a surface run along, in words, for the labels of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from paraloss.text import printable


def way_in_words(provenance: Mapping[str, Any], axis: str) -> str:
    """Return what an axis runs along, as in "the gradient"; empty for random directions and those that a file does not name.

    Args:
        provenance: of the surface.
        axis: x, y or z.
    """
    entries, place = provenance.get("directions"), "xyz".index(axis)
    entry = entries[place] if isinstance(entries, list) and len(entries) > place else None
    if not isinstance(entry, Mapping):
        return ""
    files = [printable(PurePosixPath(name).name)[:40] for name in _files(provenance, place)]
    kind, number = entry.get("along"), _number(entry)
    words = {
        "gradient": "the gradient",
        "worst": f"the worst direction at radius {number}",
        "eigenvector": f"Hessian eigenvector {number}",
        "momentum": "the momentum",
        "pca": f"principal component {number} of the run",
        "task": "the task vector" + (f" from {files[0]}" if files else ""),
        "delta": f"{files[0]} to {files[1]}" if len(files) > 1 else "the difference of two checkpoints",
    }
    if "to" in entry and kind is None:
        return f"the line to {files[0]}" if files else ""
    return words.get(kind, "") if isinstance(kind, str) else ""


def _number(entry: Mapping[str, Any]) -> str:
    number = next((entry[key] for key in ("radius", "number", "component") if key in entry), "?")
    return f"{number:g}" if isinstance(number, (int, float)) else "?"


def _files(provenance: Mapping[str, Any], place: int) -> list[str]:
    """The files that the options name for an axis."""
    options = provenance.get("options")
    along = options.get("along") if isinstance(options, Mapping) else None
    named = [along] if isinstance(along, str) else along
    if not isinstance(named, list) or len(named) <= place or not isinstance(named[place], str):
        return []
    return [part for part in named[place].partition(":")[2].split(",") if part]
