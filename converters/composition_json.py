"""A composition as JSON, for an engine in another process. Values are checked against the dataclasses' own types."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from paraloss.converters.composition import Composition
from paraloss.errors import InputError
from paraloss.look import COLOR_MAPS


def to_json(composition: Composition) -> str:
    """The composition without its axes, which ParaView does not draw."""
    facts = asdict(composition)
    del facts["axes"]
    return json.dumps(facts, allow_nan=False)


def from_json(text: str) -> Composition:
    """The composition that ``to_json`` wrote.

    Raises:
        InputError: no JSON, or a value that does not fit; the message names its place.
    """
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the composition is not JSON: {error}") from error
    composition: Composition = _decode(Composition, facts, "composition", leave_out=("axes",))
    if composition.scale is not None and composition.scale.color_map not in COLOR_MAPS:
        raise InputError(f"composition.scale.color_map: unknown color map '{composition.scale.color_map}'")
    return composition


def _decode(kind: Any, value: Any, place: str, leave_out: tuple[str, ...] = ()) -> Any:
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, place, leave_out)
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in choices:
            return None
        return _decode(next(choice for choice in choices if choice is not NoneType), value, place)
    if origin is tuple:
        return _decode_tuple(choices, value, place)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    raise InputError(f"{place}: expected {getattr(kind, '__name__', kind)}, got {json.dumps(value)[:60]}")


def _decode_dataclass(kind: Any, value: Any, place: str, leave_out: tuple[str, ...]) -> Any:
    names = [option.name for option in fields(kind) if option.name not in leave_out]
    if not isinstance(value, dict) or set(value) != set(names):
        raise InputError(f"{place}: expected the fields {', '.join(names)}")
    hints = get_type_hints(kind)
    return kind(**{name: _decode(hints[name], value[name], f"{place}.{name}") for name in names})


def _decode_tuple(choices: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise InputError(f"{place}: expected a list, got {json.dumps(value)[:60]}")
    kinds = [choices[0]] * len(value) if choices[1:] == (Ellipsis,) else list(choices)
    if len(kinds) != len(value):
        raise InputError(f"{place}: expected {len(kinds)} values, got {len(value)}")
    return tuple(_decode(kind, one, f"{place}[{number}]") for number, (kind, one) in enumerate(zip(kinds, value, strict=True)))
