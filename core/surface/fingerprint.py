"""The settings that decide a surface's values, kept in its file: a file made under others is not continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraloss.errors import SurfaceFileError
from paraloss.surface.hdf5 import open_hdf5, read_json
from paraloss.surface.reader import check_format
from paraloss.text import printable


def check_fingerprint(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Refuse to continue the file at ``path`` under settings other than its own.

    Raises:
        SurfaceFileError: names each setting that differs, with both values.
    """
    with open_hdf5(path) as file:
        check_format(file, path)
        found = read_json(file, "fingerprint", path)
    if not found:
        raise SurfaceFileError(
            f"{path}: holds a finished surface that cannot be continued; use {{overwrite}} or another {{path}}",
            arguments=("overwrite", "path"),
        )
    there, now = _flat(found), _flat(json.loads(json.dumps(settings)))
    keys = [key for key in {**there, **now} if there.get(key) != now.get(key)]
    if keys:
        differences = "; ".join(
            f"{printable(key)} is {_short(there.get(key))} there, {_short(now.get(key))} now" for key in keys
        )
        raise SurfaceFileError(
            f"{path}: was computed with other settings: {differences}. "
            "Use {overwrite} to start again, or another {path} to keep both",
            arguments=("overwrite", "path"),
        )


def read_generator(path: str | Path) -> str:
    """Read which generator the random directions of a surface file come from; li2018 where the file names none.

    Raises:
        SurfaceFileError: the file cannot be read.
    """
    with open_hdf5(path) as file:
        check_format(file, path)
        axes = read_json(file, "fingerprint", path).get("directions")
    named = [axis.get("generator") for axis in axes if isinstance(axis, dict)] if isinstance(axes, list) else []
    return next((name for name in named if isinstance(name, str)), "li2018")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten ``{"a": {"b": 1}}`` to ``{"a.b": 1}``; steps of an axis stay together."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = dict(zip("xyz", value, strict=False))
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _short(value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(item, float) for item in value):
        return f"{value[0]:g}:{value[-1]:g}:{len(value)}"
    text = printable(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:8]
    return text if len(text) <= 60 else text[:57] + "…"
