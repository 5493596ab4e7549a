"""A caption for a paper from what a surface file records: model, data, samples, plane, scale, numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from paraloss.analysis.paths import path_line, path_numbers
from paraloss.height import metric_scale
from paraloss.rendering.labels import known_accuracy
from paraloss.surface import Surface
from paraloss.text import printable

_NORMS = {"filter": "filter-normalized", "layer": "layer-normalized", "weight": "weight-normalized", "none": "not normalized"}


def caption(surface: Surface, label: str = "") -> str:
    """Describe a surface, its plane and its numbers in a few sentences; what the file does not record is left out.

    Args:
        surface: surface or curve.
        label: its title in the picture, in front.
    """
    facts = surface.provenance
    sentences = [_what(surface), _plane(facts, len(surface.axes)), _numbers(surface), *_paths(surface), _how(facts)]
    text = " ".join(filter(None, sentences))
    return printable(f"{label}: {text}" if label else text)


def _what(surface: Surface) -> str:
    facts, metric = surface.provenance, surface.default_metric
    model = f" of {facts['model']}" if facts.get("model") else ""
    arguments = facts.get("model_args")
    if isinstance(arguments, dict) and arguments:
        model += f" ({', '.join(f'{key}={value}' for key, value in arguments.items())})"
    split, _, kind = metric.partition("_")
    number = _of(facts, "samples", split)
    whole = _of(facts, "samples_of", split)
    samples = "" if number is None else f", on all {number:,}" if number == whole else f", on {number:,} of {whole:,}"
    data = f" samples of {facts['data']} ({split})" if samples and facts.get("data") else " samples" if samples else ""
    criterion = f" ({str(facts['criterion']).replace('_', ' ')})" if facts.get("criterion") else ""
    return f"{split.capitalize()} {kind.replace('_', ' ')}{criterion}{model}{samples}{data}."


def _of(facts: Mapping[str, Any], name: str, split: str) -> int | None:
    counts = facts.get(name)
    count = counts.get(split) if isinstance(counts, dict) else None
    return count if isinstance(count, int) else None


def _plane(facts: Mapping[str, Any], axes: int) -> str:
    directions = [one for one in facts.get("directions") or [] if isinstance(one, dict)]
    origin = f" around {facts['checkpoint']}" if facts.get("checkpoint") else ""
    shares = facts.get("explained_variance_ratio")
    if isinstance(shares, list) and len(shares) == 2:
        return (
            f"Plane of the first two principal components of the checkpoints{origin} "
            f"({100 * shares[0]:.1f} % and {100 * shares[1]:.1f} % of their variance)."
        )
    if any(one.get("to") for one in directions):
        return f"Directions to other checkpoints{origin}."
    if any(one.get("given") for one in directions) or not directions:
        return f"Given directions{origin}." if directions else ""
    norm = _NORMS.get(str(directions[0].get("norm")), str(directions[0].get("norm")))
    many = "Two random" if axes == 2 else "A random" if axes == 1 else "Three random"
    seed = f", seed {facts['seed']}" if "seed" in facts else ""
    return f"{many} Gaussian direction{'s' if axes > 1 else ''}{origin}, {norm}{seed}."


def _numbers(surface: Surface) -> str:
    values = surface.metric()
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    grid = " × ".join(str(len(axis)) for axis in surface.axes)
    ends = ", ".join(f"{name} from {axis[0]:.4g} to {axis[-1]:.4g}" for name, axis in zip("xyz", surface.axes, strict=False))
    scale = metric_scale(values)
    drawn = (
        f" Heights are ln(loss + {scale.offset:.4g})."
        if surface.default_metric.endswith("loss") and len(surface.axes) == 2
        else ""
    )
    accuracy = f" {known_accuracy(surface).capitalize()}." if known_accuracy(surface) else ""
    return f"{grid} points, {ends}; values from {finite.min():.4g} to {finite.max():.4g}.{drawn}{accuracy}"


def _paths(surface: Surface) -> list[str]:
    found = path_numbers(surface.paths, surface.provenance)
    return [f"Path{' of ' + label if label else ''}: {path_line(numbers)}." for label, numbers in found.items()]


def _how(facts: Mapping[str, Any]) -> str:
    if isinstance(facts.get("evaluated"), str):
        return f"Computed with Paraloss: {facts['evaluated']}."
    precision = f" in {facts['precision']}" if isinstance(facts.get("precision"), str) else ""
    return f"Computed with Paraloss{precision}."
