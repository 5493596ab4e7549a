"""Pickles read without running anything: classes that are not known to be plain data become stand-ins.

A stand-in remembers what it was made from. Nothing that a pickle names is imported, called or given attributes, except torch's
own functions that rebuild tensors (those that ``torch.load(weights_only=True)`` admits) and a few containers.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

# A pickle that asks for one of these is a trap, and is refused with its name instead of being read around.
_RUNNERS = {
    "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "pty", "ctypes", "code", "webbrowser",
    "commands", "asyncio", "signal", "threading", "urllib", "http", "ftplib", "smtplib", "pip", "timeit", "pdb", "bdb",
}  # fmt: skip
_RUNNING_BUILTINS = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "execfile", "setattr", "delattr"}
_CONTAINERS: dict[str, type] = {
    "set": set, "frozenset": frozenset, "dict": dict, "list": list, "tuple": tuple, "complex": complex, "bytearray": bytearray,
    "object": object,
}  # fmt: skip


class StandIn:
    """An object of a class that is not loaded.

    Attributes:
        asked: the class or function that the file names, as ``module.name``.
        args: what it would have been called with.
        state: what its attributes would have been set from; None where there is nothing.
        items: what would have been put into it by key.
        members: what would have been appended to it.
    """

    asked = ""
    dump_patches = False  # torch's reader of old files would write a patch file for a class that says otherwise

    def __new__(cls, *args: Any, **options: Any) -> StandIn:
        made = object.__new__(cls)
        made.args, made.state, made.items, made.members = (*args, *options.values()), None, {}, []
        return made

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any
        self.items: dict[Any, Any]
        self.members: list[Any]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """Take what a list would take."""
        self.members.append(value)

    def extend(self, values: Any) -> None:
        """Take what a list would take."""
        self.members.extend(values)

    add = append

    def __repr__(self) -> str:
        return f"<{self.asked}, not loaded>"

    @property
    def attributes(self) -> Mapping[Any, Any]:
        """The state where it is a dict, as it is for most classes; with slots, those too."""
        parts = self.state if isinstance(self.state, tuple) and len(self.state) == 2 else (self.state,)
        return {key: value for part in parts if isinstance(part, Mapping) for key, value in part.items()}


class RestrictedUnpickler(pickle._Unpickler):
    """Python's own unpickler, in which whatever could run, import or change something is replaced or refused."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]  # this and ``append`` are of the class above
    append: Callable[[Any], None]

    def find_class(self, module: str, name: str) -> Any:
        """One of the admitted classes and functions, else a stand-in for ``module.name``; nothing is imported."""
        known = _admitted().get(f"{module}.{name}")
        if known is not None:
            return known
        builtin = module in ("builtins", "__builtin__")
        if builtin and name in _CONTAINERS:
            return _CONTAINERS[name]
        if module.split(".")[0] in _RUNNERS or (builtin and name in _RUNNING_BUILTINS):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return type("StandIn", (StandIn,), {"asked": f"{module}.{name}"})

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(_admit(function)(*arguments))

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.append(_admit(kind)(*arguments))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        options, arguments, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(_admit(kind)(*arguments, **options))

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _instantiate(self, kind: Any, arguments: Any) -> None:
        self.append(_admit(kind)(*arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].state = state

    dispatch[pickle.BUILD[0]] = load_build

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("it uses copyreg's extensions")


# torch.load takes a module with these two names as its ``pickle_module``.
Unpickler = RestrictedUnpickler


def load(file: BinaryIO, **options: Any) -> Any:
    """What ``pickle.load`` gives, with stand-ins; see ``RestrictedUnpickler``."""
    return RestrictedUnpickler(file, **options).load()


def loads(data: bytes) -> Any:
    """What ``pickle.loads`` gives, with stand-ins."""
    return load(io.BytesIO(data))


def as_tensor(value: Any) -> Tensor | None:
    """A tensor, a numpy array or the stand-in of one as a tensor; None for everything else."""
    if isinstance(value, Tensor):
        return value
    array = value if isinstance(value, np.ndarray) else _decoded(value) if isinstance(value, StandIn) else None
    if array is None or array.dtype.kind not in "biufc":
        return None
    try:
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    except TypeError:  # a type that torch does not have
        return None


def as_number(value: Any) -> float | None:
    """A Python or numpy number, or a tensor of one, as a float; None for everything else, truth values too."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    tensor = as_tensor(value)
    return None if tensor is None or tensor.numel() != 1 or tensor.is_complex() else float(tensor)


def _decoded(value: StandIn) -> np.ndarray | None:
    """The numpy array or scalar that a stand-in stands for, from its bytes."""
    package, _, function = value.asked.rpartition(".")
    if package.split(".")[0] != "numpy":
        return None
    try:
        if function == "_reconstruct":
            _, shape, dtype, fortran, data = value.state
            forwards = not fortran
        elif function == "_frombuffer":
            data, dtype, shape, order = value.args
            forwards = order != "F"
        elif function == "scalar":
            (dtype, data), shape, forwards = value.args, (), True
        else:
            return None
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        array: np.ndarray = np.frombuffer(raw, _numpy_type(dtype)).reshape(tuple(shape), order="C" if forwards else "F")
        return array
    except (TypeError, ValueError, IndexError):
        return None


def _numpy_type(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, StandIn) or not dtype.asked.startswith("numpy"):
        raise TypeError("no numpy type")
    code = (
        np.dtype(str(dtype.args[0])) if dtype.args else np.dtype(dtype.asked.rpartition(".")[2].removesuffix("DType").lower())
    )
    if code.kind not in "biufc":
        raise TypeError("no type of numbers")
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "="
    return code.newbyteorder("<" if order == "<" else ">" if order == ">" else "=")


@lru_cache(maxsize=1)
def _admitted() -> dict[str, Any]:
    """The classes and functions that torch itself holds for safe."""
    from torch import _weights_only_unpickler

    return {**_weights_only_unpickler._get_allowed_globals(), "collections.OrderedDict": OrderedDict}


def _admit(function: Any) -> Callable[..., Any]:
    """``function`` itself, where it is a stand-in or admitted.

    Raises:
        pickle.UnpicklingError: it is neither.
    """
    if isinstance(function, type) and issubclass(function, StandIn):
        return function
    if any(function is known for known in (*_admitted().values(), *_CONTAINERS.values())):
        admitted: Callable[..., Any] = function
        return admitted
    raise pickle.UnpicklingError(f"it calls {str(function)[:80]}")
