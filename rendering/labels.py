"""Titles of surfaces from what their files record: of one its model, of several what distinguishes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paraloss.surface import Surface
from paraloss.text import printable

_LONGEST = 40
_TRAINED = ("epoch", "epochs", "batch_size", "lr", "weight_decay", "seed")


def default_labels(surfaces: Sequence[Surface], names: Sequence[str] = ()) -> list[str]:
    """One title per surface: ``default_label`` where these differ in the model, else the recorded facts that differ.

    Args:
        surfaces: surfaces of one picture.
        names: names of their files, for surfaces that no recorded fact distinguishes.
    """
    usual = [default_label(surface) for surface in surfaces]
    models = [str(surface.provenance.get("model")) for surface in surfaces]
    if len(surfaces) == 1 or len(set(models)) == len(surfaces):
        return usual
    facts = [_facts(surface.provenance) for surface in surfaces]
    keys = [key for key in dict.fromkeys(key for one in facts for key in one) if len({one.get(key) for one in facts}) > 1]
    several = len(set(models)) > 1
    if not keys and not several and len(set(names)) == len(surfaces):
        return [printable(", ".join(filter(None, [n, known_accuracy(s)]))) for n, s in zip(names, surfaces, strict=True)]
    found = []
    for surface, model, one in zip(surfaces, models, facts, strict=True):
        parts = [model] if several and surface.provenance.get("model") else []
        parts += [_text(key, one[key]) for key in keys if key in one][:3]
        found.append(printable(", ".join(filter(None, [*parts, known_accuracy(surface)]))))
    if len(set(found)) == len(found):
        return found
    return [printable(name) for name in names] if len(set(names)) == len(surfaces) else usual


def _facts(provenance: Mapping[str, Any]) -> dict[str, str]:
    """What may distinguish a surface from another one of the same model, in the order of importance."""
    arguments, trained = provenance.get("model_args"), provenance.get("trained")
    facts = dict(arguments) if isinstance(arguments, dict) else {}
    if isinstance(trained, dict):
        facts |= {key: trained[key] for key in _TRAINED if key in trained}
    facts |= {key: provenance[key] for key in ("checkpoint", "data", "criterion") if key in provenance}
    return {str(key): str(value)[:_LONGEST] for key, value in facts.items()}


def _text(key: str, value: str) -> str:
    return value if key in ("checkpoint", "data", "criterion") else f"{key.replace('_', ' ')} {value}"


def default_label(surface: Surface) -> str:
    """Name of the model and its accuracy on test (or train) data, as far as the file records them."""
    facts = surface.provenance
    parts = [str(facts["model"])] if facts.get("model") else []
    accuracy = known_accuracy(surface)
    if accuracy:
        parts.append(accuracy)
    return printable(", ".join(parts))


def known_accuracy(surface: Surface) -> str:
    """``test accuracy 98.6 %`` from the record of training, else from the center, where it is on the grid; empty if unknown."""
    found = surface.provenance.get("trained")
    trained: dict[str, Any] = found if isinstance(found, dict) else {}
    for split in ("test", "train"):
        name = f"{split}_acc"
        if isinstance(trained.get(name), (int, float)):
            return f"{split} accuracy {trained[name]:.1f} %"
        if name in surface.metrics and surface.center is not None:
            accuracy = surface.metrics[name][surface.center]
            if np.isfinite(accuracy):
                return f"{split} accuracy {accuracy:.1f} %"
    return ""
