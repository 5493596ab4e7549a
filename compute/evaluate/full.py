"""The loss and accuracy of a model anywhere on the plane that its directions span."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from paraloss.compute.directions.sources import Source
from paraloss.compute.evaluate.additivity import needs_one_batch, outputs_add_up
from paraloss.compute.evaluate.folded import checked_fold
from paraloss.compute.evaluate.home import Home
from paraloss.compute.evaluate.on_samples import PROBED
from paraloss.compute.evaluate.report import PLAIN_REPORT, Report
from paraloss.compute.evaluate.sample_losses import SampleLosses
from paraloss.compute.evaluate.sums import add_batch, empty_sums
from paraloss.compute.forward.batch_norm import recompute_statistics
from paraloss.compute.forward.batches import Batches, free_bytes
from paraloss.compute.forward.precision import LOW, arithmetic
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.split import DataSet, Split
from paraloss.errors import InputError
from paraloss.log import logger

_GUARDS = 8  # samples that go through the plain model, too, where ReLUs are fused
_LARGEST = 1e30  # output of the plain model up to which no other sample's activations can have overflowed
_SHARE_FOR_OUTPUTS = 0.25  # of the free memory, for the outputs of all samples together


class Evaluator(SampleLosses):
    """theta(x, y) = theta* + x * delta + y * eta, and the mean loss and accuracy there.

    Args:
        model: the center; copied, not modified; or a ``Home``, see ``PointEvaluator``.
        criterion: the losses of a batch, see ``paraloss.compute.inputs.criterion``.
        data: splits to evaluate; they are moved to ``device`` and stay there (streamed where they do not fit).
        directions: one per axis.
        device: where to compute.
        batch_size: samples at once. Default: by the size of a sample.
        precision: ``fp64``, ``fp32``, ``tf32`` (NVIDIA), ``bf16`` or ``fp16``: of convolutions and matrix products. Weights
            move in float32 and are rounded once; a linear layer at the end and the losses stay in float32 and float64.
            Default: the model's own types; another precision than its own converts it.
        report: which metrics a call returns.
        bn_data: samples from which batch-norm statistics are estimated at each point. Default: the statistics stay.
        shard: (k, n): evaluate rows k, k + n, k + 2n … only, so that n ranks share a point; see ``sums``.
        undivided: splits whose loss is computed from all outputs together. Default: found by measuring.

    Attributes:
        metrics: names of what a call returns, in order: ``<split>_loss``; for a drawn split ``<split>_loss_stderr``, its
            standard error with finite-population correction, s / sqrt(n) * sqrt(1 - n / N); where targets are
            classes ``<split>_acc``, percent; the user's; then those of ``measures``.
        undivided: splits whose loss is not a mean over samples: their outputs are gathered for one call of the criterion.
        mixing: the model's outputs of a sample depend on its batch, so that all samples go through it as one batch.
        folded: number of batch norms folded into the layer before; ``not_folded`` says why there are none.
        fused: number of ReLUs computed within a convolution.
        compiled: whether the forward pass runs compiled.
        fuses, records: whether to fuse ReLUs and to record points as CUDA graphs, where that is possible; for comparisons.
        points: evaluates points; ``points.recorded`` says whether by a CUDA graph, ``points.why_not`` why not.

    Raises:
        InputError: the model cannot take these data, the criterion its outputs, or the device this precision.

    The model is in evaluation mode, nothing is augmented. Losses are sums divided by counts (see ``losses``), in float64.
    """

    fuses = True
    _most = 64  # samples that the model is examined on; fewer where memory runs out

    def __init__(
        self,
        model: nn.Module | Home,
        criterion: Criterion,
        data: DataSet,
        directions: Sequence[Source],
        device: str | torch.device = "cpu",
        batch_size: int | None = None,
        precision: str | None = None,
        report: Report = PLAIN_REPORT,
        bn_data: Split | None = None,
        shard: tuple[int, int] = (0, 1),
        undivided: Collection[str] | None = None,
    ) -> None:
        super().__init__(model, criterion, data, directions, device, batch_size, precision, report, bn_data, shard)
        self._within_memory(lambda: self._examine(data, undivided))
        if shard[1] > 1 and self.indivisible:
            raise InputError("this loss or this model needs all samples on one rank: split_data must be 1")

    def sums(self, coordinates: Sequence[float]) -> Tensor:
        """(splits, columns) float64 on the device: sums over this shard's samples, see ``sums``."""
        return self.points(coordinates)

    def _add_up(self) -> Tensor:
        self._follow()
        totals = empty_sums(self.kinds, self.device)
        for row, (name, kinds) in zip(totals, self.kinds.items(), strict=True):
            with self._running(name):
                for outputs, targets in self._outputs(name):
                    losses = self.criterion.losses(outputs, targets).detach()
                    found = [metric.sums(outputs, targets).detach() for metric in self._metrics[name]]
                    add_batch(row, losses, len(targets), kinds, found)
        if self.fused:
            totals[:, 0] *= self._sound
        return totals

    def first_loss(self, coordinates: Sequence[float]) -> float:
        """The loss of the first few samples of the first split, whatever this rank's shard is: for comparing ranks."""
        self.move_to(coordinates)
        name, split = next(iter(self._data.items()))
        few = min(PROBED, self._most)
        inputs, targets = Batches(split.rows(slice(0, few)), self.device, few, self.manners[name]).rows(0, few)
        with self._running(name):
            return float(self.criterion.losses(self._run(inputs), targets).detach().mean)

    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``."""
        self.weights.move_to(coordinates)
        self._follow()

    def _follow(self) -> None:
        """Bring up to date what depends on the weights: recomputed statistics, folded weights."""
        if self._bn_batches is not None:
            with torch.no_grad(), self.exactly():
                passes = ((len(inputs), partial(self.model, inputs)) for inputs, _ in self._bn_batches if len(inputs) > 1)
                recompute_statistics(self.model, passes)
        if self._forward is not self.model:
            self._folded.refresh()
        if self.fused:
            with self._exactly(next(iter(self.manners))):
                self._sound = _one_or_nan(self.model(self._guard))

    def undivided_batches(self, name: str) -> Collection[Any]:
        """The batches of a split, only one where its loss is not a mean over samples."""
        if name in self.undivided:
            return cast(Collection[Any], self.batches[name].of_size(len(self._shards[name])))
        return cast(Collection[Any], self.batches[name])

    def _within_memory(self, work: Callable[[], None]) -> None:
        """Do ``work``, with smaller batches where memory runs out; retries outside of the handler, which holds memory.

        Raises:
            InputError: one sample needs more memory than there is.
        """
        while True:
            with suppress(torch.OutOfMemoryError):
                return work()
            size = self.batch_size
            if self._most <= 2 and not self.halve_batch():
                raise InputError(f"out of memory with {size} samples at once; use another device")
            self._most = max(2, self._most // 2)
            while self.batch_size > self._most and self.halve_batch():
                pass
            logger.warning(f"out of memory with {size} samples: continuing with batches of {self.batch_size}")

    def _examine(self, data: DataSet, undivided: Collection[str] | None) -> None:
        """Find how the model must be run: in one batch, folded, each split's loss from all outputs together."""
        self.mixing = self._mixes(data)
        self.use_batch_size(self.batch_size)  # all samples, where the model needs them together
        self._fold(*next(iter(data.items())))
        self.undivided = self._find_undivided(data) if undivided is None else set(undivided)

    def _outputs(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """(outputs, targets) of every batch of a split; of all samples together where the loss is taken of them."""
        pairs = ((self._run(inputs), targets) for inputs, targets in self.batches[name])
        if name in self.undivided and len(self.batches[name]) > 1:
            # A compiled model writes the outputs of the next batch where those of the last one are.
            outputs, targets = zip(*((o.clone() if self.compiled else o, t) for o, t in pairs), strict=True)
            yield torch.cat(outputs), torch.cat(targets)
        else:
            yield from pairs

    def _mixes(self, data: DataSet) -> bool:
        """Whether the model needs all samples in one batch."""
        name, split = next(iter(data.items()))
        if self.batch_bound:
            return False
        inputs, _ = Batches(split.rows(slice(0, self._most)), self.device, self._most, self.manners[name]).rows(0, self._most)
        with self.manners[name].recording(), arithmetic(self.device, "fp32", False):
            return needs_one_batch(self.model, inputs, max(self.samples.values()), free_bytes(self.device))

    def _find_undivided(self, data: DataSet) -> set[str]:
        """Splits whose loss is not the mean over their batches, measured at three points.

        Raises:
            InputError: there is one whose outputs do not fit into memory together.
        """
        if self.criterion.additive is not None:
            return set()
        found = set()
        for name, split in data.items():
            one_batch = len(split) <= self.batch_size and len(self._shards[name]) == len(split)
            if one_batch or not self._adds_up(name, split):
                found.add(name)
        return found

    def _adds_up(self, name: str, split: Split) -> bool:
        with self._running(name):
            row, _ = self.batches[name].rows(0, 1)
            fitting = _SHARE_FOR_OUTPUTS * free_bytes(self.device) / (8 * self._run(row).numel())
        part = split.subset(int(fitting))
        batches = Batches(part, self.device, self.batch_size, self.manners[name])
        sizes = (self.batch_size, -(-len(part) // 2), -(-self.batch_size * 2 // 3))
        for step in (0.0, 0.5, -0.7):
            self.move_to([step * (-1) ** k for k in range(self._axes)])
            with self._running(name):
                pairs = [(self._run(inputs), targets) for inputs, targets in batches]
                outputs, targets = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
                if outputs_add_up(self.criterion, outputs, targets, sizes):
                    continue
            if len(part) < len(split):
                raise InputError(
                    f"the loss of all {name} samples is not the mean over batches, and the outputs of {len(split)} samples "
                    "are too many to take it at once; return a pair (sum, count)"
                )
            return False
        return True

    def _fold(self, name: str, split: Split) -> None:
        """Fold and fuse where that changes nothing."""
        manner = self.manners[name]
        self._forward, self.folded, self.fused = self.model, 0, 0
        if self.in_place:
            self.not_folded = "the model is moved in place"
            return
        if self.batch_bound or manner.gradients != "inference":
            self.not_folded = "the model draws random numbers, differentiates or is in training mode"
            return
        few = min(32, self._most)
        inputs, _ = Batches(split.rows(slice(0, few)), self.device, few, manner).rows(0, few)
        low = (LOW[self.precision], partial(self._running, name)) if self._autocast else None
        exactly = partial(self._exactly, name)
        folded, self.not_folded = checked_fold(self.model, inputs, self.weights.move_to, self._axes, exactly, low, self.fuses)
        if folded is not None:
            self._folded, self._forward, self.folded, self.fused = folded, folded.module, folded.folded, folded.fused
            self._guard = inputs[:_GUARDS]
            # Measures run the plain model, which must have its inputs as they are.
            if self._autocast and folded.rounds_inputs and not self.report.measures:
                self._input_type = LOW[self.precision]
                self._place_data()
            self.move_to([0.0] * self._axes)
        self._run_anew()

    @contextmanager
    def _exactly(self, name: str) -> Iterator[None]:
        with self.manners[name].recording(), arithmetic(self.device, "fp32", False):
            yield


def _one_or_nan(outputs: Tensor) -> Tensor:
    """0-d float64: 1 where the plain model's outputs are far from overflow, else NaN.

    The fused operators' ReLU makes 0 of NaN: where activations overflow, the loss would be that of a network that knows
    nothing.
    """
    largest = outputs.detach().double().abs().amax()
    return torch.where(largest < _LARGEST, torch.ones_like(largest), torch.full_like(largest, float("nan")))
