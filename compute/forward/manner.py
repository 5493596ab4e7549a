"""How a model wants to be run: gradients, memory layout, type of its inputs, random numbers. Found by trying.

The judge is the user's own loop: what it would compute on the batch as it comes. A faster manner is taken where it gives
the same, and a model whose answer depends on what it saw before is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paraloss.compute.inputs.randomness import generator_states, restore, same_states, seeded
from paraloss.compute.inputs.trees import map_tensors, tensors_in
from paraloss.errors import InputError, ParalossError

Gradients = Literal["inference", "no_grad", "grad"]
_SAME = 1e-5  # relative difference of two runs of the same batch that rounding may bring


@dataclass(frozen=True)
class Manner:
    """How to run a model on a batch.

    Attributes:
        gradients: ``inference`` and ``no_grad`` record nothing; ``grad`` as in training, for models that differentiate.
        channels_last: whether images are given in that layout.
        cast: type that floating-point inputs and targets are converted to; None gives them as they are.
        clone: give each batch as a copy, because the model or the loss writes into it.
        draws: whether the model or the loss draws random numbers.
    """

    gradients: Gradients = "inference"
    channels_last: bool = True
    cast: torch.dtype | None = None
    clone: bool = False
    draws: bool = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The context for gradients."""
        with {"inference": torch.inference_mode, "no_grad": torch.no_grad, "grad": torch.enable_grad}[self.gradients]():
            yield

    def prepare(self, inputs: Any) -> Any:
        """``inputs`` (any structure of tensors) as the model wants them."""
        return map_tensors(self._prepared, inputs)

    def _prepared(self, leaf: Tensor) -> Tensor:
        if leaf.ndim == 4 and leaf.layout == torch.strided:
            leaf = leaf.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)
        if self.cast is not None and leaf.is_floating_point():
            leaf = leaf.to(self.cast)
        return leaf.clone() if self.clone else leaf


def find_manner(run: Callable[[Any, Any], Any], batches: Sequence[tuple[Any, Any]], types: Sequence[torch.dtype]) -> Manner:
    """The fastest manner in which ``run`` gives what a plain loop gives.

    Args:
        run: (inputs, targets) -> outputs and losses, any structure of tensors; raises what the model or the loss raises.
        batches: one or two of (inputs, targets), a few samples each.
        types: floating-point types that the model computes in; inputs are converted only if it refuses their own type.

    Raises:
        InputError: the result depends on what was run before.
        Exception: what ``run`` raised in the plainest manner, if it fails in every manner.
    """
    inputs, targets = batches[0]
    plain, expected = _plainest(run, inputs, targets, types)
    draws = not _draws_nothing(run, plain, inputs, targets)
    manner = replace(plain, draws=draws, clone=_writes(run, plain, inputs, targets))
    _check_stateless(run, manner, batches, expected)
    for candidate in (
        replace(manner, gradients="inference", channels_last=True),
        replace(manner, gradients="inference"),
        replace(manner, gradients="no_grad", channels_last=True),
        replace(manner, gradients="no_grad"),
        replace(manner, channels_last=True),
    ):
        result = _attempt(run, candidate, inputs, targets)
        if not isinstance(result, Exception) and same(expected, result):
            return candidate
    return manner


def same(expected: Any, found: Any, tolerance: float = _SAME) -> bool:
    """Whether all tensors of two results agree to ``tolerance`` of the largest; what is not finite must be so in both."""
    pairs = [tree_leaves(part) for part in (expected, found)]
    if len(pairs[0]) != len(pairs[1]):
        return False
    for one, other in zip(*pairs, strict=True):
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            continue
        if one.shape != other.shape:
            return False
        one, other = (t.detach().to(torch.complex128 if t.is_complex() else torch.float64) for t in (one, other))
        finite = one[one.isfinite()].abs()
        scale = float(finite.max()) if finite.numel() else 0.0
        if not torch.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
            return False
    return True


def _plainest(run: Callable[[Any, Any], Any], inputs: Any, targets: Any, types: Sequence[torch.dtype]) -> tuple[Manner, Any]:
    """As the user's loop would: the batch as it comes, in its own layout, without recording gradients if that works."""
    given = {leaf.dtype for leaf in tensors_in(inputs) if leaf.is_floating_point()}
    casts: list[torch.dtype | None] = [None, *(dtype for dtype in types if given - {dtype})]
    first: Exception | None = None
    for cast in casts:
        for gradients in ("no_grad", "grad"):
            manner = Manner(gradients, False, cast, clone=True)
            result = _attempt(run, manner, inputs, targets)
            if not isinstance(result, Exception):
                return replace(manner, clone=False), result
            first = first or result
    assert first is not None
    raise first


def _attempt(run: Callable[[Any, Any], Any], manner: Manner, inputs: Any, targets: Any) -> Any:
    """The result, or the exception."""
    try:
        with seeded(0), replace(manner, clone=True).recording():
            return run(*replace(manner, clone=True).prepare((inputs, targets)))
    except Exception as error:
        return error


def _draws_nothing(run: Callable[[Any, Any], Any], manner: Manner, inputs: Any, targets: Any) -> bool:
    before = generator_states()
    try:
        with manner.recording():
            run(*replace(manner, clone=True).prepare((inputs, targets)))
        return same_states(before, generator_states())
    finally:
        restore(before)


def _writes(run: Callable[[Any, Any], Any], manner: Manner, inputs: Any, targets: Any) -> bool:
    """Whether the model or the loss changes its batch in place."""
    given, kept = replace(manner, clone=True).prepare((inputs, targets)), replace(manner, clone=True).prepare((inputs, targets))
    with seeded(0), manner.recording():
        run(*given)
    pairs = zip(tensors_in(given), tensors_in(kept), strict=True)
    return not all(torch.equal(_dense(one), _dense(other)) for one, other in pairs)


def _dense(tensor: Tensor) -> Tensor:
    return (tensor if tensor.layout == torch.strided else tensor.to_dense()).detach().nan_to_num()


def _check_stateless(run: Callable[[Any, Any], Any], manner: Manner, batches: Sequence[tuple[Any, Any]], expected: Any) -> None:
    for inputs, targets in (*batches[1:], batches[0]):
        result = _attempt(run, manner, inputs, targets)
        if isinstance(result, ParalossError):
            raise result
    if isinstance(result, Exception):
        raise InputError(
            f"the model cannot be run twice ({type(result).__name__}: {' '.join(str(result).split())[:120]}); "
            "it keeps something between calls: reset it at the start of forward"
        ) from result
    if not same(expected, result):
        raise InputError(
            "the model or the loss gives another result for the same batch when it has seen others in between: it keeps "
            "something between calls (a hidden state, a counter, statistics); reset it at the start of forward"
        )


class ForeignTensors(TorchDispatchMode):
    """Watches which of ``model``'s tensors are used while a copy of it runs: a lambda, hook or loss may hold the original.

    Args:
        model: the original.
        names: tensors to watch: those that move.

    Attributes:
        seen: names of the tensors that were used.
    """

    def __init__(self, model: nn.Module, names: Collection[str]) -> None:
        super().__init__()
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        found = {name: _storage(tensor) for name, tensor in tensors.items() if name in names}
        self._names = {storage: name for name, storage in found.items() if storage}
        self.seen: set[str] = set()

    def check(self) -> None:
        """Check that none was used.

        Raises:
            InputError: one was; names it.
        """
        if self.seen:
            raise InputError(
                f"the model or the loss uses '{min(self.seen)}' of the model that was handed in, while a copy of it is moved: "
                "a lambda, a hook or a closure holds it; make it a method that reads self, or take the model as an argument"
            )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and _storage(leaf) in self._names:
                self.seen.add(self._names[_storage(leaf)])
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    if tensor.layout != torch.strided or not tensor.numel():
        return 0
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # functorch's wrappers have none
        return 0
