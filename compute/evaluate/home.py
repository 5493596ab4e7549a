"""A model that is moved itself instead of a copy, and how it comes back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paraloss.compute.directions.moving_in_place import movable_by_name
from paraloss.compute.directions.shards import local_part, reshard
from paraloss.compute.forward.copying import copy_model
from paraloss.compute.forward.precision import converted, converts
from paraloss.compute.inputs.tensors import is_spread
from paraloss.errors import InputError

LARGE = 100_000_000
"""Parameters from which on a model is moved itself and random directions are recipes, where nothing else is asked for."""


class Home:
    """The center of a surface whose model is moved in place; a context that puts the model back at its end.

    Args:
        model: the user's own.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._center: dict[str, Tensor] = {}
        self._others: dict[str, Tensor] = {}  # buffers that do not move, but that the model may write
        self._modes: list[tuple[nn.Module, bool]] = []

    @property
    def is_sharded(self) -> bool:
        """Whether the model lies on several processes (DTensor), which run it together."""
        return is_sharded(self.model)

    @property
    def is_spread(self) -> bool:
        """Whether the model lies on several processes or devices (``device_map``), so that there can be no copy of it."""
        return self.is_sharded or len({tensor.device for tensor in _tensors(self.model)}) > 1

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lies: where inputs go."""
        return next(_tensors(self.model)).device

    def body(self, device: torch.device, precision: str, names: Collection[str]) -> tuple[nn.Module, Mapping[str, Tensor]]:
        """Find what is to be moved: the model itself, or a copy where it must be on another device or of other types.

        Args:
            device: where to compute.
            precision: see ``Evaluator``.
            names: the tensors that will move.

        Returns:
            The model to move, and its tensors at the center by name.

        Raises:
            InputError: the model must be copied and cannot be.
        """
        model = self.model
        devices = {tensor.device for tensor in _tensors(model)}
        if converts(model, precision) or not (self.is_spread or devices <= {device}):
            if self.is_spread:
                raise InputError(
                    f"precision {precision} requires a copy of the model, which lies on several processes or devices; "
                    "use precision auto, or convert the model",
                    arguments=("precision",),
                )
            return converted(copy_model(model, device), precision), movable_by_name(model)
        if not self._modes:
            self._modes = [(module, module.training) for module in model.modules()]
            self._others = {name: buffer.detach().clone() for name, buffer in model.named_buffers() if name not in names}
        tensors = movable_by_name(model)
        for name in names:
            if name in tensors and name not in self._center:
                self._center[name] = local_part(tensors[name].detach())[0].clone()
        return model, self._center

    def restore(self) -> None:
        """Put the model back: every number, and the mode of each module."""
        if not self._modes:
            return
        reshard(self.model)
        tensors = movable_by_name(self.model)
        with torch.no_grad():
            for name, numbers in (self._center | self._others).items():
                local_part(tensors[name].detach())[0].copy_(numbers)
        for module, training in self._modes:
            module.training = training
        self._center, self._others, self._modes = {}, {}, []

    def __enter__(self) -> Home:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.restore()


def is_large(model: nn.Module) -> bool:
    """Whether a model has more than ``LARGE`` parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if not is_lazy(parameter)) > LARGE


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's parameters are spread over processes (DTensor)."""
    return any(map(is_spread, model.parameters()))


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())
