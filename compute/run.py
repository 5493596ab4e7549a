"""Compute a surface: from a model, a loss and data to a surface file, on one process or many ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from paraloss.compute.batch_norm import normalising_layers
from paraloss.compute.checkpoints import state_sha256
from paraloss.compute.criteria import load_criterion
from paraloss.compute.data import DataSet, Split, as_data_set
from paraloss.compute.directions import Direction, DirectionType, Ignore, Norm
from paraloss.compute.evaluator import Evaluator
from paraloss.compute.measures import PLAIN, choose_measures
from paraloss.compute.plane import Plane, Target, tensors_of
from paraloss.compute.ranks import Group, rank_device, same_number, share_direction, share_tensors, who_is_where
from paraloss.compute.refinement import (
    coarsest_level,
    from_height,
    interpolated,
    level_points,
    points_that_matter,
    to_height,
)
from paraloss.compute.sampling import CappedEvaluator, SampledEvaluator
from paraloss.compute.tuning import check_points, choose_batch_size, choose_precision
from paraloss.compute.user_code import one_line
from paraloss.compute.visit_order import coarse_to_fine
from paraloss.compute.watchdog import Watchdog
from paraloss.compute.work_queue import on_all_ranks, on_first_rank, run_parallel, run_serial, world
from paraloss.errors import InputError, ParalossError, SurfaceFileError
from paraloss.progress import Progress, say
from paraloss.surface import INTERPOLATED, PENDING, Surface
from paraloss.surface_file import SurfaceWriter, check_fingerprint, read_directions, read_provenance

Axis = tuple[float, float, int] | Sequence[float] | np.ndarray


def compute_surface(
    model: nn.Module,
    loss: str | Callable[..., Any] = "cross_entropy",
    data: Any = None,
    *,
    x: Axis = (-1.0, 1.0, 51),
    y: Axis | None = None,
    z: Axis | None = None,
    x_to: Target | None = None,
    y_to: Target | None = None,
    z_to: Target | None = None,
    directions: Sequence[Direction] | None = None,
    norm: Norm | tuple[Norm, Norm] = "filter",
    ignore: Ignore = "biasbn",
    dir_type: DirectionType | None = None,
    seed: int = 123,
    splits: Sequence[str] | None = None,
    metrics: Sequence[str] = PLAIN,
    bn: str = "keep",
    samples: int | None = None,
    precision: str = "auto",
    precision_bound: float = 1e-3,
    rtol: float | None = None,
    loss_cap: float | None = None,
    refine: float | None = None,
    split_data: int | None = None,
    point_timeout: float | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    path: str | Path | None = None,
    overwrite: bool = False,
    trajectory: Mapping[str, np.ndarray] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Surface:
    """Evaluate a model's loss and accuracy over a line or a plane through its weights.

    Args:
        model: the centre; it is left as it was.
        loss: see ``paraloss.compute.load_criterion``.
        data: (inputs, targets), a data set of pairs, or a dict of splits; see ``paraloss.compute.as_data_set``.
        x: (first, last, number) of the steps along x, or the increasing steps themselves.
        y: the same along y; None computes a curve.
        z: the same along a third direction; None computes a surface.
        x_to: another checkpoint (path, model or state_dict) that lies at x = 1; None draws a random direction.
        y_to: the same for y = 1.
        z_to: the same for z = 1.
        directions: x and, for a surface, y (for a volume, z), ready made: parameter name -> tensor; instead of all that
            chooses them.
        norm: of random directions, one for all or (x, y); see ``paraloss.compute.directions.normalise``.
        ignore: ``biasbn`` leaves biases and batch norm still in random directions.
        dir_type: ``weights`` moves parameters, ``states`` running statistics too. Default: ``states`` when one
            direction leads to a checkpoint, else ``weights``.
        seed: of the random directions, and of the order of samples under ``rtol`` and ``loss_cap``.
        splits: names of the splits to evaluate; None takes "train", or the first there is.
        metrics: what to tell at each point: ``loss``, ``acc``; ``grad_norm``, the norm of the gradient; ``hessian``, its
            smallest and largest eigenvalue and their ratio. The last two are of the first split; the loss is always there.
        bn: ``keep`` takes batch-norm statistics as they are, or as the directions move them; ``recompute`` estimates them
            anew from the training data at each point.
        samples: draw this many samples of each split (the same at every point) instead of all.
        precision: ``fp32``, ``tf32``, ``bf16``, ``fp16``, or ``auto``: the fastest whose losses at nine points differ
            from fp32's by at most ``precision_bound``.
        precision_bound: relative, for ``auto``.
        rtol: take only as many samples at each point as bring the loss's standard error below this share of the
            loss; see ``paraloss.compute.sampling``. None takes all.
        loss_cap: leave a point after its first samples when its loss is clearly above this.
        refine: evaluate only where linear interpolation would be wrong by more than this share of the height, and
            interpolate the rest (status 3); see ``paraloss.compute.refinement``. None evaluates every point.
        split_data: ranks that share the samples of one point. Default: 1, more when there are fewer points than ranks.
        point_timeout: end the job, with what is finished kept, when a point takes more than this many seconds: a rank hangs.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …; with several ranks each takes the GPU of its local rank.
        batch_size: samples at once; None chooses, by a probe when the work is long.
        path: surface file to write and, when it is there already, to finish; None keeps the result in memory.
        overwrite: start again where ``path`` exists.
        trajectory: a projected path to keep with the surface: "x", "y", "loss", "step", "residual", (n,) each.
        provenance: further facts for the file, such as the model's name.
        progress: show progress on standard error.

    Returns:
        The complete surface, with its directions. Under mpiexec every rank calls this and gets it.

    Raises:
        InputError: model, loss, data, axes or checkpoints do not fit together, or an option is out of range.
        SurfaceFileError: ``path`` cannot be written, belongs to other settings, or another job is writing it.
    """
    comm = world()
    first = comm is None or comm.rank == 0
    tell = say if progress and first else _silent
    _check_options(precision_bound, rtol, loss_cap, refine, split_data)
    if point_timeout is not None and not point_timeout > 0:
        raise InputError(f"point_timeout is a number of seconds above zero, not {point_timeout:g}")
    criterion_name, criterion = load_criterion(loss)
    steps = {name: as_steps(axis, name) for name, axis in (("x", x), ("y", y), ("z", z)) if axis is not None}
    if z is not None and y is None:
        raise InputError("--z needs --y: a volume has three axes")
    if z is not None and (refine is not None or rtol is not None or loss_cap is not None):
        raise InputError("a volume is evaluated at every point on all samples: leave out --refine, --rtol and --loss-cap")
    measures = choose_measures(metrics)
    if measures and (rtol is not None or loss_cap is not None or (split_data or 1) > 1):
        raise InputError(f"{', '.join(measures)}: need all samples on one rank; leave out --rtol, --loss-cap, --split-data")
    if bn not in ("keep", "recompute"):
        raise InputError(f"bn is 'keep' or 'recompute', not '{bn}'")
    shape = tuple(len(axis) for axis in reversed(steps.values()))
    # x runs fastest: the last axis of the arrays.
    grid = np.stack([c.ravel() for c in reversed(np.meshgrid(*reversed(steps.values()), indexing="ij"))], axis=1)
    whole = _choose_splits(as_data_set(data) if data is not None else _no_data(), splits)
    chosen = {name: split.subset(samples) for name, split in whole.items()}
    population = {name: len(split) for name, split in whole.items()}
    bn_data = _training_split(chosen, as_data_set(data), samples) if bn == "recompute" else None
    ends = [None if target is None else tensors_of(target) for target in (x_to, y_to, z_to)][: len(steps)]
    if dir_type is None:
        dir_type = "states" if any(ends) else "weights"
    target_device = rank_device(device, comm)
    if comm is not None:
        tell(who_is_where(comm, target_device))
    path = Path(path) if path is not None else None
    plane = Plane(ends, norm, ignore, dir_type, seed, directions, warn=bn_data is None)
    if bn_data is not None and not normalising_layers(model):
        tell("warning: the model has no batch norm with running statistics; there is nothing to recompute")

    on_first_rank(comm, lambda: _check_path(path, overwrite))
    share_tensors(comm, model.state_dict())
    fingerprint = {
        "weights": state_sha256(model),
        "data": {name: split.sha256() for name, split in chosen.items()},
        "criterion": criterion_name,
        "directions": plane.fingerprint(),
        "x": steps["x"].tolist(),
        "y": steps["y"].tolist() if "y" in steps else None,
        "precision": precision,
        "sampling": {"rtol": rtol, "loss_cap": loss_cap},
        # Only where they are asked for, so that files of older versions can be finished.
        **({"z": steps["z"].tolist()} if "z" in steps else {}),
        **({"measures": measures} if measures else {}),
        **({"bn_data": bn_data.sha256()} if bn_data is not None else {}),
        **({"acc": False} if "acc" not in metrics else {}),
    }
    resumed = path is not None and on_first_rank(comm, lambda: path.exists() and not overwrite)

    def make_directions() -> list[Direction]:
        if not first:
            return []
        if resumed and path is not None:
            check_fingerprint(path, fingerprint)
            found = read_directions(path)
            if not found:  # dropped by a repair: they follow from the settings, which are the same
                return plane.make(model, tell)
            return [{n: torch.from_numpy(t) for n, t in found[axis].items()} for axis in "xyz" if axis in found]
        return plane.make(model, tell)

    directions = [share_direction(comm, d) for d in same_number(comm, on_all_ranks(comm, make_directions))]

    def evaluator_in(precision: str, size: int | None = batch_size, shard: tuple[int, int] = (0, 1)) -> Evaluator:
        return Evaluator(
            model, criterion, chosen, directions, target_device, size, population, precision, shard, measures, bn_data,
            accuracy="acc" in metrics,
        )  # fmt: skip

    kept: list[Evaluator] = []  # rank 0's, so that data are not twice on its device

    def tune() -> dict[str, Any]:
        """Precision, batch size and compilation: decided once, by rank 0, and kept when a file is resumed."""
        if resumed and path is not None:
            return dict(read_provenance(path)["tuning"])
        used, differences = precision, dict[str, float]()
        if precision == "auto":
            used, differences = choose_precision(
                evaluator_in, target_device, check_points(grid), len(grid), precision_bound, tell
            )
        probe = evaluator_in(used)
        kept.append(probe)
        size = batch_size or choose_batch_size(probe, len(grid))
        here = 1 if comm is None else comm.size
        worth = rtol is None and loss_cap is None and probe.worth_compiling(len(grid) // here)
        return {"precision": used, "difference_from_fp32": differences, "batch_size": size, "compiled": worth}

    tuning = on_first_rank(comm, tune)
    groups = 1 if comm is None else _number_of_groups(comm.size, len(grid), 1 if measures else split_data)
    group = Group(comm, groups) if comm is not None and groups < comm.size else None
    if group is not None and (rtol is not None or loss_cap is not None):
        raise InputError("--split-data shares all samples of a point; it does not go with --rtol or --loss-cap")
    shard = (0, 1) if group is None else group.shard
    size = batch_size or tuning["batch_size"]
    evaluator: Evaluator = on_all_ranks(
        comm, lambda: kept[0] if kept and group is None else evaluator_in(tuning["precision"], size, shard)
    )
    if tuning["compiled"] and not evaluator.compiled:
        evaluator.compile()

    def sampled() -> SampledEvaluator | CappedEvaluator | None:
        if rtol is not None:
            return SampledEvaluator(evaluator, shape, grid, rtol, seed, loss_cap)
        return None if loss_cap is None else CappedEvaluator(evaluator, grid, loss_cap, seed)

    sampler = on_all_ranks(comm, sampled)
    empty = Surface(
        x=steps["x"],
        y=steps.get("y"),
        z=steps.get("z"),
        metrics={name: np.full(shape, np.nan) for name in (sampler or evaluator).metrics},
        status=np.full(shape, PENDING, np.uint8),
        provenance={
            **_facts(fingerprint, chosen, population, evaluator, tuning, seed, comm),
            **(provenance or {}),
        },
        directions={
            axis: {name: tensor.numpy() for name, tensor in direction.items()}
            for axis, direction in zip("xyz", directions, strict=False)
        },
        trajectory=trajectory,
    )

    def values_at(index: int) -> list[float]:
        if sampler is not None:
            return sampler(index)
        return evaluator(grid[index]) if group is None else group.lead(evaluator, grid[index])

    def evaluate(index: int) -> list[float]:
        place = ", ".join(f"{axis}={step:g}" for axis, step in zip("xyz", grid[index], strict=False))
        try:
            with watchdog.over(place):
                while True:
                    try:
                        return values_at(index)
                    except torch.OutOfMemoryError as error:
                        if group is not None or not evaluator.halve_batch():
                            raise InputError(
                                f"at {place}: out of memory with {evaluator.batch_size} samples at once; use another device"
                            ) from error
                        say(f"out of memory at {place}: going on with batches of {evaluator.batch_size}")
        except ParalossError:
            raise
        except Exception as error:  # the user's model or loss: whatever it raises is told in one line
            raise InputError(f"at {place}: {type(error).__name__}: {one_line(error)[:200]}") from error

    with ExitStack() as stack:
        writer = on_all_ranks(comm, lambda: _writer(stack, comm, path, empty, fingerprint, overwrite))
        save = _nothing if writer is None else writer.flush
        watchdog = Watchdog(point_timeout, comm, save)
        pending = set(on_first_rank(comm, lambda: writer.pending(interpolated=refine is None)).tolist())
        order = coarse_to_fine(shape).tolist()
        if resumed:
            tell(f"resuming: {len(order) - len(pending)} of {len(order)} points are there already")

        def work(wanted: Sequence[int], title: str) -> None:
            """Evaluate those of the ``wanted`` points that are pending, coarse to fine, on all ranks."""
            todo = [index for index in wanted if index in pending]
            with Progress(title, len(wanted), len(wanted) - len(todo), shown=first and progress) as bar:

                def record(index: int, values: list[float]) -> None:
                    writer.add(index, values)
                    bar.advance()

                if comm is None:
                    run_serial(todo, evaluate, record)
                elif group is None:
                    run_parallel(comm, todo, evaluate, record, save)
                else:
                    on_all_ranks(comm, lambda: _work_in_group(group, evaluator, todo, evaluate, record, save))
            pending.difference_update(todo)

        if isinstance(sampler, SampledEvaluator) and pending:
            _learn(sampler, comm, pending, writer, first and progress)
        if refine is None:
            work(order, "computing")
        else:
            _refine(comm, shape, refine, writer, work, order)
        surface = on_first_rank(comm, lambda: writer.surface())
    return surface


def as_steps(axis: Axis, name: str) -> np.ndarray:
    """(first, last, number) or increasing steps -> (n,) float64 steps.

    Raises:
        InputError: fewer than two steps, not finite, or not increasing.
    """
    if isinstance(axis, tuple) and len(axis) == 3 and isinstance(axis[2], int):
        first, last, number = float(axis[0]), float(axis[1]), axis[2]
        if number < 2:
            raise InputError(f"{name} has {number} points; a surface needs two at least, as in {name}=-1:1:51")
        steps = np.linspace(first, last, number)
    else:
        steps = np.asarray(axis, dtype=np.float64).ravel()
    if len(steps) < 2 or not np.isfinite(steps).all() or not (steps[1:] > steps[:-1]).all():
        raise InputError(f"{name} must be two or more finite, increasing steps, as in {name}=-1:1:51")
    return steps


def _check_options(
    precision_bound: float, rtol: float | None, loss_cap: float | None, refine: float | None, split_data: int | None
) -> None:
    for name, value, below in (("precision_bound", precision_bound, 1), ("rtol", rtol, 1), ("refine", refine, 1)):
        if value is not None and not 0 < value < below:
            raise InputError(f"{name} must lie between 0 and {below}, not {value:g}; 0.01 is one percent")
    if loss_cap is not None and not np.isfinite(loss_cap):
        raise InputError(f"loss_cap must be a number, not {loss_cap}")
    if split_data is not None and split_data < 1:
        raise InputError(f"split_data is a number of ranks, at least 1, not {split_data}")


def _number_of_groups(ranks: int, points: int, split_data: int | None) -> int:
    if split_data is not None and split_data > ranks:
        raise InputError(f"--split-data {split_data} needs as many ranks; there are {ranks}")
    return min(ranks, points) if split_data is None else max(1, ranks // split_data)


def _work_in_group(
    group: Group,
    evaluator: Evaluator,
    todo: Sequence[int],
    evaluate: Callable[[int], list[float]],
    record: Callable[[int, list[float]], None],
    save: Callable[[], None],
) -> None:
    if group.leaders is None:
        group.follow(evaluator)
        return
    try:
        if group.leaders.size == 1:
            run_serial(todo, evaluate, record)
        else:
            run_parallel(group.leaders, todo, evaluate, record, save)
    finally:
        group.release()


def _learn(sampler: SampledEvaluator, comm: Any | None, pending: set[int], writer: SurfaceWriter | None, shown: bool) -> None:
    """Evaluate the anchors on all ranks and record those that are pending."""
    rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
    share = range(rank, len(sampler.anchors), size)

    def join(table: np.ndarray) -> np.ndarray:
        if comm is None:
            return table
        total = np.empty_like(table)
        comm.Allreduce(table, total)
        return total

    with Progress("evaluating anchors in full", len(share), shown=shown) as bar:
        results = on_all_ranks(comm, lambda: sampler.learn(share, join, bar.advance))
    for index, values in results.items():
        if index in pending and writer is not None:
            writer.add(index, values)
    pending.difference_update(results)


def _refine(
    comm: Any | None,
    shape: tuple[int, ...],
    tolerance: float,
    writer: SurfaceWriter | None,
    work: Callable[[Sequence[int], str], None],
    order: Sequence[int],
) -> None:
    """Level by level: evaluate where the surface bends; fill the rest by interpolation at the end."""
    coarsest = coarsest_level(shape)
    place = np.empty(len(order), int)
    place[list(order)] = np.arange(len(order))

    def bends(level: int) -> np.ndarray:
        assert writer is not None
        known = ~np.isin(writer.grid("status"), (PENDING, INTERPOLATED))
        return points_that_matter(writer.grid(writer.default_loss()), known, level, tolerance)

    work(sorted(level_points(shape, coarsest), key=lambda index: place[index]), f"computing, level {coarsest}")
    for level in range(coarsest, 0, -1):
        chosen = on_first_rank(comm, partial(bends, level))
        work(sorted(chosen.tolist(), key=lambda index: place[index]), f"computing, level {level - 1}")
    if writer is None:
        return
    known = ~np.isin(writer.grid("status"), (PENDING, INTERPOLATED))
    filled = {}
    for name in writer.names:
        values, logs = writer.grid(name), name.endswith("_loss")
        full = interpolated(to_height(values) if logs else np.nan_to_num(values), known, coarsest)
        filled[name] = (from_height(full) if logs else full)[~known]
    writer.fill(np.flatnonzero(~known.ravel()), filled)


def _facts(
    fingerprint: Mapping[str, Any],
    chosen: DataSet,
    population: Mapping[str, int],
    evaluator: Evaluator,
    tuning: Mapping[str, Any],
    seed: int,
    comm: Any | None,
) -> dict[str, Any]:
    device = evaluator.device
    return {
        "weights_sha256": fingerprint["weights"],
        "samples": {name: len(split) for name, split in chosen.items()},
        "samples_of": dict(population),
        "criterion": fingerprint["criterion"],
        "directions": fingerprint["directions"],
        "precision": tuning["precision"],
        "tuning": dict(tuning),
        "sampling": fingerprint["sampling"],
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "ranks": 1 if comm is None else comm.size,
        "batch_norms_folded": evaluator.folded,
        "not_folded": evaluator.not_folded,
        "relus_fused": evaluator.fused,
        "torch_version": str(torch.__version__),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _silent(text: str) -> None:
    pass


def _nothing() -> None:
    pass


def _no_data() -> DataSet:
    raise InputError("no data: give (inputs, targets), a data set of pairs, or a dict of splits")


def _choose_splits(data: DataSet, wanted: Sequence[str] | None) -> DataSet:
    names = list(wanted) if wanted else ["train" if "train" in data else next(iter(data))]
    for name in names:
        if name not in data:
            raise InputError(f"the data have no split '{name}'; they have: {', '.join(data)}")
    return {name: data[name] for name in names}


def _check_path(path: Path | None, overwrite: bool) -> None:
    if path is None:
        return
    if not path.parent.is_dir():
        raise SurfaceFileError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise SurfaceFileError(f"{path}: is a folder, not a file; name a file, as in -o {path / 'surface.h5'}")
    if not os.access(path.parent, os.W_OK):
        raise SurfaceFileError(f"{path}: the folder {path.parent} cannot be written to; choose another with -o")


def _writer(
    stack: ExitStack, comm: Any | None, path: Path | None, empty: Surface, fingerprint: Mapping[str, Any], overwrite: bool
) -> SurfaceWriter | None:
    if comm is not None and comm.rank > 0:
        return None
    if path is not None:
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        try:
            stack.enter_context(lock)
        except Timeout as error:
            raise SurfaceFileError(f"{path}: another job is computing this file; wait for it, or use another -o") from error
        except (OSError, NotImplementedError) as error:  # a file system without locks
            say(f"warning: no lock on {path} ({one_line(error)[:80]}): see to it yourself that only one job computes it")
        stack.callback(path.with_name(f".{path.name}.lock").unlink, missing_ok=True)
        if overwrite:
            path.unlink(missing_ok=True)
    return stack.enter_context(SurfaceWriter(path, empty, fingerprint))


def _training_split(chosen: DataSet, data: DataSet, samples: int | None) -> Split:
    """What batch-norm statistics are estimated from: the training samples, those drawn where they are evaluated, too."""
    if "train" in chosen:
        return chosen["train"]
    return data["train"].subset(samples) if "train" in data else next(iter(chosen.values()))
