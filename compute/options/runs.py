"""The options of training runs: training itself, and the trajectory of a run with the surface around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from paraloss.compute.options.surface import (
    MOST_SAMPLES,
    AccuracyOptions,
    DirectionType,
    EffortOptions,
    Ignore,
    MeasureKeywords,
    MeasureOptions,
    OutputOptions,
)
from paraloss.errors import InputError
from paraloss.option import Flag, Options, above, at_least, at_most, option, within

if TYPE_CHECKING:
    File = str | Path
    Patterns = str | Sequence[str]
    Labels = Sequence[str]
else:  # on the command line
    File = Path
    Patterns = list[str]
    Labels = list[str]


_PROGRESSIVE = 5  # epochs: the fewest with one on whole images


@dataclass(frozen=True, kw_only=True)
class ProjectionOptions(Options):
    """The plane that checkpoints are projected onto, and the grid around them."""

    onto: File | None = None
    """Surface file, or direction file of Li et al.'s code, whose plane is used. Default: the plane of the first two principal
    components of all checkpoints together, each counting the same."""
    center: File | None = None
    """Checkpoint at the origin. Default: the last checkpoint of the first run; with a surface as onto, its own center, which is
    looked for among the checkpoints."""
    label: Annotated[Labels | None, Flag(opposite=False)] = None
    """Name of a run in pictures; once per run, in their order. Default: the names of the folders."""
    method: Literal["lstsq", "cos"] = "lstsq"
    """Coordinates: lstsq for least squares, cos for the lengths that Li et al.'s code computes."""
    dir_type: DirectionType = "weights"
    """Tensors that count: weights for parameters, states for batch-norm statistics too."""
    ignore: Ignore = "none"
    """Tensors left out of the principal components: biasbn for biases and batch norm, or none."""
    move: Annotated[Patterns | None, Flag(opposite=False)] = None
    """Pattern of the names of parameters that count, and that move; see compute; may be repeated. Default: all."""
    points: int = option(51, at_least(3), at_most(10_000))
    """Steps along each axis."""
    margin: float = option(0.2, within(0, 10))
    """Space around the path, as a share of its extent."""
    weights_key: Annotated[str | None, Flag(parsed=False)] = None  # of InputOptions on the command line
    """Place of the weights in the checkpoints, as in ema. Default: the only place that fits the model."""

    def check(self) -> None:
        if self.method == "cos" and self.onto is None:
            raise InputError(
                "{method} cos requires {onto}: along principal components it is the same as lstsq", arguments=("method", "onto")
            )


@dataclass(frozen=True, kw_only=True)
class TrajectoryOptions(OutputOptions, EffortOptions, AccuracyOptions, MeasureOptions, ProjectionOptions):
    """All options of a trajectory and the surface around it."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Stochastic gradient descent by one of two recipes."""

    recipe: Literal["li2018", "cifar"] = "li2018"
    """li2018: the rate falls by ten at 50, 75 and 92 % of the epochs. cifar: images cropped and flipped at random, the rate
    rises over the first 5 % of the steps, then falls along a cosine to zero."""
    progressive: Annotated[bool, Flag(opposite=False)] = False
    """Train on images at half their size in the first half of the epochs, at three quarters up to 80 %, then whole: half the
    work. For recipe cifar, and models that take images of every size. Test accuracy of an epoch: at that epoch's size."""
    epochs: int = option(20, at_least(1), at_most(10**6))
    """Passes over the training data."""
    lr: float = option(0.1, above(0), at_most(10**6))
    """Learning rate: the highest one."""
    batch_size: int = option(128, at_least(1), at_most(MOST_SAMPLES))
    """Samples per step."""
    weight_decay: float = option(5e-4, at_least(0), at_most(10**6))
    """L2 penalty factor, as in torch's SGD."""
    momentum: float = option(0.9, within(0, 1))
    """Momentum."""
    nesterov: bool = True
    """Use Nesterov's momentum."""
    seed: int = option(0, at_least(0), at_most(10**12))
    """Seed of the shuffles, and of the initial weights on the command line."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward passes; the weights stay in fp32. auto: bf16 where the hardware has it."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def check(self) -> None:
        if self.progressive and self.recipe != "cifar":
            raise InputError("{progressive} requires {recipe} cifar", arguments=("progressive", "recipe"))
        if self.progressive and self.epochs < _PROGRESSIVE:
            raise InputError(
                f"{{progressive}} requires {{epochs}} of at least {_PROGRESSIVE}: the last fifth trains on whole images",
                arguments=("progressive", "epochs"),
            )


class TrajectoryKeywords(MeasureKeywords, total=False):
    """The options of ``project_run`` by name; each is documented in its group."""

    onto: File | None
    center: File | None
    label: Labels | None
    method: Literal["lstsq", "cos"]
    dir_type: DirectionType
    ignore: Ignore
    move: Patterns | None
    points: int
    margin: float
    weights_key: str | None


class TrainKeywords(TypedDict, total=False):
    """The options of ``train`` by name; each is documented in ``TrainOptions``."""

    recipe: Literal["li2018", "cifar"]
    progressive: bool
    epochs: int
    lr: float
    batch_size: int
    weight_decay: float
    momentum: float
    nesterov: bool
    seed: int
    precision: Literal["auto", "fp32", "bf16"]
    device: str
