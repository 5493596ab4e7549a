"""One computation of a surface, from checked settings to the finished file, on one process or on every rank of a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from paraloss.compute.directions.plane import Plane
from paraloss.compute.directions.random import Direction
from paraloss.compute.evaluate.capped import CappedEvaluator
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.evaluate.tuning import check_points, choose_batch_size, choose_precision
from paraloss.compute.forward.batch_norm import normalizing_layers
from paraloss.compute.forward.precision import own_precision
from paraloss.compute.inputs.checkpoints import state_sha256
from paraloss.compute.inputs.criteria import SampleLosses
from paraloss.compute.inputs.data import DataSet, Split
from paraloss.compute.inputs.tensors import check_movable, state_tensors
from paraloss.compute.inputs.user_code import one_line
from paraloss.compute.ranks.devices import rank_device, who_is_where
from paraloss.compute.ranks.groups import Group
from paraloss.compute.ranks.queue import run_parallel, run_serial
from paraloss.compute.ranks.sharing import same_number, share_direction, share_tensors
from paraloss.compute.ranks.watchdog import Watchdog
from paraloss.compute.ranks.world import on_all_ranks, on_first_rank
from paraloss.compute.schedule.refinement import (
    coarsest_level,
    from_height,
    interpolated,
    level_points,
    points_that_matter,
    to_height,
)
from paraloss.compute.schedule.visit_order import coarse_to_fine
from paraloss.errors import InputError, ParalossError, SurfaceFileError
from paraloss.progress import Progress, say
from paraloss.surface import INTERPOLATED, PENDING, Surface
from paraloss.surface.file import SurfaceWriter, check_fingerprint, read_directions, read_provenance

Sampler = SampledEvaluator | CappedEvaluator


@dataclass(frozen=True)
class Settings:
    """What to compute, checked, the same on every rank; see ``compute_surface`` for what is not told here.

    Attributes:
        criterion: its name, and the function.
        chosen: the splits to evaluate, as drawn.
        population: split -> the number of samples that it was drawn from.
        bn_data: what batch-norm statistics are estimated from at each point; None keeps those there are.
        steps: "x", "y", "z" -> the steps along it, those there are.
        measures: what is told beside loss and accuracy.
        accuracy: tell it where targets are classes.
    """

    model: nn.Module
    criterion: tuple[str, SampleLosses]
    chosen: DataSet
    population: Mapping[str, int]
    bn_data: Split | None
    steps: Mapping[str, np.ndarray]
    plane: Plane
    measures: Sequence[str]
    accuracy: bool
    seed: int
    precision: str
    precision_bound: float
    rtol: float | None
    loss_cap: float | None
    refine: float | None
    split_data: int | None
    point_timeout: float | None
    device: str
    batch_size: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the surface's arrays: x runs fastest, along the last axis."""
        return tuple(len(axis) for axis in self.steps.values())[::-1]

    @cached_property
    def grid(self) -> np.ndarray:
        """(points, axes) the coordinates of every point, in the order of the flat index."""
        axes = np.meshgrid(*list(self.steps.values())[::-1], indexing="ij")
        return np.stack([axis.ravel() for axis in axes[::-1]], axis=1)

    @property
    def sampled(self) -> bool:
        """Whether points are evaluated on a part of the samples."""
        return self.rtol is not None or self.loss_cap is not None

    def fingerprint(self) -> dict[str, Any]:
        """What decides the values: a file that was begun with another one is not continued."""
        return {
            "weights": state_sha256(self.model),
            "data": {name: split.sha256() for name, split in self.chosen.items()},
            "criterion": self.criterion[0],
            "directions": self.plane.fingerprint(),
            "x": self.steps["x"].tolist(),
            "y": self.steps["y"].tolist() if "y" in self.steps else None,
            "precision": self.precision,
            "sampling": {"rtol": self.rtol, "loss_cap": self.loss_cap},
            # Only where they are asked for, so that files of older versions can be finished.
            **({"z": self.steps["z"].tolist()} if "z" in self.steps else {}),
            **({"measures": list(self.measures)} if self.measures else {}),
            **({"bn_data": self.bn_data.sha256()} if self.bn_data is not None else {}),
            **({} if self.accuracy else {"acc": False}),
        }


class Job:
    """The computation of one surface; every rank makes one, with the same settings, and runs it.

    Args:
        settings: what to compute.
        comm: all ranks; None for one process.
        path: the surface file; None keeps the surface in memory.
        overwrite: start again where ``path`` exists.
        progress: tell what happens, on rank 0.

    Raises:
        InputError: the device is not there, or an option does not fit the number of ranks.
        SurfaceFileError: ``path`` cannot be written, or belongs to other settings.
    """

    def __init__(self, settings: Settings, comm: Any | None, path: Path | None, overwrite: bool, progress: bool) -> None:
        self.settings, self.comm, self.path, self.overwrite = settings, comm, path, overwrite
        self.first = comm is None or comm.rank == 0
        self.progress = progress and self.first
        self.device = rank_device(settings.device, comm)
        if comm is not None:
            self.tell(who_is_where(comm, self.device))
        if settings.bn_data is not None and not normalizing_layers(settings.model):
            self.tell("warning: the model has no batch norm with running statistics; there is nothing to recompute")
        on_first_rank(comm, lambda: _check_path(path, overwrite))
        on_all_ranks(comm, lambda: check_movable(settings.model))
        share_tensors(comm, state_tensors(settings.model))
        self.fingerprint = settings.fingerprint()
        self.resumed = path is not None and on_first_rank(comm, lambda: path.exists() and not overwrite)
        self.directions = [share_direction(comm, d) for d in same_number(comm, on_all_ranks(comm, self._make_directions))]
        self._probe: Evaluator | None = None  # rank 0's, so that data are not twice on its device
        self.tuning: dict[str, Any] = on_first_rank(comm, self._tune)
        groups = 1 if comm is None else self._number_of_groups(comm.size)
        self.group = Group(comm, groups) if comm is not None and groups < comm.size else None
        if self.group is not None and settings.sampled:
            raise InputError("--split-data shares all samples of a point; it does not go with --rtol or --loss-cap")
        self.evaluator: Evaluator = on_all_ranks(comm, self._final_evaluator)
        if self.tuning["compiled"] and not self.evaluator.compiled:
            self.evaluator.compile()
        self.sampler: Sampler | None = on_all_ranks(comm, self._make_sampler)

    def run(self, trajectory: Mapping[str, np.ndarray] | None, provenance: Mapping[str, Any]) -> Surface:
        """Evaluate every point that the file does not hold yet.

        Args:
            trajectory: see ``compute_surface``.
            provenance: see ``compute_surface``.

        Returns:
            The complete surface, on every rank.
        """
        with ExitStack() as stack:
            empty = self._empty_surface(trajectory, provenance)
            self.writer = on_all_ranks(self.comm, lambda: self._open_writer(stack, empty))
            save = _nothing if self.writer is None else self.writer.flush
            self.save, self.watchdog = save, Watchdog(self.settings.point_timeout, self.comm, save)
            again = self.settings.refine is None  # points that were interpolated under --refine
            self.pending = set(on_first_rank(self.comm, lambda: self.writer.pending(interpolated=again)).tolist())
            order = coarse_to_fine(self.settings.shape).tolist()
            if self.resumed:
                self.tell(f"resuming: {len(order) - len(self.pending)} of {len(order)} points are there already")
            if isinstance(self.sampler, SampledEvaluator) and self.pending:
                self._learn(self.sampler)
            if self.settings.refine is None:
                self._work(order, "computing")
            else:
                self._refine(self.settings.refine, order)
            surface: Surface = on_first_rank(self.comm, lambda: self.writer.surface())
        return surface

    def tell(self, text: str) -> None:
        """A line on rank 0's standard error, where progress is shown; nothing for an empty one."""
        if text and self.progress:
            say(text)

    def _make_directions(self) -> list[Direction]:
        if not self.first:
            return []
        if self.resumed and self.path is not None:
            check_fingerprint(self.path, self.fingerprint)
            found = read_directions(self.path)
            if found:  # else dropped by a repair: they follow from the settings, which are the same
                return [{n: torch.from_numpy(t) for n, t in found[axis].items()} for axis in "xyz" if axis in found]
        return self.settings.plane.make(self.settings.model, self.tell)

    def _evaluator_in(self, precision: str, size: int | None = None, shard: tuple[int, int] = (0, 1)) -> Evaluator:
        given = self.settings
        return Evaluator(
            given.model, given.criterion[1], given.chosen, self.directions, self.device, size or given.batch_size,
            given.population, precision, shard, given.measures, given.bn_data, given.accuracy,
        )  # fmt: skip

    def _tune(self) -> dict[str, Any]:
        """Precision, batch size and compilation: decided once, by rank 0, and kept when a file is resumed."""
        given, points = self.settings, len(self.settings.grid)
        if self.resumed and self.path is not None:
            return dict(read_provenance(self.path)["tuning"])
        used, differences = given.precision, dict[str, float]()
        if used == "auto" and own_precision(given.model) != "fp32":
            used = own_precision(given.model)
        elif used == "auto":
            used, differences = choose_precision(
                self._evaluator_in, self.device, check_points(given.grid), points, given.precision_bound, self.tell
            )
        self._probe = self._evaluator_in(used)
        size = given.batch_size or choose_batch_size(self._probe, points)
        here = 1 if self.comm is None else self.comm.size
        worth = not given.sampled and self._probe.worth_compiling(points // here)
        return {"precision": used, "difference_from_fp32": differences, "batch_size": size, "compiled": worth}

    def _number_of_groups(self, ranks: int) -> int:
        split_data = 1 if self.settings.measures else self.settings.split_data
        if split_data is not None and split_data > ranks:
            raise InputError(f"--split-data {split_data} needs as many ranks; there are {ranks}")
        return min(ranks, len(self.settings.grid)) if split_data is None else max(1, ranks // split_data)

    def _final_evaluator(self) -> Evaluator:
        if self._probe is not None and self.group is None:
            return self._probe
        shard = (0, 1) if self.group is None else self.group.shard
        return self._evaluator_in(self.tuning["precision"], self.settings.batch_size or self.tuning["batch_size"], shard)

    def _make_sampler(self) -> Sampler | None:
        given = self.settings
        if given.rtol is not None:
            return SampledEvaluator(self.evaluator, given.shape, given.grid, given.rtol, given.seed, given.loss_cap)
        return None if given.loss_cap is None else CappedEvaluator(self.evaluator, given.grid, given.loss_cap, given.seed)

    def _empty_surface(self, trajectory: Mapping[str, np.ndarray] | None, provenance: Mapping[str, Any]) -> Surface:
        steps, shape = self.settings.steps, self.settings.shape
        return Surface(
            x=steps["x"],
            y=steps.get("y"),
            z=steps.get("z"),
            metrics={name: np.full(shape, np.nan) for name in (self.sampler or self.evaluator).metrics},
            status=np.full(shape, PENDING, np.uint8),
            provenance={**self._facts(), **provenance},
            directions={
                axis: {name: tensor.numpy() for name, tensor in direction.items()}
                for axis, direction in zip("xyz", self.directions, strict=False)
            },
            trajectory=trajectory,
        )

    def _facts(self) -> dict[str, Any]:
        given, evaluator = self.settings, self.evaluator
        return {
            "weights_sha256": self.fingerprint["weights"],
            "samples": {name: len(split) for name, split in given.chosen.items()},
            "samples_of": dict(given.population),
            "criterion": self.fingerprint["criterion"],
            "directions": self.fingerprint["directions"],
            "precision": self.tuning["precision"],
            "tuning": dict(self.tuning),
            "sampling": self.fingerprint["sampling"],
            "seed": given.seed,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
            "ranks": 1 if self.comm is None else self.comm.size,
            "batch_norms_folded": evaluator.folded,
            "not_folded": evaluator.not_folded,
            "relus_fused": evaluator.fused,
            "torch_version": str(torch.__version__),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        }

    def _open_writer(self, stack: ExitStack, empty: Surface) -> SurfaceWriter | None:
        """The file, locked for as long as ``stack`` lives; None on ranks other than 0."""
        if not self.first:
            return None
        if self.path is not None:
            _lock(stack, self.path)
            if self.overwrite:
                self.path.unlink(missing_ok=True)
        return stack.enter_context(SurfaceWriter(self.path, empty, self.fingerprint))

    def _work(self, wanted: Sequence[int], title: str) -> None:
        """Evaluate those of the ``wanted`` points that are pending, coarse to fine, on all ranks."""
        todo = [index for index in wanted if index in self.pending]
        with Progress(title, len(wanted), len(wanted) - len(todo), shown=self.progress) as bar:

            def record(index: int, values: list[float]) -> None:
                self.writer.add(index, values)
                bar.advance()

            if self.comm is None:
                run_serial(todo, self._evaluate, record)
            elif self.group is None:
                run_parallel(self.comm, todo, self._evaluate, record, self.save)
            else:
                on_all_ranks(self.comm, partial(self._work_in_group, self.group, todo, record))
        self.pending.difference_update(todo)

    def _evaluate(self, index: int) -> list[float]:
        """The metrics of one point; with less memory than expected in smaller batches."""
        coordinates = self.settings.grid[index]
        place = ", ".join(f"{axis}={step:g}" for axis, step in zip("xyz", coordinates, strict=False))
        try:
            with self.watchdog.over(place):
                while True:
                    try:
                        if self.sampler is not None:
                            return self.sampler(index)
                        if self.group is not None:
                            return self.group.lead(self.evaluator, coordinates)
                        return self.evaluator(coordinates)
                    except torch.OutOfMemoryError as error:
                        if self.group is not None or not self.evaluator.halve_batch():
                            size = self.evaluator.batch_size
                            raise InputError(
                                f"at {place}: out of memory with {size} samples at once; use another device"
                            ) from error
                        say(f"warning: out of memory at {place}: going on with batches of {self.evaluator.batch_size}")
        except ParalossError:
            raise
        except Exception as error:  # the user's model or loss: whatever it raises is told in one line
            raise InputError(f"at {place}: {type(error).__name__}: {one_line(error)[:200]}") from error

    def _work_in_group(self, group: Group, todo: Sequence[int], record: Callable[[int, list[float]], None]) -> None:
        if group.leaders is None:
            group.follow(self.evaluator)
            return
        try:
            if group.leaders.size == 1:
                run_serial(todo, self._evaluate, record)
            else:
                run_parallel(group.leaders, todo, self._evaluate, record, self.save)
        finally:
            group.release()

    def _learn(self, sampler: SampledEvaluator) -> None:
        """Evaluate the anchors on all ranks and record those that are pending."""
        comm = self.comm
        rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
        share = range(rank, len(sampler.anchors), size)

        def join(table: np.ndarray) -> np.ndarray:
            if comm is None:
                return table
            total = np.empty_like(table)
            comm.Allreduce(table, total)
            return total

        with Progress("evaluating anchors in full", len(share), shown=self.progress) as bar:
            results = on_all_ranks(comm, lambda: sampler.learn(share, join, bar.advance))
        for index, values in results.items():
            if index in self.pending and self.writer is not None:
                self.writer.add(index, values)
        self.pending.difference_update(results)

    def _refine(self, tolerance: float, order: Sequence[int]) -> None:
        """Level by level: evaluate where the surface bends; fill the rest by interpolation at the end."""
        shape = self.settings.shape
        coarsest = coarsest_level(shape)
        place = np.empty(len(order), int)
        place[list(order)] = np.arange(len(order))

        def bends(level: int) -> np.ndarray:
            known = ~np.isin(self.writer.grid("status"), (PENDING, INTERPOLATED))
            return points_that_matter(self.writer.grid(self.writer.default_loss()), known, level, tolerance)

        def in_order(points: np.ndarray) -> list[int]:
            return sorted(points.tolist(), key=lambda index: place[index])

        self._work(in_order(level_points(shape, coarsest)), f"computing, level {coarsest}")
        for level in range(coarsest, 0, -1):
            self._work(in_order(on_first_rank(self.comm, partial(bends, level))), f"computing, level {level - 1}")
        if self.writer is not None:
            _interpolate(self.writer, coarsest)


def _interpolate(writer: SurfaceWriter, coarsest: int) -> None:
    """Fill what was not evaluated from its neighbors, losses along the logarithm that is drawn."""
    known = ~np.isin(writer.grid("status"), (PENDING, INTERPOLATED))
    filled = {}
    for name in writer.names:
        values, logs = writer.grid(name), name.endswith("_loss")
        full = interpolated(to_height(values) if logs else np.nan_to_num(values), known, coarsest)
        filled[name] = (from_height(full) if logs else full)[~known]
    writer.fill(np.flatnonzero(~known.ravel()), filled)


def _lock(stack: ExitStack, path: Path) -> None:
    """Keep a second job off ``path`` for as long as ``stack`` lives; the lock dies with its owner."""
    place = path.with_name(f".{path.name}.lock")
    try:
        stack.enter_context(FileLock(place, timeout=0))
    except Timeout as error:
        raise SurfaceFileError(f"{path}: another job is computing this file; wait for it, or use another -o") from error
    except (OSError, NotImplementedError) as error:  # a file system without locks
        say(f"warning: no lock on {path} ({one_line(error)[:80]}): see to it yourself that only one job computes it")
    stack.callback(place.unlink, missing_ok=True)


def _check_path(path: Path | None, overwrite: bool) -> None:
    if path is None:
        return
    if not path.parent.is_dir():
        raise SurfaceFileError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise SurfaceFileError(f"{path}: is a folder, not a file; name a file, as in -o {path / 'surface.h5'}")
    if not os.access(path.parent, os.W_OK):
        raise SurfaceFileError(f"{path}: the folder {path.parent} cannot be written to; choose another with -o")


def _nothing() -> None:
    pass
