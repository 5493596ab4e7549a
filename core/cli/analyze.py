"""``paraloss analyze``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def analyze(
    *files: Path,
    metric: str | None = None,
    radius: float = 0.25,
    rise: float = 1.0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Tell in numbers how surfaces look: minimum, sharpness, basin, convexity, roughness; and whether they may be compared.

    Example: paraloss analyze with.h5 without.h5

    Args:
        files: Surface files, ours or Li et al.'s.
        metric: A loss. Default: train_loss, where it is there.
        radius: Of the rises, in steps of the directions.
        rise: Above the centre's loss that still counts as its basin.
        json: Print JSON instead of a table.
    """
    import json as text

    from paraloss.analysis import MEANINGS, measures, why_not_comparable
    from paraloss.converters import open_surface
    from paraloss.errors import InputError

    if not files:
        raise InputError("name at least one surface file, as in surface.h5")
    if not radius > 0 or not rise > 0:
        raise InputError("--radius and --rise must be above zero")
    surfaces = [open_surface(path) for path in files]
    for path, surface in zip(files, surfaces, strict=True):
        if surface.y is None:
            raise InputError(f"{path}: holds a curve (1D); analyze takes surfaces")
        if not surface.is_complete:
            raise InputError(f"{path}: is still being computed; finish it with the command that started it")
    found = [measures(surface, metric, radius, rise) for surface in surfaces]
    reason = why_not_comparable(surfaces)
    if json:
        table = {str(path): numbers for path, numbers in zip(files, found, strict=True)}
        print(text.dumps({"surfaces": table, "not_comparable": reason, "radius": radius, "rise": rise}, indent=2))
        return
    width = max(12, *(len(path.name) + 2 for path in files))
    print(f"{'':14}" + "".join(f"{path.name:>{width}}" for path in files))
    for name, meaning in MEANINGS.items():
        numbers = "".join(f"{values[name]:>{width}.4g}" for values in found)
        print(f"{name:14}{numbers}   {meaning.replace('RISE', f'{rise:g}')}")
    if reason:
        print(f"do not compare them: {reason}")
