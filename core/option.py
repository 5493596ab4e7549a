"""Options as frozen dataclasses that check themselves: a field is defined, documented and checked in one place.

Python's users pass the dataclasses or their fields by name, the command line makes flags and help of them, and a file's
provenance holds their values.

>>> @dataclass(frozen=True, kw_only=True)
... class Effort(Options):
...     ranks: int = option(1, at_least(1))
...     '''Number of ranks.'''
>>> combine(Effort, [Effort(ranks=2)], {"ranks": 3}, "run")
Effort(ranks=3)
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from paraloss.errors import InputError

Check = Callable[[Any], str]
Kind = TypeVar("Kind", bound="Options")


def option(default: Any, *checks: Check, decides: bool = False) -> Any:
    """Define a field of an ``Options`` dataclass.

    Args:
        default: value where the option is not given.
        checks: functions that return what a value must do ("be at least 1"), or "" where it does; not called for None.
        decides: whether the option decides the values of the file. A file that was begun with another value is not
            continued; files from before the option existed count as computed with its default.
    """
    return field(default=default, metadata={"checks": checks, "decides": decides})


@dataclass(frozen=True)
class Flag:
    """What the command line makes of an option where its name and type do not say it; stands in the field's ``Annotated``.

    Attributes:
        names: flags in place of the field's name.
        opposite: whether a truth value or a list has a flag for its opposite, as --no-progress.
        parsed: whether there is a flag at all; another group may have it.
    """

    names: tuple[str, ...] = ()
    opposite: bool = True
    parsed: bool = True


def at_least(bound: int) -> Check:
    """Check for numbers from ``bound`` on."""
    return lambda value: "" if value >= bound else f"be at least {bound}"


def at_most(bound: int) -> Check:
    """Check for numbers up to ``bound``."""
    return lambda value: "" if value <= bound else f"be at most {bound:,}"


def above(bound: float) -> Check:
    """Check for numbers greater than ``bound``."""
    return lambda value: "" if value > bound else f"be above {bound:g}"


def within(low: float, high: float) -> Check:
    """Check for numbers from ``low`` to ``high``."""
    return lambda value: "" if low <= value <= high else f"lie between {low:g} and {high:g}"


def is_share(value: float) -> str:
    """Check for numbers between 0 and 1, both excluded."""
    return "" if 0 < value < 1 else "lie between 0 and 1 (0.01 is one percent)"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all groups of options; checks every field when an instance is made.

    The annotations give the type: a whole number, a finite number, a truth value or one of the texts of a ``Literal``. Other
    types are checked by the group itself, in ``check``.

    Raises:
        InputError: a value of another type, or one that a check refuses.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            value = getattr(self, one.name)
            wrong = _wrong_type(value, hints[one.name])
            if not wrong and value is not None:
                wrong = next((text for check in one.metadata.get("checks", ()) if (text := check(value))), "")
            if wrong:
                raise InputError(f"{{{one.name}}} must {wrong}, not {_short(value)}", arguments=(one.name,))
        self.check()

    def check(self) -> None:
        """Check what concerns several fields at once; nothing here."""

    def part(self, kind: type[Kind]) -> Kind:
        """Return the options of one group, ``kind``, out of these."""
        return kind(**{one.name: getattr(self, one.name) for one in fields(kind)})

    def facts(self) -> dict[str, Any]:
        """Return every field as JSON types, for a file's provenance; a model or tensors appear as their type only."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}

    def deciding(self) -> dict[str, Any]:
        """Return the fields that decide the values of a file, where they differ from their defaults."""
        deciding = [one.name for one in fields(self) if one.metadata.get("decides") and getattr(self, one.name) != one.default]
        return {name: _plain(getattr(self, name)) for name in deciding}


def combine(kind: type[Kind], groups: Iterable[Options], keywords: Mapping[str, Any], caller: str) -> Kind:
    """Make one ``kind`` of groups of options and of single options; later groups win over earlier ones, keywords over all.

    Args:
        kind: class of the result; has the fields of all groups.
        groups: instances of ``kind`` or of its parts.
        keywords: values of single options.
        caller: name of the public function, for messages.

    Raises:
        TypeError: a group that ``kind`` has no place for, or a keyword that is not an option.
        InputError: a value that the options' own checks refuse.
    """
    names = [one.name for one in fields(kind)]
    values: dict[str, Any] = {}
    for group in groups:
        if not isinstance(group, Options) or not issubclass(kind, type(group)):
            raise TypeError(f"{caller}() takes groups of options such as PlaneOptions(…) here, not {type(group).__name__}")
        values.update({one.name: getattr(group, one.name) for one in fields(group)})
    for name in keywords:
        if name not in names:
            raise TypeError(f"{caller}() got an unexpected keyword argument '{name}'{suggestion(name, names)}")
    return kind(**{**values, **keywords})


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean …?" where a candidate is really close to ``word``, else ""."""
    bare = {candidate.lstrip("-"): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lstrip("-"), bare, n=1, cutoff=0.8)
    return f"; did you mean {bare[close[0]]}?" if close else ""


def _wrong_type(value: Any, hint: Any) -> str:
    """Return what a value of type ``hint`` must do, or "" where ``value`` does."""
    kinds = (hint,) if get_origin(hint) is Literal else (get_args(hint) or (hint,))
    if value is None:
        return "" if type(None) in kinds else "be given"
    choices = [text for kind in kinds if get_origin(kind) is Literal for text in get_args(kind)]
    if choices:
        return "" if value in choices else f"be {_either(choices)}"
    if bool in kinds:
        return "" if isinstance(value, bool) else "be True or False"
    if int in kinds:
        return "" if isinstance(value, numbers.Integral) and not isinstance(value, bool) else "be a whole number"
    if float in kinds:
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return "" if number and math.isfinite(value) else "be a finite number"
    return ""


def _either(choices: list[str]) -> str:
    *others, last = [f"'{choice}'" for choice in choices]
    return f"{', '.join(others)} or {last}"


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist") and type(value).__module__ == "numpy":
        return value.tolist()
    return f"<{type(value).__name__}>"
