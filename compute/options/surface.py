"""The options of a computation, in groups; see ``paraloss.option`` for how a field is defined, checked, stored and compared.

Python's users pass groups or single options to ``compute_surface``; the verbs of the command line take the same groups, with
flags and help from the fields below. A new option is a field here, its line in the keywords at the end, and the code that
uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from paraloss.compute.options.along import Way, ways_of
from paraloss.compute.options.steps import Steps, check_number_of_points, steps_along
from paraloss.errors import InputError
from paraloss.option import Flag, Options, above, at_least, at_most, is_share, option, within

Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer", "none"]
Ignore = Literal["biasbn", "none"]
DirectionType = Literal["weights", "states"]
Generator = Literal["li2018", "philox"]
PLAIN = ("loss", "acc")  # metrics that a forward pass gives
COSTLY = ("grad_norm", "hessian")
MOST_SAMPLES, MOST_SEED = 10**12, 2**62
"""Limits of numbers that end in torch, whose integers have 64 bits."""

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    Target = str | Path | nn.Module | Mapping[str, Tensor]
    Directions = str | Path | Sequence[Mapping[str, Tensor]]
    Norms = Norm | tuple[Norm, ...]
    Names = str | Sequence[str]
    Patterns = str | Sequence[str]
    Metrics = str | Sequence[str | Callable[..., object]]
    File = str | Path
else:  # what the command line makes of its texts; needs neither numpy nor torch
    Names = Metrics = str
    Target = Directions = File = Path
    Norms = Norm
    Patterns = list[str]


@dataclass(frozen=True, kw_only=True)
class InputOptions(Options):
    """The model, the data and the loss, as named on the command line."""

    model: str | None = None
    """Built-in name, timm:NAME, torchvision:NAME, huggingface:DIR, file.py:callable or package.module:callable. Default: the
    built-in name that the checkpoint records."""
    model_arg: Annotated[list[str] | None, Flag(opposite=False)] = None
    """Option of the model as name=value; may be repeated."""
    data: str | None = None
    """digits, mnist5k, cifar10, mnist, fashion-mnist, cifar100:DIR, npz:FILE, DIR of save_to_disk, or file.py:callable.
    Default: as for the model."""
    data_arg: Annotated[list[str] | None, Flag(opposite=False)] = None
    """Option of your own data callable as name=value; may be repeated."""
    weights_key: str | None = None
    """Place of the weights in the checkpoints, as in ema or state.model. Default: the only place that fits the model."""
    loss: str | None = None
    """cross_entropy, mse, softmax_mse or file.py:callable. Default: the built-in name that the checkpoint records, else
    cross_entropy."""
    step: str | None = None
    """Instead of a loss, for batches of any kind: file.py:callable (model, batch), or huggingface."""

    def check(self) -> None:
        if self.loss is not None and self.step is not None:
            raise InputError("{step} computes the loss itself: leave out {loss}", arguments=("step", "loss"))


@dataclass(frozen=True, kw_only=True)
class PlaneOptions(Options):
    """The directions through the weights, and the steps along them.

    In Python steps may also be (first, last, number) or increasing numbers, a checkpoint may be a model or a state_dict,
    directions may be given themselves (x, y and z, each parameter name -> tensor), and norm may be a tuple with one name per
    axis.
    """

    x: Steps = "-1:1:51"
    """Steps along x as FIRST:LAST:NUMBER, as in --x=-1:1:51."""
    y: Steps | None = None
    """Steps along y. Default: those of x; none where only x_to is given, the line to a checkpoint."""
    curve: Annotated[bool, Flag(opposite=False)] = False
    """Compute a curve, along x alone."""
    z: Steps | None = None
    """Steps along z, a third direction: a volume."""
    x_to: Target | None = None
    """Checkpoint at x = 1. Default: x is a random direction."""
    y_to: Target | None = None
    """Checkpoint at y = 1."""
    z_to: Target | None = None
    """Checkpoint at z = 1."""
    along: Annotated[Patterns | None, Flag(opposite=False)] = None
    """What x runs along; again for y, again for z: random, gradient, worst:RADIUS (where the loss rises most), eigenvector:K
    (of the Hessian), momentum:FILE (an optimizer's), pca:FOLDER (a run's components), to:FILE (as x_to), task:FILE (from the
    model's origin to the model), delta:FROM,TO. Default: random."""
    weights_key: Annotated[str | None, Flag(parsed=False)] = None  # of InputOptions on the command line
    """Place of the weights in the files of x_to, y_to and z_to, as in ema. Default: the only place that fits the model."""
    directions: Directions | None = None
    """Surface file, or direction file of Li et al.'s code, whose directions are used as given, in place of all that
    chooses them otherwise."""
    norm: Norms = "filter"
    """Normalization of random directions."""
    y_norm: Norm | None = None
    """Normalization of a random y. Default: that of x."""
    z_norm: Norm | None = None
    """Normalization of a random z. Default: that of x."""
    ignore: Ignore = "biasbn"
    """Tensors that random directions do not move: biasbn for biases and batch norm, or none."""
    dir_type: DirectionType | None = None
    """Tensors that move: weights for parameters, states for batch-norm statistics too. Default: states where a direction leads
    to a checkpoint, else weights."""
    move: Annotated[Patterns | None, Flag(opposite=False)] = option(None, decides=True)
    """Pattern of the names of parameters that move, as in 'layers.0.*'; may be repeated. trainable: those that require
    gradients. Default: all."""
    generator: Literal["auto", "li2018", "philox"] = "auto"
    """Random numbers of directions: li2018, the tensors of Li et al.'s code; philox, recipes whose numbers are made again at
    each point. auto: that of the file that is resumed; philox for models of more than 100 million parameters."""
    save_directions: Annotated[bool, Flag(opposite=False)] = False
    """Keep the tensors of directions by recipe in the file, too."""
    seed: int = option(123, within(-MOST_SEED, MOST_SEED))
    """Seed of the random directions, and of which samples rtol, loss_cap and corrections take; the draw of samples is fixed."""

    def __post_init__(self) -> None:
        if isinstance(self.norm, (tuple, list)) and self.norm:  # one per axis
            first, *others = self.norm
            object.__setattr__(self, "norm", first)
            for name, norm in zip(("y_norm", "z_norm"), others, strict=False):
                object.__setattr__(self, name, norm)
        for axis, way in zip("xyz", ways_of(self.along), strict=False):  # to:FILE is another way to ask for x_to
            if way.kind == "to" and getattr(self, f"{axis}_to") is None:
                object.__setattr__(self, f"{axis}_to", Path(way.files[0]))
        super().__post_init__()

    @property
    def ways(self) -> dict[str, Way]:
        """Axis -> what it runs along, for those that neither are random nor lead to a checkpoint."""
        named = zip("xyz", ways_of(self.along), strict=False)
        return {axis: way for axis, way in named if way.kind not in ("random", "to")}

    def check(self) -> None:
        for axis, way in zip("xyz", ways_of(self.along), strict=False):
            target, other = getattr(self, f"{axis}_to"), f"{axis}_to"
            if target is not None and (way.kind != "to" or not _same_path(target, way.files[0])):
                raise InputError(
                    f"{{along}} and {{{other}}} both say where {axis} leads; leave one out", arguments=("along", other)
                )
        if self.along is not None and self.directions is not None:
            raise InputError("{directions} are used as given: leave out {along}", arguments=("directions", "along"))
        if len(ways_of(self.along)) > len(self.steps()):
            raise InputError("{along} names more axes than there are; add {y} or {z}", arguments=("along", "y", "z"))
        if self.z_to is not None and self.z is None:
            raise InputError("{z_to} requires {z}, as in {z}=-0.5:1.5:51", arguments=("z_to", "z"))
        for axis in ("y", "y_to", "z", "z_to"):
            if self.curve and getattr(self, axis) is not None:
                raise InputError(f"{{curve}} runs along x alone: leave out {{{axis}}}", arguments=("curve", axis))
        check_number_of_points([len(axis) for axis in self.steps().values()])

    def steps(self) -> dict[str, np.ndarray]:
        """Return "x", "y", "z" -> (n,) float64 steps, for the axes of the surface."""
        given = {"x": self.x, "y": self._along_y(), "z": self.z}
        return {name: steps_along(axis, name) for name, axis in given.items() if axis is not None}

    def _along_y(self) -> Steps | None:
        if self.curve or self.y is not None:
            return self.y
        one_direction = (
            isinstance(self.directions, Sequence) and not isinstance(self.directions, str) and len(self.directions) < 2
        )
        line = self.x_to is not None and self.y_to is None and self.z is None and len(ways_of(self.along)) < 2
        return None if one_direction or line else self.x

    @property
    def norms(self) -> tuple[Norm, Norm, Norm]:
        """Normalizations of random x, y and z directions."""
        assert isinstance(self.norm, str)
        return self.norm, self.y_norm or self.norm, self.z_norm or self.norm


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(Options):
    """What is measured at each point, and on which samples."""

    splits: Names | None = None
    """Splits of the data to evaluate, as in train,test. Default: train, or the first."""
    metrics: Metrics = "loss,acc"
    """Metrics per point: loss, acc, grad_norm (norm of the gradient), hessian (smallest and largest eigenvalue, ratio), and
    your own as file.py:callable. The gradient and the Hessian are computed for the first split; the loss is always included."""
    bn: Literal["keep", "recompute"] = "keep"
    """Batch-norm statistics: keep those of the checkpoint (or as the directions move them), or recompute them from the training
    data at each point."""
    train_mode: Annotated[bool, Flag(opposite=False)] = option(False, decides=True)
    """Evaluate the model as in training: dropout stays on, with the same random numbers at every point, and batch norm uses
    each batch's own statistics. The losses then depend on the batch size."""
    samples: int | None = option(None, at_least(1), at_most(MOST_SAMPLES))
    """Number of samples drawn from each split, the same at every point. Default: all."""

    def check(self) -> None:
        super().check()
        if self.train_mode and self.bn == "recompute":
            raise InputError(
                "{train_mode} uses each batch's own statistics, so there is nothing to recompute: leave out {bn}",
                arguments=("train_mode", "bn"),
            )

    @property
    def metric_names(self) -> list[str | Callable[..., object]]:
        """The metrics that were asked for: names, references and a user's own functions."""
        if isinstance(self.metrics, str):
            return [*names_in(self.metrics)]
        return [metric.strip() if isinstance(metric, str) else metric for metric in self.metrics]

    @property
    def split_names(self) -> list[str]:
        """The splits that were asked for; empty where none was."""
        return names_in(self.splits or "")


@dataclass(frozen=True, kw_only=True)
class AccuracyOptions(Options):
    """How accurate the values must be: less accuracy costs less time."""

    precision: Literal["auto", "fp64", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Number type of the evaluation; auto: that of the model; for fp32 a faster one of the hardware, corrected by samples in
    fp32 to within the bound."""
    precision_bound: float = option(1e-3, is_share)
    """Largest standard error of such a correction, as a share of |loss| + 0.1; where single losses are not known, the largest
    relative difference at nine points."""
    rtol: float | None = option(None, is_share)
    """Standard error of each loss, as a share of it, over sampling and rounding, that ends the evaluation of a point early, as
    in 0.01. Default: all samples."""
    loss_cap: float | None = None
    """Loss above which a point is left after its first samples. Default: none."""
    refine: float | None = option(None, is_share)
    """Error of linear interpolation, as a share of the height, below which points are interpolated instead of evaluated (status
    3). Default: every point is evaluated."""


@dataclass(frozen=True, kw_only=True)
class EffortOptions(Options):
    """Where the work is done, and how it is divided."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto: the GPU of each rank's local rank where there is one."""
    batch_size: int | None = option(None, at_least(1), at_most(MOST_SAMPLES))
    """Samples per batch. Default: chosen by the size of a sample, by a probe where the work is long."""
    split_data: int | None = option(None, at_least(1))
    """Ranks that share the samples of one point. Default: 1, more where there are fewer points than ranks."""
    in_place: bool | None = None
    """Move the model itself, tensor by tensor, instead of a copy: twice the memory of the weights instead of ten, but more
    time per point. It is put back at the end. Default: where directions by recipe move more than 100 million parameters."""
    point_timeout: float | None = option(None, above(0))
    """Longest time per point in seconds; the job ends, with what is finished kept, where one takes longer. Default: none."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Options):
    """The file that is written, and what is reported meanwhile."""

    path: Annotated[File | None, Flag(names=("--output", "-o"))] = None
    """Surface file to write, or to finish where it exists. Default: surface.h5 (compute), trajectory.h5 (project), memory only
    (Python)."""
    overwrite: Annotated[bool, Flag(opposite=False)] = False
    """Start again where the file exists."""
    save_best: File | None = None
    """Checkpoint to write: the evaluated point with the lowest loss, in the form of the checkpoint at the origin."""
    progress: bool = True
    """Show progress on standard error."""


@dataclass(frozen=True, kw_only=True)
class SurfaceOptions(OutputOptions, EffortOptions, AccuracyOptions, MeasureOptions, PlaneOptions):
    """All options of a surface."""

    def check(self) -> None:
        super().check()
        thrifty = tuple(name for name in ("rtol", "loss_cap", "refine") if getattr(self, name) is not None)
        if self.z is not None and thrifty:
            raise InputError(
                f"a volume is evaluated at every point on all samples: leave out {_braced(thrifty)}", arguments=thrifty
            )
        shared = ("split_data",) if (self.split_data or 1) > 1 else ()
        partial = (*(name for name in thrifty if name != "refine"), *shared)
        costly = [name for name in self.metric_names if name in COSTLY]
        if costly and partial:
            raise InputError(
                f"{', '.join(map(str, costly))}: requires all samples on one rank; leave out {_braced(partial)}",
                arguments=partial,
            )

    @property
    def sampled(self) -> bool:
        """Whether points are evaluated on a part of the samples."""
        return self.rtol is not None or self.loss_cap is not None


class EffortKeywords(TypedDict, total=False):
    """Names and types of the options of ``EffortOptions``."""

    device: str
    batch_size: int | None
    split_data: int | None
    in_place: bool | None
    point_timeout: float | None


class MeasureKeywords(EffortKeywords, total=False):
    """Names and types of the options that surfaces and trajectories share, for editors and type checkers."""

    splits: Names | None
    metrics: Metrics
    bn: Literal["keep", "recompute"]
    train_mode: bool
    samples: int | None
    precision: Literal["auto", "fp64", "fp32", "tf32", "bf16", "fp16"]
    precision_bound: float
    rtol: float | None
    loss_cap: float | None
    refine: float | None
    path: File | None
    overwrite: bool
    save_best: File | None
    progress: bool


class SurfaceKeywords(MeasureKeywords, total=False):
    """The options of ``compute_surface`` by name; each is documented in its group."""

    x: Steps
    y: Steps | None
    curve: bool
    z: Steps | None
    x_to: Target | None
    y_to: Target | None
    z_to: Target | None
    along: Patterns | None
    weights_key: str | None
    directions: Directions | None
    norm: Norms
    y_norm: Norm | None
    z_norm: Norm | None
    ignore: Ignore
    dir_type: DirectionType | None
    move: Patterns | None
    generator: Literal["auto", "li2018", "philox"]
    save_directions: bool
    seed: int


def names_in(text: Names) -> list[str]:
    """Return the names of a list, or of a text with commas."""
    names = text.split(",") if isinstance(text, str) else text
    return [name.strip() for name in names if name.strip()]


def _same_path(one: object, other: str) -> bool:
    return isinstance(one, (str, Path)) and Path(one) == Path(other)


def _braced(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
