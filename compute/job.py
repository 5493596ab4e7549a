"""One computation of a surface, from checked settings to the finished file, on one process or on every rank of a job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paraloss.compute.directions.random import Direction
from paraloss.compute.evaluate.capped import CappedEvaluator
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.evaluate.tuning import check_points, choose_batch_size, choose_precision
from paraloss.compute.forward.batch_norm import normalizing_layers
from paraloss.compute.forward.precision import own_precision
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
    height_of,
    interpolated,
    level_points,
    points_that_matter,
    to_height,
)
from paraloss.compute.schedule.visit_order import coarse_to_fine
from paraloss.compute.settings import Settings
from paraloss.errors import InputError, ParalossError, SurfaceFileError
from paraloss.files import check_output, files_in, locked
from paraloss.height import is_loss
from paraloss.progress import Progress, say
from paraloss.stopping import keeping, last_resort
from paraloss.surface import INTERPOLATED, PENDING, Surface, SurfaceWriter, check_fingerprint, read_directions, read_provenance

Sampler = SampledEvaluator | CappedEvaluator


class Job:
    """The computation of one surface; every rank makes one, with the same settings, and runs it.

    Args:
        settings: what to compute.
        comm: all ranks; None for one process.

    Raises:
        InputError: the device does not exist, or an option does not fit the number of ranks.
        SurfaceFileError: the file cannot be written, or belongs to other settings.
    """

    def __init__(self, settings: Settings, comm: Any | None) -> None:
        self.settings, self.comm, self.options = settings, comm, settings.options
        path = self.path = None if self.options.path is None else Path(self.options.path)
        self.first = comm is None or comm.rank == 0
        self.progress = self.options.progress and self.first
        self.device = rank_device(self.options.device, comm)
        if comm is not None:
            self.tell(who_is_where(comm, self.device))
        if settings.bn_data is not None and not normalizing_layers(settings.model):
            self.tell("warning: the model has no batch norm with running statistics; there is nothing to recompute")
        on_first_rank(comm, self._check_output)
        on_all_ranks(comm, lambda: check_movable(settings.model))
        share_tensors(comm, state_tensors(settings.model))
        self.fingerprint = settings.fingerprint()
        self.resumed = path is not None and on_first_rank(comm, lambda: path.exists() and not self.options.overwrite)
        self.directions = [share_direction(comm, d) for d in same_number(comm, on_all_ranks(comm, self._make_directions))]
        self._undivided: list[str] | None = None  # measured by the first evaluator
        self._probe: PointEvaluator | None = None  # rank 0's, so that data are not twice on its device
        self.tuning: dict[str, Any] = on_first_rank(comm, self._tune)
        self._undivided = self.tuning.get("undivided")
        groups = 1 if comm is None else self._number_of_groups(comm.size)
        self.group = Group(comm, groups) if comm is not None and groups < comm.size else None
        if self.group is not None and self.options.sampled:
            raise InputError(
                "{split_data} shares all samples of a point; it excludes {rtol} and {loss_cap}",
                arguments=("split_data", "rtol", "loss_cap"),
            )
        self.evaluator: PointEvaluator = on_all_ranks(comm, self._final_evaluator)
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
            self.save, self.watchdog = save, Watchdog(self.options.point_timeout, self.comm, save)
            stack.enter_context(last_resort(save))
            stack.enter_context(keeping(self._kept))
            again = self.options.refine is None  # points that were interpolated under --refine
            self.pending = set(on_first_rank(self.comm, lambda: self.writer.pending(interpolated=again)).tolist())
            order = coarse_to_fine(self.settings.shape).tolist()
            if self.resumed:
                self.tell(f"resuming: {len(order) - len(self.pending)} of {len(order)} points are there already")
            if isinstance(self.sampler, SampledEvaluator) and self.pending:
                self._learn(self.sampler)
            if self.options.refine is None:
                self._work(order, "computing")
            else:
                self._refine(self.options.refine, order)
            surface: Surface = on_first_rank(self.comm, lambda: self.writer.surface())
        return surface

    def _kept(self) -> str:
        if self.writer is None or self.path is None:
            return ""
        self.writer.flush()
        total = len(self.settings.grid)
        done = total - len(self.writer.pending())
        return f"{done:,} of {total:,} points are kept in {self.path}; the same command goes on from there"

    def tell(self, text: str) -> None:
        """A line on rank 0's standard error, where progress is shown; nothing for an empty one."""
        if text and self.progress:
            say(text)

    def _check_output(self) -> None:
        given = self.options
        if self.path is not None:
            inputs = files_in(given.x_to, given.y_to, given.z_to, given.directions)
            check_output(self.path, "surface", inputs, given.overwrite, SurfaceFileError)

    def _make_directions(self) -> list[Direction]:
        if not self.first:
            return []
        if self.resumed and self.path is not None:
            check_fingerprint(self.path, self.fingerprint)
            found = read_directions(self.path)
            if found:  # else dropped by a repair: they follow from the settings, which are the same
                return [{n: torch.from_numpy(t) for n, t in found[axis].items()} for axis in "xyz" if axis in found]
        return self.settings.plane.make(self.settings.model, self.tell)

    def _evaluator_in(self, precision: str, size: int | None = None, shard: tuple[int, int] = (0, 1)) -> PointEvaluator:
        given = self.settings
        evaluator = make_evaluator(
            given.model,
            given.criterion[1],
            given.chosen,
            self.directions,
            self.device,
            given.accuracy,
            batch_size=size or self.options.batch_size,
            population=given.population,
            precision=precision,
            shard=shard,
            measures=given.measures,
            bn_data=given.bn_data,
            user_metrics=given.user_metrics,
            undivided=self._undivided,
        )
        self._undivided = sorted(evaluator.undivided)
        return evaluator

    def _tune(self) -> dict[str, Any]:
        """Precision, batch size and compilation: decided once, by rank 0, and kept when a file is resumed."""
        given, points = self.settings, len(self.settings.grid)
        if self.resumed and self.path is not None:
            return dict(read_provenance(self.path)["tuning"])
        used: str = self.options.precision
        differences: dict[str, float] = {}
        if used == "auto" and own_precision(given.model) != "fp32":
            used = own_precision(given.model)
        elif used == "auto":
            used, differences = choose_precision(
                self._evaluator_in, self.device, check_points(given.grid), points, self.options.precision_bound, self.tell
            )
        self._probe = self._evaluator_in(used)
        size = self.options.batch_size or choose_batch_size(self._probe, points)
        here = 1 if self.comm is None else self.comm.size
        worth = not self.options.sampled and self._probe.worth_compiling(points // here)
        return {
            "precision": used,
            "difference_from_fp32": differences,
            "batch_size": size,
            "compiled": worth,
            **self._divisible(self._probe),
        }

    def _divisible(self, evaluator: PointEvaluator) -> dict[str, Any]:
        """What must not be cut into batches or shared by ranks, for the file and for all ranks."""
        for name in evaluator.undivided:
            if evaluator.samples[name] > evaluator.batch_size:
                self.tell(f"the loss of {name} is not the mean of its batches: it is taken of all outputs together")
        if evaluator.mixing:
            self.tell("the model's outputs of a sample depend on the others of its batch: all samples are one batch")
        return {"undivided": sorted(evaluator.undivided), "indivisible": evaluator.indivisible}

    def _number_of_groups(self, ranks: int) -> int:
        split_data = self.options.split_data
        if self.settings.measures or (split_data is None and self.tuning.get("indivisible")):
            split_data = 1
        if split_data is not None and split_data > ranks:
            raise InputError(
                f"{{split_data}} {split_data} requires as many ranks; there are {ranks}", arguments=("split_data",)
            )
        return min(ranks, len(self.settings.grid)) if split_data is None else max(1, ranks // split_data)

    def _final_evaluator(self) -> PointEvaluator:
        if self._probe is not None and self.group is None:
            return self._probe
        shard = (0, 1) if self.group is None else self.group.shard
        return self._evaluator_in(self.tuning["precision"], self.options.batch_size or self.tuning["batch_size"], shard)

    def _make_sampler(self) -> Sampler | None:
        given, options = self.settings, self.options
        if options.rtol is not None:
            return SampledEvaluator(self.evaluator, given.shape, given.grid, options.rtol, options.seed, options.loss_cap)
        if options.loss_cap is not None:
            return CappedEvaluator(self.evaluator, given.grid, options.loss_cap, options.seed)
        return None

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
            "seed": self.options.seed,
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
            stack.enter_context(locked(self.path, say, SurfaceFileError))
        return stack.enter_context(SurfaceWriter(self.path, empty, self.fingerprint, self.options.overwrite))

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
        values = writer.grid(name)
        if is_loss(name):
            scale = height_of(values, known)
            full = scale.values(interpolated(to_height(values, scale), known, coarsest))
        else:
            full = interpolated(np.nan_to_num(values), known, coarsest)
        filled[name] = full[~known]
    writer.fill(np.flatnonzero(~known.ravel()), filled)


def _nothing() -> None:
    pass
