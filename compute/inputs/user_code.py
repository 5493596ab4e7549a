"""Names on the command line that stand for the user's own code: ``file.py:callable`` or ``package.module:callable``.

This runs the user's code; that is its purpose. Checkpoints, in contrast, never run code (see ``checkpoints``).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paraloss.errors import InputError, ParalossError


def is_reference(name: str) -> bool:
    """Whether ``name`` has the form ``place:callable``."""
    place, _, attribute = name.rpartition(":")
    if not attribute.replace(".", "_").isidentifier():
        return False
    return place.endswith(".py") or (bool(place) and not Path(attribute).exists())


def load_reference(reference: str) -> Any:
    """The object that ``file.py:name`` or ``package.module:name`` stands for.

    Raises:
        InputError: no such file or module, an error while it was loaded, or no such name in it.
    """
    place, _, attribute = reference.rpartition(":")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ParalossError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(f"{reference}: no module named '{error.name}'; give a file as path/to/file.py:name") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{reference}: {place} could not be loaded: {type(error).__name__}: {one_line(error)}") from error
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{reference}: {place} defines no '{attribute}'")
        found = getattr(found, part)
    return found


def call_reference(reference: str, arguments: Mapping[str, Any]) -> Any:
    """Load ``reference`` and call it; an object that is not callable is returned as it is.

    Raises:
        InputError: as ``load_reference``, or the call failed.
    """
    target = load_reference(reference)
    if not callable(target) or (hasattr(target, "forward") and not isinstance(target, type)):
        return target
    try:
        return target(**arguments)
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise InputError(f"{reference}({given}) failed: {type(error).__name__}: {one_line(error)}") from error


def parse_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """``["depth=56", "act=relu"]`` -> ``{"depth": 56, "act": "relu"}``.

    Raises:
        InputError: an entry without '='.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"'{pair}' is not of the form name=value, as in depth=56")
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[key] = text
    return arguments


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"paraloss_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))  # the file's own neighbors, as when it is run
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
