"""What the axes of a surface run along, beside random directions and other checkpoints (``along``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from paraloss.compute.directions.along import Made, delta, momentum, principal, task_vector
from paraloss.compute.directions.plane import tensors_of
from paraloss.compute.directions.random import Direction
from paraloss.compute.evaluate.at_center import Center, as_long_as_weights
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.report import Report
from paraloss.compute.inputs.problem import AnySplit, Loss
from paraloss.compute.inputs.runs import runs_of
from paraloss.compute.inputs.tensors import distinct_parameters
from paraloss.compute.options.surface import DirectionType, SurfaceOptions
from paraloss.compute.ranks.devices import rank_device


def center_of(
    model: nn.Module,
    loss: Loss,
    chosen: Mapping[str, AnySplit],
    options: SurfaceOptions,
    moving: frozenset[str] | None,
) -> Center:
    """The loss around ``model`` on the first of the splits, on the device that was asked for, in the model's own type.

    Args:
        model: model at the center. Not modified.
        loss: criterion or step.
        chosen: splits that are evaluated.
        options: device, batch size, whether the model trains.
        moving: names of the tensors that move; None for all.
    """
    split = next(iter(chosen))

    def make() -> PointEvaluator:
        report = Report(moving=moving, train_mode=options.train_mode)
        device = rank_device(options.device)
        return make_evaluator(model, loss, {split: chosen[split]}, [], device, batch_size=options.batch_size, report=report)

    return Center(make, split, moving)


def ways_made(
    model: nn.Module, options: SurfaceOptions, dir_type: DirectionType, moving: frozenset[str] | None, center: Center
) -> dict[str, Made]:
    """Axis -> its direction, for all that ``along`` asks for but random ones and checkpoints.

    Raises:
        InputError: a file that does not fit.
    """
    norms, made, components = dict(zip("xyz", options.norms, strict=True)), {}, 0

    def scaled(direction: Direction, name: str) -> Direction:
        kept = {key: part for key, part in direction.items() if moving is None or key in moving}
        own = distinct_parameters(model)
        weights = {key: own[key].detach().cpu() for key in kept}
        return as_long_as_weights(kept, {key: part.to(kept[key].dtype) for key, part in weights.items()}, name)

    def tensors(file: str) -> Mapping[str, Tensor]:
        return tensors_of(file, model, options.weights_key)

    for axis, way in options.ways.items():
        number, files = way.number, way.files
        if way.kind == "gradient":
            made[axis] = Made({"along": "gradient"}, _asked(center.gradient))
        elif way.kind == "worst":
            asked = {"radius": number, "norm": norms[axis], "ignore": options.ignore, "seed": options.seed}
            made[axis] = Made({"along": "worst", **asked}, _asked(partial(center.worst, **asked)))  # type: ignore[arg-type]
        elif way.kind == "eigenvector":
            center.expect(int(number))
            facts = {"along": "eigenvector", "number": int(number)}
            made[axis] = Made(facts, _asked(partial(center.eigenvector, int(number))))
        elif way.kind == "momentum":
            made[axis] = momentum(model, files[0], scaled)
        elif way.kind == "task":
            made[axis] = task_vector(tensors(files[0]), dir_type)
        elif way.kind == "delta":
            made[axis] = delta(tensors(files[0]), tensors(files[1]), dir_type)
        else:
            components += 1
            run = runs_of([Path(files[0])])[0].checkpoints
            made[axis] = principal(run, components, "weights", options.weights_key, moving, scaled)
    return made


def _asked(direction: Callable[[], Direction]) -> Callable[[nn.Module], Direction]:
    return lambda center: direction()
