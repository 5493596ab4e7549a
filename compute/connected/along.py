"""One connection: what is connected and where, the same on every rank; and the losses along its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from paraloss.compute.connected.curves import shares
from paraloss.compute.connected.planes import difference
from paraloss.compute.directions.between import movable
from paraloss.compute.directions.random import Direction
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.evaluate.exact import FullEstimator
from paraloss.compute.evaluate.guarded import Guarded
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.forward.batch_norm import normalizing_layers
from paraloss.compute.inputs.checkpoints import load_checkpoint
from paraloss.compute.inputs.problem import AnySplit, Loss
from paraloss.compute.inputs.tensors import state_tensors
from paraloss.compute.lowest import Place
from paraloss.compute.options.connected import ConnectOptions
from paraloss.compute.ranks.devices import rank_device
from paraloss.compute.ranks.sharing import from_first
from paraloss.compute.ranks.world import World, world
from paraloss.locking import locked
from paraloss.progress import Progress
from paraloss.stopping import keeping
from paraloss.surface import PENDING, Surface, SurfaceWriter

CURVE = "curve.h5"


@dataclass(frozen=True)
class CurveJob:
    """What is connected, the same on every rank."""

    model: nn.Module
    other: dict[str, Tensor]
    loss: Loss
    chosen: Mapping[str, AnySplit]
    training: AnySplit
    asked: ConnectOptions
    folder: Path
    record: Mapping[str, Any]
    settings: Mapping[str, Any]
    world: World = field(default_factory=world)

    @property
    def bn_data(self) -> AnySplit | None:
        """Samples for batch norm's statistics along the curve, where the model has any."""
        return self.training if normalizing_layers(self.model) else None

    @property
    def bends(self) -> tuple[Path, ...]:
        """Files of the bends."""
        count = self.asked.bends
        return tuple(self.folder / ("bend.pt" if count == 1 else f"bend_{k}.pt") for k in range(1, count + 1))

    def places(self) -> np.ndarray:
        """(points,) from 0 to 1 along the curve."""
        return np.linspace(0, 1, self.asked.points)


def directions_of(job: CurveJob) -> list[Direction]:
    """From the first end to each bend, and to the last end, on every rank."""
    return from_first(job.world, job.world.on_all(lambda: read_directions(job) if job.world.is_first else []))


def read_directions(job: CurveJob) -> list[Direction]:
    """The same from the files of the bends, without batch norm's statistics where they are recomputed."""
    own = state_tensors(job.model)
    names = [name for name in movable(job.model) if job.bn_data is None or not name.endswith(("running_mean", "running_var"))]
    ends = [load_checkpoint(bend, model=job.model)[0] for bend in job.bends] + [job.other]
    return [difference(end, own, [name for name in names if name in end]) for end in ends]


def parts_at(job: CurveJob, places: np.ndarray) -> np.ndarray:
    return shares(job.asked.curve, job.asked.bends, places)


def place_of_bend(job: CurveJob, bend: Mapping[str, Tensor], number: int) -> Place:
    """The place of a bend; buffers lie on the straight line, batch norm's statistics are those of the network there."""
    own = state_tensors(job.model)
    share = number / (job.asked.bends + 1)
    aside = {name: difference(bend, own, [name])[name] for name in bend}
    rest = [name for name in movable(job.model) if name not in bend and name in job.other]
    aside |= {name: share * difference(job.other, own, [name])[name] for name in rest}
    return Place([aside], [1.0], job.bn_data)


def along_curve(job: CurveJob, directions: Sequence[Direction], facts: Mapping[str, Any]) -> Surface:
    """The metrics at each place of the curve, kept in a file as they come."""
    ranks, places = job.world, job.places()
    steps = parts_at(job, places)[:, 1:]
    evaluator = ranks.on_all(lambda: _evaluator(job, directions))
    empty = Surface(
        x=places,
        y=None,
        metrics={name: np.full(len(places), np.nan) for name in evaluator.metrics},
        status=np.full(len(places), PENDING, np.uint8),
        provenance={**facts, "along": "curve"},
    )
    fingerprint = {
        **job.settings, "points": len(places), "splits": {name: split.sha256() for name, split in job.chosen.items()}
    }  # fmt: skip
    path = job.folder / CURVE
    with ExitStack() as stack:

        def open_file() -> Any:
            if not ranks.is_first:
                return None
            stack.enter_context(locked(path))
            return stack.enter_context(SurfaceWriter(path, empty, fingerprint, job.asked.overwrite))

        writer = ranks.on_all(open_file)
        todo = ranks.on_first(lambda: writer.pending().tolist())
        evaluate = Guarded(FullEstimator(evaluator, steps), evaluator, steps, lambda _: nullcontext())
        save = writer.flush if ranks.is_first else _nothing
        stack.enter_context(keeping(lambda: f"what is finished is kept in {job.folder}; the same command goes on from there"))
        shown = job.asked.progress and ranks.is_first
        with Progress("along the curve", len(places), len(places) - len(todo), shown=shown) as bar:

            def record(index: int, values: list[float]) -> None:
                writer.add(index, values)
                bar.advance()

            ranks.on_all(lambda: ranks.visit(todo, evaluate, record, save))
        surface: Surface = ranks.on_first(lambda: writer.surface())
    return surface


def _evaluator(job: CurveJob, directions: Sequence[Direction]) -> PointEvaluator:
    return make_evaluator(
        job.model, job.loss, job.chosen, directions, rank_device(job.asked.device, job.world),
        batch_size=job.asked.batch_size, bn_data=job.bn_data,
    )  # fmt: skip


def _nothing() -> None:
    pass
