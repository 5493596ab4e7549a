"""The loss surface: the value, its file, and the repair of damaged files.

The value needs numpy only; the names of the file's modules need h5py, and bring it when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paraloss.surface.value import (
    DONE,
    INTERPOLATED,
    NOT_FINITE,
    PENDING,
    Surface,
    Tensors,
    complete_stride,
    subgrid,
)

if TYPE_CHECKING:
    from paraloss.surface.fingerprint import check_fingerprint, read_generator
    from paraloss.surface.reader import (
        Outline,
        read_directions,
        read_outline,
        read_provenance,
        read_surface,
        read_window,
    )
    from paraloss.surface.recipes import Recipe, read_recipes
    from paraloss.surface.writer import SurfaceWriter, write_surface

_HOMES = {
    "Outline": "reader",
    "Recipe": "recipes",
    "SurfaceWriter": "writer",
    "check_fingerprint": "fingerprint",
    "read_directions": "reader",
    "read_generator": "fingerprint",
    "read_outline": "reader",
    "read_provenance": "reader",
    "read_recipes": "recipes",
    "read_surface": "reader",
    "read_window": "reader",
    "write_surface": "writer",
}

__all__ = [
    "DONE",
    "INTERPOLATED",
    "NOT_FINITE",
    "PENDING",
    "Outline",
    "Recipe",
    "Surface",
    "SurfaceWriter",
    "Tensors",
    "check_fingerprint",
    "complete_stride",
    "read_directions",
    "read_generator",
    "read_outline",
    "read_provenance",
    "read_recipes",
    "read_surface",
    "read_window",
    "subgrid",
    "write_surface",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"paraloss.surface.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'paraloss.surface' has no attribute {name!r}")
