"""``paraloss analyze``"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from paraloss.cli.groups import EFFORT, Inputs
from paraloss.compute.options.surface import InputOptions

if TYPE_CHECKING:
    from paraloss.compute import EffortOptions, MeasureOptions
    from paraloss.surface import Surface

SHARPNESS = Parameter(group=Group("Sharpness", sort_key=6))

_UNCENTERED = (
    "(0, 0), the checkpoint itself, is none of its points, so that nothing is measured from there; an odd number of steps "
    "between ends of the same size, as in --x=-1:1:51, has it"
)


def analyze(
    *files: Path,
    metric: str | None = None,
    radius: float = 0.25,
    rise: float = 1.0,
    level: Annotated[list[float] | None, Parameter(negative="")] = None,
    critical_points: Path | None = None,
    basins: Path | None = None,
    persistence: float = 0.01,
    json: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    sharpness: Annotated[bool, Parameter(negative="", group=SHARPNESS.group)] = False,
    rho: Annotated[float, SHARPNESS] = 0.05,
    adaptive_rho: Annotated[float, SHARPNESS] = 0.5,
    noise: Annotated[float, SHARPNESS] = 0.1,
    draws: Annotated[int, SHARPNESS] = 20,
    starts: Annotated[int, SHARPNESS] = 3,
    top: Annotated[int, SHARPNESS] = 3,
    products: Annotated[int, SHARPNESS] = 60,
    seed: Annotated[int, SHARPNESS] = 0,
    samples: Annotated[int | None, SHARPNESS] = None,
    move: Annotated[list[str] | None, Parameter(negative="", group=SHARPNESS.group)] = None,
    inputs: Inputs = InputOptions(),
    batch_size: Annotated[int | None, EFFORT] = None,
    device: Annotated[str, EFFORT] = "auto",
) -> None:
    """Print numbers about surfaces, such as minimum, basin and roughness, and whether they may be compared; with --sharpness
    about checkpoints.

    Example: paraloss analyze with.h5 without.h5
    Example: paraloss analyze --sharpness final.pt --samples 1000

    Args:
        files: Surface files of Paraloss or of Li et al.'s code.
        metric: Name of a loss. Default: train_loss where the file has it.
        radius: Distance from the center at which rises are measured, in steps of the directions.
        rise: Largest loss above the center's that counts as its basin.
        level: Loss; prints the share of the plot where the loss is at most this. May be repeated.
        critical_points: File for the minima, saddles and maxima of one surface as points (.vtp).
        basins: File for one surface with the basin of each point (.vts).
        persistence: Critical points and basins: ignore minima shallower than this fraction of the height range.
        json: Print JSON instead of a table; null for a number that does not exist.
        overwrite: Replace a file that this command did not make.
        sharpness: The files are checkpoints: print how much the loss rises around each, and its curvature there.
        rho: Euclidean radius within which the worst rise is looked for.
        adaptive_rho: The same where each weight counts by its own size.
        noise: Standard deviation of the noise, as a share of each filter's norm.
        draws: Number of noises, each used in both signs.
        starts: Number of ascents to the worst rise.
        top: Number of eigenvalues of the Hessian, those of largest magnitude.
        products: Number of products of the Hessian with a vector, for its trace.
        seed: Seed of the random numbers.
        samples: Number of training samples drawn. Default: all.
        move: Pattern of the names of parameters that move, as in compute; may be repeated. Default: all.
        batch_size: Samples per batch. Default: chosen by the size of a sample.
        device: auto, cpu, cuda or cuda:N.
    """
    from paraloss.errors import InputError

    if sharpness:
        from paraloss.compute import EffortOptions, MeasureOptions

        numbers = {
            "rho": rho, "adaptive_rho": adaptive_rho, "noise": noise, "draws": draws, "starts": starts, "top": top,
            "products": products, "seed": seed,
        }  # fmt: skip
        effort, measure = EffortOptions(device=device, batch_size=batch_size), MeasureOptions(samples=samples)
        _sharpness(files, inputs, effort, measure, move, numbers, json)
        return
    if inputs != InputOptions() or samples is not None or move:
        raise InputError(
            "model, data and samples are for checkpoints: add {sharpness}, or leave them out", arguments=("sharpness",)
        )
    from paraloss.analysis.numbers import area_below, measures, why_not_comparable
    from paraloss.files import check_output
    from paraloss.height import metric_scale

    if (critical_points or basins) and len(files) != 1:
        raise InputError("{critical_points} and {basins} take one surface", arguments=("critical_points", "basins"))
    if not 0 <= persistence < 1:
        raise InputError(
            f"{{persistence}} {persistence:g}: give a share of the height, 0 to 1, as in 0.01", arguments=("persistence",)
        )
    if not files:
        raise InputError("name at least one surface file, as in surface.h5")
    for output in filter(None, (critical_points, basins)):
        check_output(output, "analysis", files, overwrite)
    if not 0 < radius <= 1e100 or not rise > 0:
        raise InputError("{radius} and {rise} must be above zero, the radius at most 1e100", arguments=("radius", "rise"))
    surfaces = [_complete(path, metric) for path in files]
    found = [measures(surface, metric, radius, rise) for surface in surfaces]
    for values, surface in zip(found, surfaces, strict=True):
        values.update({f"area_below_{at:g}": area_below(surface.metric(metric), at) for at in level or []})
    scales = {str(path): metric_scale(surface.metric(metric)) for path, surface in zip(files, surfaces, strict=True)}
    notes = {path: scale.note for path, scale in scales.items() if scale.note}
    uncentered = {str(path): _UNCENTERED for path, surface in zip(files, surfaces, strict=True) if surface.center is None}
    reason = why_not_comparable(surfaces)
    if critical_points or basins:
        _write_topology(surfaces[0], metric, persistence, critical_points, basins)
    if json:
        rest = {
            "heights": notes,
            "no_center": uncentered,
            "not_comparable": reason,
            "radius": radius,
            "rise": rise,
            "paths": _paths_json(files, surfaces),
        }
        print(_as_json(files, found, rest))
        return
    _print_table(files, found, level or [], rise)
    _print_paths(files, surfaces)
    for path, note in [*uncentered.items(), *notes.items()]:
        print(f"{path}: {note}")
    if reason:
        print(f"do not compare them: {reason}")


def _sharpness(
    files: Sequence[Path],
    inputs: InputOptions,
    effort: EffortOptions,
    measure: MeasureOptions,
    move: list[str] | None,
    numbers: Mapping[str, float],
    as_json: bool,
) -> None:
    """Print the sharpness at checkpoints."""
    from paraloss.compute.at_checkpoint import sharpness_of
    from paraloss.errors import InputError

    if not files:
        raise InputError("name at least one checkpoint, as in: paraloss analyze {sharpness} final.pt", arguments=("sharpness",))
    found = {path: sharpness_of(path, inputs, effort, measure, move, numbers) for path in files}
    if as_json:
        import json

        table = {
            str(path): {
                name: {"value": _json_number(each.value), "error": _json_number(each.error)} for name, each in one.items()
            }
            for path, one in found.items()
        }
        print(json.dumps({"checkpoints": table, **numbers}, indent=2, allow_nan=False))
        return
    width = max(22, *(len(path.name) + 2 for path in files))
    print(f"{'':16}" + "".join(f"{path.name:>{width}}" for path in files))
    for name, first in next(iter(found.values())).items():
        values = (
            f"{one[name].value:.4g} ± {one[name].error:.2g}" if name != "loss" else f"{one[name].value:.4g}"
            for one in found.values()
        )
        print(f"{name:16}" + "".join(f"{value:>{width}}" for value in values) + f"   {first.meaning}")


def _as_json(files: Sequence[Path], found: Sequence[Mapping[str, float]], rest: Mapping[str, object]) -> str:
    import json

    table = {
        str(path): {key: _json_number(value) for key, value in numbers.items()}
        for path, numbers in zip(files, found, strict=True)
    }
    return json.dumps({"surfaces": table, **rest}, indent=2, allow_nan=False)


def _paths_json(files: Sequence[Path], surfaces: Sequence[Surface]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Numbers of the optimizer paths: file -> label -> name -> number; files without a path are left out."""
    from paraloss.analysis.paths import path_numbers

    found = {str(path): path_numbers(one.paths, one.provenance) for path, one in zip(files, surfaces, strict=True)}
    return {
        path: {label: {name: _json_number(value) for name, value in numbers.items()} for label, numbers in paths.items()}
        for path, paths in found.items()
        if paths
    }


def _print_paths(files: Sequence[Path], surfaces: Sequence[Surface]) -> None:
    from paraloss.analysis.paths import path_line, path_numbers
    from paraloss.text import printable

    for path, surface in zip(files, surfaces, strict=True):
        for label, numbers in path_numbers(surface.paths, surface.provenance).items():
            print(f"{path.name}: path {printable(label)}".rstrip() + f": {path_line(numbers)}")


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _complete(path: Path, metric: str | None) -> Surface:
    """Open a complete surface whose metric has a finite value.

    Raises:
        InputError: a curve, a volume, or a surface that is not complete or without a finite value.
    """
    import numpy as np

    from paraloss.converters import open_surface
    from paraloss.errors import InputError

    surface = open_surface(path)
    if surface.y is None:
        raise InputError(f"{path}: holds a curve (1D); analyze takes surfaces")
    if surface.z is not None:
        raise InputError(f"{path}: holds a volume (3D); analyze takes surfaces")
    if not surface.is_complete:
        raise InputError(f"{path}: is still being computed; finish it with the command that started it")
    if not np.isfinite(surface.metric(metric)).any():
        raise InputError(f"{path}: no point has a finite value, so there is nothing to analyze")
    return surface


def _print_table(files: Sequence[Path], found: Sequence[Mapping[str, float]], levels: Sequence[float], rise: float) -> None:
    from paraloss.analysis.numbers import MEANINGS

    width = max(12, *(len(path.name) + 2 for path in files))
    print(f"{'':16}" + "".join(f"{path.name:>{width}}" for path in files))
    below = {f"area_below_{at:g}": f"share of the plot where the loss is at most {at:g}" for at in levels}
    for name, meaning in {**MEANINGS, **below}.items():
        numbers = "".join(f"{values[name]:>{width}.4g}" for values in found)
        print(f"{name:16}{numbers}   {meaning.replace('RISE', f'{rise:g}')}")


def _write_topology(
    surface: Surface, metric: str | None, share: float, points_path: Path | None, basins_path: Path | None
) -> None:
    import sys

    from paraloss.analysis.numbers import height_share
    from paraloss.analysis.topology import MINIMUM
    from paraloss.analysis.topology import basins as find_basins
    from paraloss.analysis.topology import critical_points as find_points
    from paraloss.converters import GridOptions
    from paraloss.converters.critical import write_basins, write_critical_points
    from paraloss.height import log_field

    field = log_field(surface.metric(metric))
    found = find_points(field, height_share(field, share))
    options = GridOptions(metric)
    written = []
    if points_path:
        written.append(write_critical_points(surface, found, points_path, options))
    if basins_path:
        labels = find_basins(field, [point for point in found if point.kind == MINIMUM])
        written.append(write_basins(surface, labels, basins_path, options))
    for path in written:
        print(path, file=sys.stderr)
