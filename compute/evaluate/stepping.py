"""The loss of a model anywhere on the plane, with a step: a user's own evaluation of batches of any structure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.directions.sources import Source
from paraloss.compute.evaluate.additivity import adds_up
from paraloss.compute.evaluate.home import Home
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.report import PLAIN_REPORT, Report
from paraloss.compute.evaluate.sums import add_batch, empty_sums
from paraloss.compute.forward.any_batches import AnyBatches
from paraloss.compute.forward.batch_norm import recompute_statistics
from paraloss.compute.forward.batches import free_bytes
from paraloss.compute.forward.manner import Manner
from paraloss.compute.inputs.batch_split import BatchSplit
from paraloss.compute.inputs.losses import Losses
from paraloss.compute.inputs.randomness import seeded
from paraloss.compute.inputs.steps import Step
from paraloss.compute.inputs.trees import bytes_of, rows_of, take_rows
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError, ParalossError

_ACTIVATIONS = 16  # times the memory of the inputs, that one batch of all samples may need
_POINTS = (0.0, 0.5, -0.7)
_AS_THEY_ARE = Manner("grad", channels_last=False)


class StepEvaluator(PointEvaluator):
    """The mean loss at any point, as a step gives it batch by batch.

    Args:
        model: the center; it is copied and left as it is; or a ``Home``, see ``PointEvaluator``.
        step: the losses of a batch.
        data: splits to evaluate.
        directions: one per axis.
        device: where to compute; the batches are moved there, and stay where they fit.
        batch_size: samples at once, where the batches may be cut; None chooses by the size of a sample.
        precision: see ``Evaluator``.
        report: which metrics a call returns.
        bn_data: batches from which batch-norm statistics are estimated at each point. Default: the statistics stay.
        shard: (k, n): evaluate batches k, k + n, k + 2n … only.
        undivided: splits whose batches must be evaluated together; None measures which.

    Raises:
        InputError: the step fails, returns no losses, or a mean of which the whole cannot be found.
    """

    _bn_batches: AnyBatches | None = None

    def __init__(
        self,
        model: nn.Module | Home,
        step: Step,
        data: Mapping[str, BatchSplit],
        directions: Sequence[Source],
        device: str | torch.device = "cpu",
        batch_size: int | None = None,
        precision: str | None = None,
        report: Report = PLAIN_REPORT,
        bn_data: BatchSplit | None = None,
        shard: tuple[int, int] = (0, 1),
        undivided: Collection[str] | None = None,
    ) -> None:
        step = step.to(torch.device(device))
        super().__init__(model, step, directions, device, precision, report)
        self.step, self.not_folded = step, "a step calls the model itself"
        self._data, self._shard, self._bn_data = dict(data), shard, bn_data
        self.batch_size = batch_size or _default_batch_size(next(iter(data.values())), self.device)
        self.samples = {name: len(split) for name, split in data.items()}
        self._only_means: dict[str, bool] = {}
        self.kinds = {name: self._probe(name, split) for name, split in data.items()}
        self._place_data()
        self.undivided = self._find_undivided() if undivided is None else set(undivided)
        if shard[1] > 1 and self.indivisible:
            raise InputError("this step needs all samples on one rank: split_data must be 1")
        self.use_batch_size(self.batch_size)

    def sums(self, coordinates: Sequence[float]) -> Tensor:
        """(splits, columns) float64 on the device: sums over this shard's batches, see ``sums``."""
        self.move_to(coordinates)
        totals = empty_sums(self.kinds, self.device)
        for row, (name, kinds) in zip(totals, self.kinds.items(), strict=True):
            with self._running(name):
                for batch in self.batches[name]:
                    losses = self.step.batch_losses(self.model, batch).detach()
                    add_batch(row, losses, _samples(losses, batch), kinds, self._own_metrics(name, batch))
        return totals

    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``."""
        self.weights.move_to(coordinates)
        if self._bn_batches is not None:
            with self._running(next(iter(self.kinds))):
                # Where batches do not reveal how many samples they hold, they weigh alike.
                passes = (
                    (rows_of(batch) or 1, partial(self.step.batch_losses, self.model, batch)) for batch in self._bn_batches
                )
                recompute_statistics(self.model, passes)

    def first_loss(self, coordinates: Sequence[float]) -> float:
        """The loss of the first batch of the first split, whatever this rank's shard is: for comparing ranks."""
        self.move_to(coordinates)
        name, split = next(iter(self._data.items()))
        with self._running(name):
            batch = next(iter(self._batches_of(name, BatchSplit(split.of_size(self.batch_size)[:1]), self.batch_size)))
            return float(self.step.batch_losses(self.model, batch).detach().mean)

    def undivided_batches(self, name: str) -> Collection[Any]:
        """The batches of a split, only one where they must be evaluated together."""
        batches: Collection[Any] = self.batches[name]
        return batches

    def no_sample_losses(self) -> str:
        """Why nothing is known of the losses of single samples."""
        return "a step gives those of whole batches; use two tensors and a loss, or evaluate all samples"

    def use_batch_size(self, size: int) -> None:
        """Evaluate ``size`` samples at once from now on, where the batches may be cut; the data stay where they are."""
        self.batch_size = size
        self.batches = {
            name: batches.of_size(None if name in self.undivided else size) for name, batches in self.batches.items()
        }

    def halve_batch(self) -> bool:
        """Go on with half as many samples at once; False where the batches may not be cut or are one sample."""
        if self.batch_size < 2 or self.indivisible or not all(split.divisible for split in self._data.values()):
            return False
        self.use_batch_size(self.batch_size // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _place_data(self) -> None:
        """Put this rank's data on the device."""
        parts = {name: split.shard(*self._shard) for name, split in self._data.items()}
        self.batches = {name: self._batches_of(name, part, self.batch_size) for name, part in parts.items()}
        first = next(iter(self.kinds))
        bn_data = self._bn_data
        self._bn_batches = None if bn_data is None else self._batches_of(first, bn_data, self.batch_size)

    def _batches_of(self, name: str, split: BatchSplit, size: int | None) -> AnyBatches:
        return AnyBatches(split, self.device, self.manners[name], size)

    def _own_metrics(self, name: str, batch: Any) -> Iterator[Losses]:
        """The user's metrics of one batch; numbers that they draw are not missing in the next batch's loss."""
        for metric in self.report.user_metrics:
            with seeded(None) if self.manners[name].draws else nullcontext():
                yield metric.sums(self.model, batch).detach()

    def _probe(self, name: str, split: BatchSplit) -> list[str]:
        """Names of the metrics of a split; finds out that model, step and batches fit together, and how to run them."""
        parts = split.of_size(self.batch_size)
        ends = parts if len(parts) < 2 else [parts[0], parts[-1]]
        first, *last = AnyBatches(BatchSplit(ends), self.device, _AS_THEY_ARE, self.batch_size)

        def run(batch: Any, _: None) -> tuple[Any, ...]:
            losses = self.step.batch_losses(self.model, batch)
            return losses.total, torch.as_tensor(losses.count)

        manner = self._find_manner(name, run, [(batch, None) for batch in (first, *last)])
        with self._running(name), self._original:
            batch = manner.prepare(first)
            losses = self.step.batch_losses(self.model, batch)
            list(self._own_metrics(name, batch))
        self._original.check()
        if losses.is_mean and len(parts) > 1 and rows_of(batch) is None:
            raise InputError(
                f"the step returns the mean of a batch, but how many samples a batch of {name} holds cannot be seen from it; "
                "return (n,) losses or a pair (sum, count)"
            )
        self._only_means[name] = losses.is_mean
        alone = losses.each is not None and len(losses.each) == rows_of(batch)
        drawn = ["loss_stderr"] if alone and self.report.population.get(name, 0) > len(split) > 1 else []
        return ["loss", *drawn, *(metric.name for metric in self.report.user_metrics)]

    def _find_undivided(self) -> set[str]:
        """Splits whose batches do not add up to the whole, measured at three points.

        Raises:
            InputError: there is one whose batches cannot be evaluated together.
        """
        found = set()
        for name, split in self._data.items():
            if self.train_mode:  # batches are part of what is measured
                continue
            cut = split.divisible and not self.manners[name].draws  # batches of our own making: do they matter?
            if len(split.of_size(self.batch_size)) > 1 and (self._only_means[name] or cut) and not self._adds_up(name, split):
                found.add(name)
        return found

    def _adds_up(self, name: str, split: BatchSplit) -> bool:
        """Whether the batches add up to the whole; where that cannot be evaluated, whether halves add up to batches."""
        whole = split.whole()
        fits = whole is not None and _ACTIVATIONS * bytes_of(whole) < free_bytes(self.device)
        here = self.batches[name] if self._shard[1] == 1 else self._batches_of(name, split, self.batch_size)
        parts, together = here.of_size(self.batch_size), here.of_size(None) if fits else None
        draws = self.manners[name].draws
        for step in _POINTS:
            self.move_to([step * (-1) ** k for k in range(self._axes)])
            try:
                with self._running(name):
                    if together is not None and not adds_up(self._of(next(iter(together))), map(self._of, parts)):
                        return False
                    if together is None and (draws or not all(self._halves_add_up(batch) for batch in parts)):
                        raise _Together
            except (_Together, ParalossError) as error:
                raise InputError(
                    f"the step returns the mean of a batch, which is not the mean over all {name} samples, and the batches "
                    f"cannot be evaluated as one ({_why(error, whole is None)}); return (n,) losses or a pair (sum, count)"
                ) from error
        return True

    def _of(self, batch: Any) -> Losses:
        return self.step.batch_losses(self.model, batch).detach()

    def _halves_add_up(self, batch: Any) -> bool:
        rows = rows_of(batch)
        if rows is None or rows < 2:
            return rows is not None
        return all(
            adds_up(self._of(batch), map(self._of, _cut(batch, rows, size))) for size in {-(-rows // 2), max(1, rows // 3)}
        )


class _Together(Exception):
    """The batches of a split would have to be evaluated as one, and cannot."""


def _why(error: Exception, differ: bool) -> str:
    if isinstance(error, _Together):
        return "they differ in shape" if differ else "they do not fit into memory together"
    return one_line(error)[:160]


def _cut(batch: Any, rows: int, size: int) -> Iterable[Any]:
    return (take_rows(batch, slice(start, start + size), rows) for start in range(0, rows, size))


def _samples(losses: Losses, batch: Any) -> int:
    return len(losses.each) if losses.each is not None else rows_of(batch) or 1


def _default_batch_size(split: BatchSplit, device: torch.device) -> int:
    """About 64 images of 3×32×32 on a CPU, 4,096 on a GPU, where the batches may be cut; else what they hold."""
    if not split.divisible:
        return max(rows_of(batch) or 1 for batch in split.batches)
    numbers, most = (196_608, 512) if device.type == "cpu" else (12_582_912, 8192)
    sample = bytes_of(split.batches[0]) // (4 * max(1, len(split)))
    return max(1, min(len(split), most, numbers // max(1, sample)))
