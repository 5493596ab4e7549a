"""Former home of what now lies in hdf5, reader, writer and fingerprint beside it."""

from paraloss.surface.fingerprint import check_fingerprint
from paraloss.surface.hdf5 import new_file, open_hdf5, read_dataset, read_text, write_text
from paraloss.surface.reader import (
    FORMAT,
    Outline,
    directions_sha256,
    finite_range,
    metric_names,
    read_direction_groups,
    read_directions,
    read_outline,
    read_provenance,
    read_surface,
    read_window,
)
from paraloss.surface.writer import SurfaceWriter, write_surface

__all__ = [
    "FORMAT",
    "Outline",
    "SurfaceWriter",
    "check_fingerprint",
    "directions_sha256",
    "finite_range",
    "metric_names",
    "new_file",
    "open_hdf5",
    "read_dataset",
    "read_direction_groups",
    "read_directions",
    "read_outline",
    "read_provenance",
    "read_surface",
    "read_text",
    "read_window",
    "write_surface",
    "write_text",
]
