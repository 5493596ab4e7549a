"""Permute the hidden units of one model to match another: the same function, closer weights (Ainsworth et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.api import compute_surface
from paraloss.compute.connected.barrier import Barrier, barriers_of
from paraloss.compute.connected.ends import Call, calls_on, check_ends, choose_splits
from paraloss.compute.directions.plane import tensors_of
from paraloss.compute.forward.batch_norm import normalizing_layers
from paraloss.compute.forward.copying import computing_part, copy_model
from paraloss.compute.forward.precision import arithmetic
from paraloss.compute.inputs.checkpoints import put
from paraloss.compute.inputs.problem import AnySplit, Loss, load_loss, splits_for
from paraloss.compute.inputs.tensors import tied_names
from paraloss.compute.options.connected import AlignKeywords, AlignOptions
from paraloss.compute.options.surface import EffortOptions, Target, names_in
from paraloss.compute.ranks.devices import rank_device
from paraloss.compute.ranks.world import world
from paraloss.compute.symmetry.graph import Symmetries, symmetries_of
from paraloss.compute.symmetry.graph import tensors_of as outputs_of
from paraloss.compute.symmetry.matching import indices, match_activations, match_weights, permuted
from paraloss.errors import InputError
from paraloss.option import Options, combine
from paraloss.progress import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

TOLERANCE = 1e-5
"""Largest difference of an output that is accepted, in units of the largest output where that is above 1."""
_BATCH, _COMPARED, _MATCHED = 32, 256, 2048  # samples
_SEED = 0  # of random inputs
Changes = dict[str, dict[int, np.ndarray]]


@dataclass(frozen=True)
class Alignment:
    """A model in the order of another one.

    Attributes:
        state: the permuted tensors by the model's names, number for number those of the model.
        moved: names of the tensors whose order has changed.
        units: number of groups of hidden units that may be permuted, each by one permutation.
        changed: number of groups whose order has changed.
        still: operators that have no rule, with their number of calls: all that they touch keeps its order.
        difference: largest difference of an output, before and after.
        compared: number of samples on which outputs were compared.
        barriers: statistics of batch norm ("kept", "recomputed") -> "before", "after" -> loss -> barrier.
    """

    state: dict[str, Tensor]
    moved: tuple[str, ...]
    units: int
    changed: int
    still: dict[str, int]
    difference: float
    compared: int
    barriers: dict[str, dict[str, dict[str, Barrier]]] = field(default_factory=dict)


def align(
    model: nn.Module,
    other: Target,
    loss: str | Callable[..., Any] | Loss = "cross_entropy",
    data: Any = None,
    *groups: Options,
    step: str | Callable[..., Any] | None = None,
    **options: Unpack[AlignKeywords],
) -> Alignment:
    """Permute the hidden units of ``other`` to match those of ``model``, without changing what it computes.

    Args:
        model: the model to match. Not modified.
        other: checkpoint, model or state_dict of the one to permute.
        loss: see ``paraloss.compute.load_criterion``.
        data: see ``compute_surface``. None where ``input_shape`` is given: outputs are compared on random inputs.
        groups: options as ``AlignOptions``.
        step: see ``compute_surface``.
        options: single options by name, as in ``AlignOptions``. They win over groups.

    Returns:
        The permuted tensors, and the barriers on the straight line before and after.

    Raises:
        InputError: the model cannot be traced, weights are not finite or the same, data and model do not fit together, or an
            output differs by more than ``TOLERANCE``.
    """
    asked = combine(AlignOptions, groups, options, "align")
    ranks = world()
    model = ranks.on_all(lambda: computing_part(copy_model(model)))
    theirs = ranks.on_all(lambda: dict(tensors_of(other, model, asked.weights_key)))
    ranks.on_all(lambda: check_ends(model, theirs, _titles(other)))
    criterion = ranks.on_all(lambda: load_loss(loss, step))[1]
    splits = {} if data is None else ranks.on_all(lambda: splits_for(criterion, data))
    found = ranks.on_first(lambda: _matched(model, theirs, criterion, splits, asked))
    changes, facts = found
    state = {name: permuted(tensor, changes.get(name, {})) for name, tensor in theirs.items()}
    barriers = _barriers(model, theirs, state, criterion, splits, asked) if splits and asked.points else {}
    return Alignment(state, tuple(changes), barriers=barriers, **facts)


def _titles(other: Target) -> tuple[str, str]:
    return "the first model", str(other) if isinstance(other, str) or hasattr(other, "__fspath__") else "the other model"


def _matched(
    model: nn.Module, theirs: dict[str, Tensor], loss: Loss, splits: Mapping[str, AnySplit], asked: AlignOptions
) -> tuple[Changes, dict[str, Any]]:
    """What changes its order, and the facts of an ``Alignment``; on rank 0."""
    device = rank_device(asked.device)
    moved = copy_model(model, device)
    split = next(iter(choose_splits(splits, names_in(asked.splits or ""), ("train",)).values())) if splits else None

    def calls(most: int) -> Iterable[Call]:
        return _random_calls(moved, asked, device) if split is None else calls_on(moved, loss, split, _BATCH, most, device)

    with arithmetic(device, "fp32", False):
        first = next(iter(calls(_BATCH)))
        found = symmetries_of(moved, *first)
        units = found.units()
        ours = {name: tensor.cpu() for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
        orders = {}
        if asked.by == "activations":
            here = [{n: t.to(device, ours[n].dtype) for n, t in state.items() if n in ours} for state in (ours, theirs)]
            arguments = _placeholders(found, calls(_MATCHED), asked.progress)
            orders = match_activations(found, here[0], here[1], arguments)
        orders = match_weights(found, ours, theirs, asked.seed, orders)
        changes = {name: change for name, axes in found.axes.items() if (change := indices(axes, orders))}
        changes |= {name: changes[first] for name, first in tied_names(model).items() if first in changes}
        difference, compared = _difference(moved, theirs, changes, list(calls(_COMPARED)))
    changed = sum(bool((orders[unit] != np.arange(unit.size)).any()) for unit in units)
    return changes, {
        "units": len(units),
        "changed": changed,
        "still": dict(found.unknown),
        "difference": difference,
        "compared": compared,
    }


def _placeholders(found: Symmetries, calls: Iterable[Call], shown: bool) -> Iterable[list[Any]]:
    """What the graph's placeholders stand for in each call whose shapes are those it was traced with."""
    from torch.utils._pytree import tree_leaves

    wanted: Any = None
    batches = list(calls)
    with Progress("activations", len(batches), unit="batches", shown=shown) as bar:
        for args, kwargs in batches:
            leaves = tree_leaves((args, kwargs))
            shapes = [tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            wanted = wanted or shapes
            if shapes == wanted:
                yield leaves
            bar.advance()


def _random_calls(model: nn.Module, asked: AlignOptions, device: torch.device) -> Iterable[Call]:
    if asked.shape is None:
        raise InputError(
            "there are no data to compare outputs on: name the {data}, or the {input_shape} of one input, as in 3,32,32",
            arguments=("data", "input_shape"),
        )
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    generator = torch.Generator().manual_seed(_SEED)
    inputs = torch.randn((_BATCH, *asked.shape), generator=generator)
    return [((inputs.to(device, dtype),), {})]


@torch.no_grad()
def _difference(model: nn.Module, theirs: Mapping[str, Tensor], changes: Changes, calls: list[Call]) -> tuple[float, int]:
    """The largest difference of an output, and the number of samples; float64 decides where rounding alone is more.

    Raises:
        InputError: the difference is above ``TOLERANCE``.
    """
    state = {name: permuted(tensor, changes.get(name, {})) for name, tensor in theirs.items()}
    for exactly in (False, True):
        tried = copy_model(model).double() if exactly else model
        outputs = []
        for tensors in (theirs, state):
            put(tried, tensors, "the other model")
            outputs.append([outputs_of(_call(tried, call, exactly)) for call in calls])
        found = [
            (float((a.double() - b.double()).abs().max()), float(a.double().abs().max()))
            for before, after in zip(*outputs, strict=True)
            for a, b in zip(before, after, strict=True)
            if a.numel() and (a.is_floating_point() or not exactly)
        ]
        difference, largest = (max(column) for column in zip(*found, strict=True))
        if difference <= TOLERANCE * max(1.0, largest):
            return difference, sum(_rows(call) for call in calls)
    raise InputError(
        f"permuted units change an output by {difference:.3g}: this model has an operation that is not understood; "
        "nothing is written"
    )


def _call(model: nn.Module, call: Call, exactly: bool) -> Any:
    from torch.utils._pytree import tree_map

    def double(leaf: Any) -> Any:
        return leaf.double() if exactly and isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    args, kwargs = tree_map(double, call)
    return model(*args, **kwargs)


def _rows(call: Call) -> int:
    tensors = outputs_of(call)
    return len(tensors[0]) if tensors and tensors[0].ndim else 1


def _barriers(
    model: nn.Module,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    loss: Loss,
    splits: Mapping[str, AnySplit],
    asked: AlignOptions,
) -> dict[str, dict[str, dict[str, Barrier]]]:
    """The barriers on both straight lines; with recomputed statistics too where the model has any (Jordan et al. 2023)."""
    ways: dict[str, Any] = {"kept": "keep", **({"recomputed": "recompute"} if normalizing_layers(model) else {})}
    found: dict[str, dict[str, dict[str, Barrier]]] = {}
    shown = asked.progress and world().is_first
    with Progress("straight lines", 2 * len(ways) * asked.points, shown=shown) as bar:
        for name, bn in ways.items():
            for when, end in (("before", before), ("after", after)):
                line = compute_surface(
                    model, loss, splits, asked.part(EffortOptions), x=(0, 1, asked.points), x_to=dict(end), bn=bn,
                    splits=asked.splits, samples=asked.samples, metrics="loss", precision_bound=1e-4, progress=False,
                )  # fmt: skip
                found.setdefault(name, {})[when] = barriers_of(line)
                bar.advance(asked.points)
    return found


def report(found: Alignment) -> list[str]:
    """Lines about an alignment."""
    kept = ", ".join(f"{name} ({count})" for name, count in found.still.items())
    lines = [
        f"{found.changed} of {found.units} groups of units permuted, {len(found.moved)} tensors in another order",
        *([f"without a rule, so that what they touch keeps its order: {kept}"] if kept else []),
        f"outputs of {found.compared} samples: largest difference {found.difference:.2g}",
    ]
    for statistics, both in found.barriers.items():
        how = f", batch norm's statistics {statistics}" if len(found.barriers) > 1 else ""
        for name, before in both["before"].items():
            after = both["after"][name]
            lines.append(f"barrier of {name} on the straight line{how}: {before.height:.4g} before, {after.height:.4g} after")
    return lines
