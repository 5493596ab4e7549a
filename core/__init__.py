"""Paraloss: from a PyTorch checkpoint to a lit picture of its loss surface.

>>> import paraloss
>>> surface = paraloss.compute_surface(model, "cross_entropy", (inputs, targets),
...                                    x=(-1, 1, 51), y=(-1, 1, 51))     # doctest: +SKIP
>>> surface.save("surface.h5"); surface.plot("surface.png")              # doctest: +SKIP

Importing ``paraloss`` imports neither torch nor vtk; each name below brings what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paraloss._version import __version__

if TYPE_CHECKING:
    from paraloss.compute import compute_surface, load_checkpoint, load_data, load_model, project_run, train
    from paraloss.converters import convert, to_polydata, to_structured_grid
    from paraloss.errors import ParalossError
    from paraloss.rendering import render
    from paraloss.rendering.widget import explore
    from paraloss.surface import Surface, read_directions, read_surface, write_surface

_HOMES = {
    "compute_surface": "paraloss.compute",
    "load_checkpoint": "paraloss.compute",
    "load_data": "paraloss.compute",
    "load_model": "paraloss.compute",
    "project_run": "paraloss.compute",
    "train": "paraloss.compute",
    "convert": "paraloss.converters",
    "explore": "paraloss.rendering.widget",
    "to_polydata": "paraloss.converters",
    "to_structured_grid": "paraloss.converters",
    "render": "paraloss.rendering",
    "ParalossError": "paraloss.errors",
    "Surface": "paraloss.surface",
    "read_directions": "paraloss.surface",
    "read_surface": "paraloss.surface",
    "write_surface": "paraloss.surface",
}

__all__ = [
    "ParalossError",
    "Surface",
    "__version__",
    "compute_surface",
    "convert",
    "explore",
    "load_checkpoint",
    "load_data",
    "load_model",
    "project_run",
    "read_directions",
    "read_surface",
    "render",
    "to_polydata",
    "to_structured_grid",
    "train",
    "write_surface",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'paraloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
