"""The options of what connects two solutions: the permutation of one, and the curve of low loss between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from paraloss.compute.options.surface import MOST_SAMPLES, MOST_SEED, EffortKeywords, EffortOptions, Names
from paraloss.errors import InputError
from paraloss.option import Flag, above, at_least, at_most, option, within

if TYPE_CHECKING:
    File = str | Path
else:  # on the command line
    File = Path


@dataclass(frozen=True, kw_only=True)
class AlignOptions(EffortOptions):
    """How the units of one model are matched to those of another, and what is measured."""

    by: Literal["weights", "activations"] = "weights"
    """What is matched: weights, or the activations on the samples."""
    points: int = option(11, at_least(0), at_most(10_000))
    """Points on the straight line between the two models, before and after; 0 for none."""
    splits: Names | None = None
    """Splits whose loss is measured. Default: train, or the first."""
    samples: int | None = option(None, at_least(2), at_most(MOST_SAMPLES))
    """Number of samples drawn from each split. Default: all."""
    seed: int = option(0, within(0, MOST_SEED))
    """Seed of the order in which weights are matched."""
    input_shape: str | None = None
    """Shape of one input, as in 3,32,32, where there are no data: outputs are compared on random inputs."""
    weights_key: Annotated[str | None, Flag(parsed=False)] = None  # of InputOptions on the command line
    """Place of the weights in the checkpoints, as in ema. Default: the only place that fits the model."""
    progress: bool = True
    """Show progress on standard error."""

    def check(self) -> None:
        if self.points in (1, 2):
            raise InputError("{points} must be 0, or at least 3: two are the models themselves", arguments=("points",))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of one input.

        Raises:
            InputError: ``input_shape`` is no list of positive numbers.
        """
        if self.input_shape is None:
            return None
        parts = self.input_shape.replace("x", ",").split(",")
        if not all(part.strip().isdigit() and int(part) for part in parts):
            raise InputError(
                f"{{input_shape}} must be whole numbers with commas, as in 3,32,32, not {self.input_shape[:40]!r}",
                arguments=("input_shape",),
            )
        return tuple(int(part) for part in parts)


@dataclass(frozen=True, kw_only=True)
class ConnectOptions(EffortOptions):
    """The curve between two models, its training, and the plane around it."""

    curve: Literal["bezier", "chain"] = "bezier"
    """bezier: a Bézier curve, quadratic with one bend. chain: straight pieces from bend to bend."""
    bends: int = option(1, at_least(1), at_most(20))
    """Number of points between the two ends that are trained."""
    epochs: int = option(30, at_least(1), at_most(10**6))
    """Passes over the training data."""
    lr: float = option(0.02, above(0), at_most(10**6))
    """Learning rate: kept for half of the training, then down to a hundredth in a straight line."""
    train_batch: int = option(128, at_least(2), at_most(MOST_SAMPLES))
    """Samples per step of the training."""
    weight_decay: float = option(5e-4, at_least(0), at_most(10**6))
    """L2 penalty factor on the bends, as in torch's SGD."""
    momentum: float = option(0.9, within(0, 1))
    """Momentum."""
    seed: int = option(0, at_least(0), at_most(10**12))
    """Seed of the shuffles, and of the places along the curve that are trained."""
    splits: Names | None = None
    """Splits to evaluate, as in train,test. Default: train and test, as far as they exist."""
    samples: int | None = option(None, at_least(2), at_most(MOST_SAMPLES))
    """Number of samples drawn from each split. Default: all."""
    points: int = option(31, at_least(3), at_most(10_000))
    """Points along the curve, and along the straight line."""
    grid: int = option(25, at_least(0), at_most(10_000))
    """Steps along each axis of the surface over the plane of the ends and the bend, about; 0 for no surface."""
    margin: float = option(0.25, within(0, 10))
    """Space around the curve on that surface, as a share of its extent."""
    weights_key: Annotated[str | None, Flag(parsed=False)] = None  # of InputOptions on the command line
    """Place of the weights in the checkpoints, as in ema. Default: the only place that fits the model."""
    overwrite: Annotated[bool, Flag(opposite=False)] = False
    """Replace another curve, or other points, in the folder; a curve with the same settings is not trained again."""
    save_best: File | None = None
    """Checkpoint to write: the point of the curve with the lowest loss, in the form of the first one."""
    progress: bool = True
    """Show progress on standard error."""

    def check(self) -> None:
        if self.grid in (1, 2):
            raise InputError("{grid} must be 0, or at least 3", arguments=("grid",))


class ConnectedKeywords(EffortKeywords, total=False):
    """What both have in common, by name."""

    splits: Names | None
    samples: int | None
    seed: int
    points: int
    weights_key: str | None
    progress: bool


class AlignKeywords(ConnectedKeywords, total=False):
    """The options of ``align`` by name; each is documented in ``AlignOptions``."""

    by: Literal["weights", "activations"]
    input_shape: str | None


class ConnectKeywords(ConnectedKeywords, total=False):
    """The options of ``connect`` by name; each is documented in ``ConnectOptions``."""

    curve: Literal["bezier", "chain"]
    bends: int
    epochs: int
    lr: float
    train_batch: int
    weight_decay: float
    momentum: float
    grid: int
    margin: float
    overwrite: bool
    save_best: File | None
