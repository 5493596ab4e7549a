"""Compute a surface: from a model, a loss and data to a surface file, on one process or many ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from paraloss.compute.checkpoints import load_checkpoint, state_sha256
from paraloss.compute.criteria import load_criterion
from paraloss.compute.data import DataSet, as_data_set
from paraloss.compute.directions import (
    Direction,
    DirectionType,
    Ignore,
    Norm,
    direction_between,
    random_direction,
    statistics_differ,
)
from paraloss.compute.evaluator import Evaluator
from paraloss.compute.user_code import one_line
from paraloss.compute.visit_order import coarse_to_fine
from paraloss.compute.work_queue import on_all_ranks, on_first_rank, run_parallel, run_serial, world
from paraloss.errors import InputError, ParalossError, SurfaceFileError
from paraloss.progress import Progress, say
from paraloss.surface import PENDING, Surface
from paraloss.surface_file import SurfaceWriter, check_fingerprint, read_directions

Axis = tuple[float, float, int] | Sequence[float] | np.ndarray
Target = str | Path | nn.Module | Mapping[str, torch.Tensor]


def compute_surface(
    model: nn.Module,
    loss: str | Callable[..., Any] = "cross_entropy",
    data: Any = None,
    *,
    x: Axis = (-1.0, 1.0, 51),
    y: Axis | None = None,
    x_to: Target | None = None,
    y_to: Target | None = None,
    norm: Norm | tuple[Norm, Norm] = "filter",
    ignore: Ignore = "biasbn",
    dir_type: DirectionType | None = None,
    seed: int = 123,
    splits: Sequence[str] | None = None,
    samples: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    path: str | Path | None = None,
    overwrite: bool = False,
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
        x_to: another checkpoint (path, model or state_dict) that lies at x = 1; None draws a random direction.
        y_to: the same for y = 1.
        norm: of random directions, one for both or (x, y); see ``paraloss.compute.directions.normalise``.
        ignore: ``biasbn`` leaves biases and batch norm still in random directions.
        dir_type: ``weights`` moves parameters, ``states`` running statistics too. Default: ``states`` when one
            direction leads to a checkpoint, else ``weights``.
        seed: of the random directions.
        splits: names of the splits to evaluate; None takes "train", or the first there is.
        samples: draw this many samples of each split (the same at every point) instead of all.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …; with several ranks each takes the GPU of its local rank.
        batch_size: samples at once; None chooses.
        path: surface file to write and, when it is there already, to finish; None keeps the result in memory.
        overwrite: start again where ``path`` exists.
        provenance: further facts for the file, such as the model's name.
        progress: show progress on standard error.

    Returns:
        The complete surface, with its directions. Under mpiexec every rank calls this and gets it.

    Raises:
        InputError: model, loss, data, axes or checkpoints do not fit together.
        SurfaceFileError: ``path`` cannot be written, belongs to other settings, or another job is writing it.
    """
    comm = world()
    criterion_name, criterion = load_criterion(loss)
    x_steps, y_steps = as_steps(x, "x"), None if y is None else as_steps(y, "y")
    whole = _choose_splits(as_data_set(data) if data is not None else _no_data(), splits)
    chosen = {name: split.subset(samples) for name, split in whole.items()}
    x_end, y_end = (None if target is None else _tensors_of(target) for target in (x_to, y_to))
    if dir_type is None:
        dir_type = "states" if x_end or y_end else "weights"
    target_device = rank_device(device, comm)
    path = Path(path) if path is not None else None
    settings = _Directions(x_end, y_end, norm, ignore, dir_type, seed)

    on_first_rank(comm, lambda: _check_path(path, overwrite))
    _share_tensors(comm, model.state_dict())
    fingerprint = {
        "weights": state_sha256(model),
        "data": {name: split.sha256() for name, split in chosen.items()},
        "criterion": criterion_name,
        "directions": settings.fingerprint(y_steps is not None),
        "x": x_steps.tolist(),
        "y": None if y_steps is None else y_steps.tolist(),
        "precision": "fp32",
    }

    def make_directions() -> list[Direction]:
        if comm is not None and comm.rank > 0:
            return []
        if path is not None and path.exists() and not overwrite:
            check_fingerprint(path, fingerprint)
            kept = read_directions(path)
            return [{n: torch.from_numpy(t) for n, t in kept[axis].items()} for axis in ("x", "y") if axis in kept]
        return settings.make(model, y_steps is not None, say if progress else _silent)

    directions = [_share_direction(comm, d) for d in _same_number(comm, on_all_ranks(comm, make_directions))]
    population = {name: len(split) for name, split in whole.items()}
    evaluator: Evaluator = on_all_ranks(
        comm, lambda: Evaluator(model, criterion, chosen, directions, target_device, batch_size, population)
    )
    empty = Surface(
        x=x_steps,
        y=y_steps,
        metrics={name: np.full(_shape(x_steps, y_steps), np.nan) for name in evaluator.metrics},
        status=np.full(_shape(x_steps, y_steps), PENDING, np.uint8),
        provenance={
            **_facts(fingerprint, chosen, population, evaluator, seed, comm),
            **(provenance or {}),
        },
        directions={
            axis: {name: tensor.numpy() for name, tensor in direction.items()}
            for axis, direction in zip("xy", directions, strict=False)
        },
    )
    with ExitStack() as stack:
        writer = on_all_ranks(comm, lambda: _writer(stack, comm, path, empty, fingerprint, overwrite))
        pending = on_first_rank(comm, lambda: writer.pending())
        order = coarse_to_fine(empty.shape)
        todo = order[np.isin(order, pending)].tolist()
        grid = np.stack([c.ravel() for c in np.meshgrid(*[s for s in (x_steps, y_steps) if s is not None])], axis=1)

        def evaluate(index: int) -> list[float]:
            try:
                return evaluator(grid[index])
            except ParalossError:
                raise
            except torch.OutOfMemoryError as error:
                raise InputError("the GPU is out of memory; give a smaller --batch-size and run it again") from error
            except Exception as error:  # the user's model or loss: whatever it raises is told in one line
                place = ", ".join(f"{axis}={step:g}" for axis, step in zip("xy", grid[index], strict=False))
                raise InputError(f"at {place}: {type(error).__name__}: {one_line(error)[:200]}") from error

        first = comm is None or comm.rank == 0
        if first and progress and len(todo) < len(order):
            say(f"resuming: {len(order) - len(todo)} of {len(order)} points are there already")
        title = "computing"
        with (
            Progress(title, len(order), len(order) - len(todo), shown=first and progress) as bar,
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):

            def record(index: int, values: list[float]) -> None:
                writer.add(index, values)
                bar.advance()

            if comm is None:
                run_serial(todo, evaluate, record)
            else:
                run_parallel(comm, todo, evaluate, record)
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
    if len(steps) < 2 or not np.isfinite(steps).all() or not (np.diff(steps) > 0).all():
        raise InputError(f"{name} must be two or more finite, increasing steps, as in {name}=-1:1:51")
    return steps


class _Directions:
    """How x and y are chosen."""

    def __init__(
        self,
        x_end: Mapping[str, torch.Tensor] | None,
        y_end: Mapping[str, torch.Tensor] | None,
        norm: Norm | tuple[Norm, Norm],
        ignore: Ignore,
        dir_type: DirectionType,
        seed: int,
    ) -> None:
        self.ends = (x_end, y_end)
        self.norms = (norm, norm) if isinstance(norm, str) else norm
        self.ignore, self.dir_type, self.seed = ignore, dir_type, seed

    def fingerprint(self, two: bool) -> list[dict[str, Any]]:
        return [
            {"to": _tensors_sha256(end), "type": self.dir_type}
            if end
            else {"norm": norm, "ignore": self.ignore, "type": self.dir_type, "seed": self.seed}
            for end, norm in list(zip(self.ends, self.norms, strict=True))[: 1 + two]
        ]

    def make(self, model: nn.Module, two: bool, tell: Callable[[str], None]) -> list[Direction]:
        generator = torch.Generator().manual_seed(self.seed)
        directions = []
        for axis, end, norm in list(zip("xy", self.ends, self.norms, strict=True))[: 1 + two]:
            if end is None:
                directions.append(random_direction(model, generator, norm, self.ignore, self.dir_type))
                continue
            if self.dir_type == "weights" and statistics_differ(model, end):
                tell(
                    "warning: the batch-norm statistics of the two checkpoints differ and dir_type is 'weights': "
                    f"losses off the centre along {axis} are not those of real models; use 'states'"
                )
            directions.append(direction_between(model, end, self.dir_type, f"{axis}_to"))
        return directions


def _silent(text: str) -> None:
    pass


def _no_data() -> DataSet:
    raise InputError("no data: give (inputs, targets), a data set of pairs, or a dict of splits")


def _choose_splits(data: DataSet, wanted: Sequence[str] | None) -> DataSet:
    names = list(wanted) if wanted else ["train" if "train" in data else next(iter(data))]
    for name in names:
        if name not in data:
            raise InputError(f"the data have no split '{name}'; they have: {', '.join(data)}")
    return {name: data[name] for name in names}


def _tensors_of(target: Target) -> Mapping[str, torch.Tensor]:
    if isinstance(target, nn.Module):
        return target.state_dict()
    if isinstance(target, Mapping):
        return target
    return load_checkpoint(target)[0]


def _tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def rank_device(name: str, comm: Any | None) -> torch.device:
    """The device of this rank; CPU ranks share the machine's cores evenly."""
    local_rank, local_size = 0, 1
    if comm is not None:
        from mpi4py import MPI

        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        local_rank, local_size = node.rank, node.size
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device '{name}'; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"device {name}: this torch sees no CUDA GPU; use --device cpu")
        if device.index is None:
            device = torch.device("cuda", local_rank % torch.cuda.device_count())
        elif device.index >= torch.cuda.device_count():
            raise InputError(f"device {name}: there are only {torch.cuda.device_count()} GPUs")
    elif comm is not None:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_size))
    return device


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
        stack.callback(path.with_name(f".{path.name}.lock").unlink, missing_ok=True)
        if overwrite:
            path.unlink(missing_ok=True)
    return stack.enter_context(SurfaceWriter(path, empty, fingerprint))


def _facts(
    fingerprint: Mapping[str, Any],
    chosen: DataSet,
    population: Mapping[str, int],
    evaluator: Evaluator,
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
        "precision": fingerprint["precision"],
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "ranks": 1 if comm is None else comm.size,
        "batch_norms_folded": evaluator.folded,
        "torch_version": str(torch.__version__),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _shape(x: np.ndarray, y: np.ndarray | None) -> tuple[int, ...]:
    return (len(x),) if y is None else (len(y), len(x))


def _same_number(comm: Any | None, directions: list[Direction]) -> list[Direction]:
    if comm is None:
        return directions
    number = comm.bcast(len(directions))
    return directions or [{} for _ in range(number)]


def _share_direction(comm: Any | None, direction: Direction) -> Direction:
    """Rank 0's direction on every rank."""
    if comm is None:
        return direction
    shapes = comm.bcast({name: (tuple(t.shape), str(t.numpy().dtype)) for name, t in direction.items()})
    if comm.rank > 0:
        direction = {n: torch.from_numpy(np.empty(shape, dtype)) for n, (shape, dtype) in shapes.items()}
    _share_tensors(comm, direction)
    return direction


def _share_tensors(comm: Any | None, tensors: Mapping[str, torch.Tensor]) -> None:
    """Overwrite ``tensors`` on every rank with rank 0's."""
    if comm is None:
        return
    for tensor in tensors.values():
        if comm.rank == 0:
            comm.Bcast(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        else:
            buffer = np.empty(tensor.numel() * tensor.element_size(), np.uint8)
            comm.Bcast(buffer)
            with torch.no_grad():
                tensor.detach().copy_(torch.from_numpy(buffer).view(tensor.dtype).reshape(tensor.shape))
