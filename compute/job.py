"""One computation of a surface, from checked settings to the finished file, on one process or on every rank of a job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.compute.evaluate.guarded import Guarded
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.evaluate.resuming import check_same, check_same_losses, finished_point, point_of_all_samples
from paraloss.compute.forward.precision import rounding
from paraloss.compute.ranks.watchdog import Watchdog
from paraloss.compute.ranks.world import World
from paraloss.compute.schedule.refinement import coarsest_level, fill_between, level_points, points_to_refine
from paraloss.compute.schedule.visit_order import coarse_to_fine
from paraloss.compute.settings import Settings
from paraloss.compute.setup import Setup
from paraloss.errors import SurfaceFileError
from paraloss.files import check_output, files_in
from paraloss.locking import locked
from paraloss.log import logger
from paraloss.progress import Progress
from paraloss.stopping import keeping, last_resort
from paraloss.surface import INTERPOLATED, NOT_FINITE, PENDING, Surface, SurfaceWriter, read_surface
from paraloss.surface.recipes import Recipe


class Job:
    """The computation of one surface; every rank makes one, with the same settings, and runs it.

    Args:
        settings: what to compute.
        world: all ranks.

    Raises:
        InputError: the device does not exist, or an option does not fit the number of ranks.
        SurfaceFileError: the file cannot be written, or belongs to other settings.
    """

    writer: Any  # the file on rank 0, None on the others: whatever uses it runs on rank 0

    def __init__(self, settings: Settings, world: World) -> None:
        self.settings, self.options, self.world = settings, settings.options, world
        self.path = path = None if self.options.path is None else Path(self.options.path)
        self.progress = self.options.progress and world.is_first
        self.resumed = False
        if path is not None:
            world.on_first(lambda: self._check_output(path))
            self.resumed = world.on_first(lambda: path.exists() and not self.options.overwrite)
        self.setup = Setup(settings, world, path if self.resumed else None)
        self.settings = self.setup.settings

    def run(self, paths: Mapping[str, Mapping[str, np.ndarray]], provenance: Mapping[str, Any]) -> Surface:
        """Evaluate every point that the file does not hold yet.

        Args:
            paths: optimizer paths to keep with the surface, see ``Surface.with_paths``.
            provenance: see ``compute_surface``.

        Returns:
            The complete surface, on every rank.
        """
        with ExitStack() as stack:
            empty = self._empty_surface(paths, provenance)
            self.writer = self.world.on_all(lambda: self._open_writer(stack, empty) if self.world.is_first else None)
            self.save = self.writer.flush if self.world.is_first else _nothing
            clock = Watchdog(self.options.point_timeout, self.world, self.save).over
            self.evaluate = Guarded(self.setup.estimator, self.setup.evaluator, self.settings.grid, clock)
            stack.enter_context(last_resort(self.save, self.world.abort))
            stack.enter_context(keeping(self._kept))
            again = self.options.refine is None  # points that were interpolated under --refine
            self.pending = set(self.world.on_first(lambda: self.writer.pending(interpolated=again)).tolist())
            order = coarse_to_fine(self.settings.shape)
            estimator = self.setup.estimator
            if isinstance(estimator, SampledEvaluator) and (path := self.path) is not None:
                settings = {**self.setup.fingerprint, "arithmetic": self.setup.arithmetic}
                self.world.on_first(lambda: estimator.keep(path, settings, self.resumed))
            if self.resumed:
                self._check_again()
                if self.progress:
                    logger.info(f"resuming: {len(order) - len(self.pending)} of {len(order)} points are finished already")
            if self.pending:
                self._prepare()
            for title, points in self._rounds(order):
                self._work(title, points)
            if self.options.refine is not None and self.world.is_first:
                self._interpolate()
            if isinstance(estimator, SampledEvaluator):
                self.world.on_first(estimator.forget)
            surface: Surface = self.world.on_first(lambda: self.writer.surface())
        if self.world.is_first:
            self._warn_of_what_is_not_finite(surface)
        return surface

    @staticmethod
    def _warn_of_what_is_not_finite(surface: Surface) -> None:
        """Say it where the checkpoint itself, or every point, has a metric that is not finite."""
        lost = surface.status == NOT_FINITE
        own = surface.center is not None and lost[surface.center]
        if own or lost.all():
            named = ", the checkpoint's own too" if own else ""
            logger.warning(f"{lost.sum():,} of {lost.size:,} points are not finite{named}; check loss and data")

    def finished(self) -> int:
        """Return the number of points that the file holds already; for rank 0, before ``run``."""
        return int((read_surface(self.path).status != PENDING).sum()) if self.resumed and self.path is not None else 0

    def _kept(self) -> str:
        """What an interruption leaves behind."""
        if self.writer is None or self.path is None:
            return ""
        self.writer.flush()
        total = len(self.settings.grid)
        done = total - len(self.writer.pending())
        return f"{done:,} of {total:,} points are kept in {self.path}; the same command goes on from there"

    def _check_output(self, path: Path) -> None:
        given = self.options
        inputs = files_in(given.x_to, given.y_to, given.z_to, given.directions)
        check_output(path, "surface", inputs, given.overwrite, SurfaceFileError)

    def _empty_surface(self, paths: Mapping[str, Mapping[str, np.ndarray]], provenance: Mapping[str, Any]) -> Surface:
        steps, shape = self.settings.steps, self.settings.shape
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        return Surface(
            x=steps["x"],
            y=steps.get("y"),
            z=steps.get("z"),
            metrics={name: np.full(shape, np.nan) for name in self.setup.estimator.metrics},
            status=np.full(shape, PENDING, np.uint8),
            provenance={**self.setup.facts, "command": command, **provenance},
            **self._kept_directions(),
        ).with_paths(paths)

    def _kept_directions(self) -> dict[str, Any]:
        """What the file holds of the directions: tensors, recipes, or both."""
        axes = dict(zip("xyz", self.setup.directions, strict=False))
        recipes = {axis: source for axis, source in axes.items() if isinstance(source, Recipe)}
        kept = dict(zip("xyz", self.setup.tensors, strict=False)) if self.options.save_directions and recipes else axes
        tensors = {
            axis: {name: tensor.numpy() for name, tensor in source.items()}
            for axis, source in kept.items()
            if not isinstance(source, Recipe)
        }
        return {"directions": tensors, "recipes": recipes}

    def _open_writer(self, stack: ExitStack, empty: Surface) -> SurfaceWriter:
        """The file, locked for as long as ``stack`` lives."""
        if self.path is not None:
            stack.enter_context(locked(self.path, SurfaceFileError))
        return stack.enter_context(SurfaceWriter(self.path, empty, self.setup.fingerprint, self.options.overwrite))

    def _prepare(self) -> None:
        """Prepare the estimator and record the points that it evaluates on the way."""
        recorded = set()

        def record(index: int, values: list[float]) -> None:
            if index in self.pending:
                self.writer.add(index, values)
                recorded.add(index)

        found = self.setup.estimator.prepare(self.world, self.progress, record)
        self.world.on_first(lambda: self._compare_all(found))
        for index in self.pending.intersection(found) - recorded if self.world.is_first else ():
            self.writer.add(index, found[index])  # kept of an earlier run
        self.pending.difference_update(found)

    def _compare_all(self, found: Mapping[int, Sequence[float]]) -> None:
        for index in found.keys() - self.pending:
            self._compare(index, self.setup.estimator.metrics, found[index])

    def _check_again(self) -> None:
        """Evaluate one finished point again, where samples are drawn one at which all were evaluated.

        Raises:
            SurfaceFileError: its loss is another one now: code or data have changed in a way that leaves no trace.
        """
        estimator, grid = self.setup.estimator, self.settings.grid
        if isinstance(estimator, SampledEvaluator):
            self.world.on_first(lambda: self._check_sampled(estimator))
            return
        finished: int | None = self.world.on_first(lambda: finished_point(self.writer, grid))
        if finished is None:
            return
        found: dict[int, list[float]] = {}
        self._visit([finished], found.__setitem__)
        self.world.on_first(lambda: self._compare(finished, estimator.metrics, found[finished]))

    def _check_sampled(self, estimator: SampledEvaluator) -> None:
        """As ``_check_again``: an anchor that is kept, else a point of the file."""
        if (kept := estimator.kept_again()) is not None:
            index, before, now = kept
            for name, value in before.items():
                check_same(self.path, self.settings.place(index), name, value, now[name], rounding(self.setup.arithmetic))
            return
        finished = point_of_all_samples(self.writer, self.settings.grid, estimator.evaluator.samples)
        if finished is not None:
            self._compare(finished, estimator.metrics, estimator.from_all(finished))

    def _compare(self, index: int, names: Sequence[str], values: Sequence[float]) -> None:
        """Compare the losses of a finished point with those in the file; raises as ``_check_again``."""
        tolerance = rounding(self.setup.arithmetic)
        now = dict(zip(names, values, strict=True))
        check_same_losses(
            self.path, self.settings.place(index), self.writer, index, now, tolerance, self.setup.estimator.corrected
        )

    def _rounds(self, order: np.ndarray) -> Iterator[tuple[str, list[int]]]:
        """(title, points) of what to evaluate one after the other: all points, or level by level where the surface bends."""
        if self.options.refine is None:
            yield "computing", order.tolist()
            return
        place = np.argsort(order)
        coarsest = coarsest_level(self.settings.shape)
        points = level_points(self.settings.shape, coarsest)
        for level in range(coarsest, -1, -1):
            yield f"computing, level {level}", points[np.argsort(place[points])].tolist()
            if level:
                points = self.world.on_first(partial(self._bent, level))

    def _work(self, title: str, wanted: Sequence[int]) -> None:
        """Evaluate those of the ``wanted`` points that are pending, in order, on all ranks."""
        todo = [index for index in wanted if index in self.pending]
        with Progress(title, len(wanted), len(wanted) - len(todo), shown=self.progress) as bar:

            def record(index: int, values: list[float]) -> None:
                self.writer.add(index, values)
                bar.advance()

            self._visit(todo, record)
        self.pending.difference_update(todo)

    def _visit(self, todo: Sequence[int], record: Callable[[int, list[float]], None]) -> None:
        workers = self.setup.group or self.world
        self.world.on_all(lambda: workers.visit(todo, self.evaluate, record, self.save))

    def _known(self) -> np.ndarray:
        return ~np.isin(self.writer.grid("status"), (PENDING, INTERPOLATED))

    def _bent(self, level: int) -> np.ndarray:
        """The points of the level below ``level`` where the surface bends."""
        assert self.options.refine is not None
        losses = self.writer.grid(self.writer.default_loss())
        return points_to_refine(losses, self._known(), level, self.options.refine)

    def _interpolate(self) -> None:
        """Fill the points that were not evaluated."""
        known = self._known()
        values = {name: self.writer.grid(name) for name in self.writer.names}
        self.writer.fill(np.flatnonzero(~known.ravel()), fill_between(values, known))


def _nothing() -> None:
    pass
