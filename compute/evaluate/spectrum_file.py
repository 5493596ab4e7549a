"""A spectrum's file: eigenvalues, density, and leading eigenvectors in the form of directions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraloss._version import __version__
from paraloss.compute.directions.files import SPECTRUM_FORMAT
from paraloss.compute.evaluate.curvature import Spectrum
from paraloss.marks import mark
from paraloss.surface.hdf5 import new_file, write_text


def save_spectrum(spectrum: Spectrum, path: str | Path, provenance: Mapping[str, Any]) -> Path:
    """Write eigenvalues, density and the three leading eigenvectors (as directions x, y, z); appears complete or not at all.

    Raises:
        SurfaceFileError: ``path`` cannot be written, see ``paraloss.files.replacing``.
    """
    with new_file(Path(path)) as file:
        write_text(file, "generator", mark("spectrum"))
        write_text(file, "format", SPECTRUM_FORMAT)
        write_text(file, "paraloss_version", __version__)
        write_text(file, "provenance", json.dumps(dict(provenance)))
        file["eigenvalues"] = spectrum.eigenvalues
        file["density_grid"], file["density"] = spectrum.grid, spectrum.density
        for axis, direction in zip("xyz", spectrum.eigenvectors, strict=False):
            for name, tensor in direction.items():
                file.create_dataset(f"directions/{axis}/{name}", data=tensor.numpy())
    return Path(path)
