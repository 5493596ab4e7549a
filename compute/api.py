"""Compute a surface: from a model, a loss and data to a surface file, on one process or many ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from paraloss.compute.directions.plane import Plane, Target, tensors_of
from paraloss.compute.directions.random import Direction, DirectionType, Ignore, Norm
from paraloss.compute.evaluate.measures import PLAIN, choose_measures
from paraloss.compute.inputs.criteria import load_criterion
from paraloss.compute.inputs.data import DataSet, Split, as_data_set
from paraloss.compute.job import Job, Settings
from paraloss.compute.ranks.world import world
from paraloss.errors import InputError
from paraloss.surface import Surface

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
        model: the center; it is left as it was.
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
        norm: of random directions, one for all or (x, y); see ``paraloss.compute.directions.random.normalize``.
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
            loss; see ``paraloss.compute.evaluate.regression``. None takes all.
        loss_cap: leave a point after its first samples when its loss is clearly above this.
        refine: evaluate only where linear interpolation would be wrong by more than this share of the height, and
            interpolate the rest (status 3); see ``paraloss.compute.schedule.refinement``. None evaluates every point.
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
    _check_options(precision_bound, rtol, loss_cap, refine, split_data, point_timeout, bn)
    measures = choose_measures(metrics)
    steps = {name: as_steps(axis, name) for name, axis in (("x", x), ("y", y), ("z", z)) if axis is not None}
    if z is not None and y is None:
        raise InputError("--z needs --y: a volume has three axes")
    if z is not None and (refine is not None or rtol is not None or loss_cap is not None):
        raise InputError("a volume is evaluated at every point on all samples: leave out --refine, --rtol and --loss-cap")
    if measures and (rtol is not None or loss_cap is not None or (split_data or 1) > 1):
        raise InputError(f"{', '.join(measures)}: need all samples on one rank; leave out --rtol, --loss-cap, --split-data")
    if data is None:
        raise InputError("no data: give (inputs, targets), a data set of pairs, or a dict of splits")
    all_splits = as_data_set(data)
    whole = _choose_splits(all_splits, splits)
    chosen = {name: split.subset(samples) for name, split in whole.items()}
    bn_data = _training_split(chosen, all_splits, samples) if bn == "recompute" else None
    ends = [None if target is None else tensors_of(target) for target in (x_to, y_to, z_to)][: len(steps)]
    if dir_type is None:
        dir_type = "states" if any(ends) else "weights"
    settings = Settings(
        model=model,
        criterion=load_criterion(loss),
        chosen=chosen,
        population={name: len(split) for name, split in whole.items()},
        bn_data=bn_data,
        steps=steps,
        plane=Plane(ends, norm, ignore, dir_type, seed, directions, warn=bn_data is None),
        measures=measures,
        accuracy="acc" in metrics,
        seed=seed,
        precision=precision,
        precision_bound=precision_bound,
        rtol=rtol,
        loss_cap=loss_cap,
        refine=refine,
        split_data=split_data,
        point_timeout=point_timeout,
        device=device,
        batch_size=batch_size,
    )
    job = Job(settings, world(), None if path is None else Path(path), overwrite, progress)
    for axis, end in zip(steps, ends, strict=True):
        if end is not None:
            job.tell(_models_missed(axis, steps[axis]))
    return job.run(trajectory, provenance or {})


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


def _models_missed(axis: str, steps: np.ndarray) -> str:
    """A warning where the steps towards another checkpoint pass by one of the two models; empty where they do not."""
    missed = [end for end in (0, 1) if steps[0] < end < steps[-1] and np.abs(steps - end).min() > 1e-9]
    if not missed:
        return ""
    names = " nor ".join(str(end) for end in missed)
    return (
        f"warning: no step along {axis} is {names}, so that the own loss of the model there is not among the points; "
        f"choose another number of points, as in --{axis}=-0.5:1.5:41"
    )


def _check_options(
    precision_bound: float,
    rtol: float | None,
    loss_cap: float | None,
    refine: float | None,
    split_data: int | None,
    point_timeout: float | None,
    bn: str,
) -> None:
    for name, value, below in (("precision_bound", precision_bound, 1), ("rtol", rtol, 1), ("refine", refine, 1)):
        if value is not None and not 0 < value < below:
            raise InputError(f"{name} must lie between 0 and {below}, not {value:g}; 0.01 is one percent")
    if loss_cap is not None and not np.isfinite(loss_cap):
        raise InputError(f"loss_cap must be a number, not {loss_cap}")
    if split_data is not None and split_data < 1:
        raise InputError(f"split_data is a number of ranks, at least 1, not {split_data}")
    if point_timeout is not None and not point_timeout > 0:
        raise InputError(f"point_timeout is a number of seconds above zero, not {point_timeout:g}")
    if bn not in ("keep", "recompute"):
        raise InputError(f"bn is 'keep' or 'recompute', not '{bn}'")


def _choose_splits(data: DataSet, wanted: Sequence[str] | None) -> DataSet:
    names = list(wanted) if wanted else ["train" if "train" in data else next(iter(data))]
    for name in names:
        if name not in data:
            raise InputError(f"the data have no split '{name}'; they have: {', '.join(data)}")
    return {name: data[name] for name in names}


def _training_split(chosen: DataSet, data: DataSet, samples: int | None) -> Split:
    """What batch-norm statistics are estimated from: the training samples, those drawn where they are evaluated, too."""
    if "train" in chosen:
        return chosen["train"]
    return data["train"].subset(samples) if "train" in data else next(iter(chosen.values()))
