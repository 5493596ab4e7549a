"""The loss and accuracy of a model anywhere on the plane that its directions span."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.directions.moving_weights import MovingWeights
from paraloss.compute.directions.random import Direction
from paraloss.compute.evaluate.measures import measure_all, metric_names
from paraloss.compute.forward.agreement import agrees, other_statistics, probe_points
from paraloss.compute.forward.batch_norm import recompute_statistics
from paraloss.compute.forward.batches import Batches, default_batch_size
from paraloss.compute.forward.compiling import compiled, may_pay
from paraloss.compute.forward.copying import computing_part, copy_model
from paraloss.compute.forward.folding import FoldedModel
from paraloss.compute.forward.manner import ForeignTensors, Manner, find_manner
from paraloss.compute.forward.precision import LOW, arithmetic, check_precision, converted, own_precision
from paraloss.compute.forward.randomness import seeded
from paraloss.compute.inputs.criteria import SampleLosses, counts_accuracy, hits
from paraloss.compute.inputs.data import DataSet, Split
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError, ParalossError

_COMPILED_TOLERANCE = 1e-4
_PROBED_ROWS = 4  # samples on which folding is compared at every probed point
_SEED = 0  # of the random numbers that the model or the loss draw at each point


class Evaluator:
    """theta(x, y) = theta* + x * delta + y * eta, and the mean loss and accuracy there.

    Args:
        model: the center; it is copied and left as it is.
        criterion: the losses of a batch, see ``criteria``.
        data: splits to evaluate; they are moved to ``device`` and stay there (streamed where they do not fit).
        directions: one (a curve) or two (a surface).
        device: where to compute.
        batch_size: samples at once; None chooses by the size of a sample.
        population: split -> number of samples that its rows were drawn from, for splits that were not taken whole.
        precision: ``fp64``, ``fp32``, ``tf32`` (NVIDIA), ``bf16`` or ``fp16``: of convolutions and matrix products. Weights
            move in float32 and are rounded once; a linear layer at the end and the losses stay in float32 and float64.
            None takes the model's own types as they are; another precision than its own converts it.
        shard: (k, n): evaluate rows k, k + n, k + 2n … only, so that n ranks share a point; see ``sums``.
        measures: what else to tell at each point, on the first split; see ``measures``.
        bn_data: samples from which batch-norm statistics are estimated anew at each point; None keeps those there are.
        accuracy: tell it where targets are classes.

    Attributes:
        metrics: names of what a call returns, in order: ``<split>_loss``; for a drawn split ``<split>_loss_stderr``, its
            standard error with finite-population correction, s / sqrt(n) * sqrt(1 - n / N); where targets are
            classes ``<split>_acc``, percent; then those of ``measures``.
        folded: number of batch norms folded away; ``not_folded`` says why none were.
        fused: number of ReLUs computed within a convolution.
        compiled: whether ``torch.compile`` was worth its time.

    Raises:
        InputError: the model cannot take these data, the criterion its outputs, or the device this precision.

    The model is in evaluation mode, nothing is augmented. Losses are sum(loss of each sample) / n, summed in float64.
    """

    _forward: nn.Module
    _compiled: Any

    def __init__(
        self,
        model: nn.Module,
        criterion: SampleLosses,
        data: DataSet,
        directions: Sequence[Direction],
        device: str | torch.device = "cpu",
        batch_size: int | None = None,
        population: Mapping[str, int] | None = None,
        precision: str | None = None,
        shard: tuple[int, int] = (0, 1),
        measures: Sequence[str] = (),
        bn_data: Split | None = None,
        accuracy: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.precision, self.criterion = precision or own_precision(model), criterion
        if self.precision != own_precision(model):
            check_precision(self.precision, self.device)
        self._autocast = self.precision in LOW and self.precision != own_precision(model)
        named = converted(copy_model(model, self.device), self.precision)
        self.model = computing_part(named)
        self.weights, self._axes = MovingWeights(named, directions), len(directions)
        moving = {name for direction in directions for name in direction}
        self._original = ForeignTensors(model, moving)
        self.samples = {name: len(split) for name, split in data.items()}
        self._population = dict(population or {})
        self.scalar_criterion, self._accuracy, self._bn_data = False, accuracy, bn_data
        self.manners: dict[str, Manner] = {}
        self.kinds = {name: self._probe(name, split) for name, split in data.items()}
        self._shards = {name: split.rows(slice(shard[0], None, shard[1])) for name, split in data.items()}
        self.use_batch_size(batch_size or default_batch_size(next(iter(data.values())), self.device))
        self.compiled = False
        self._fold(*next(iter(data.items())))
        self.measures = list(measures)
        self.metrics = [f"{name}_{kind}" for name, kinds in self.kinds.items() for kind in kinds]
        self.metrics += metric_names(measures, next(iter(data)))

    def __call__(self, coordinates: Sequence[float]) -> list[float]:
        """The metrics at ``coordinates`` (one number a direction), in the order of ``metrics``."""
        results = self.metrics_of(self.sums(coordinates))
        if self.measures:
            batches = next(iter(self.batches.values()))
            results += measure_all(self.measures, self.model, self.criterion, batches, next(iter(self.samples.values())))
        return results

    def sums(self, coordinates: Sequence[float]) -> Tensor:
        """(splits, 4) float64 on the device: sums over this shard's samples of loss, loss^2, hits and 1."""
        self.move_to(coordinates)
        totals = torch.zeros(len(self.kinds), 4, dtype=torch.float64, device=self.device)
        for row, (name, batches) in zip(totals, self.batches.items(), strict=True):
            with self._running(name):
                for inputs, targets in batches:
                    losses, right = self._losses(inputs, targets, self.kinds[name])
                    row[0] += losses.sum() if losses.ndim else losses * len(targets)
                    if "loss_stderr" in self.kinds[name]:
                        row[1] += losses.square().sum()
                    if right is not None:
                        row[2] += right.sum()
                    row[3] += len(targets)
        return totals

    def metrics_of(self, sums: Tensor) -> list[float]:
        """The metrics that ``sums`` (of all shards, added up) amount to."""
        results: list[float] = []
        # The only wait for the device in a point.
        for (name, kinds), (loss, square, right, count) in zip(self.kinds.items(), sums.tolist(), strict=True):
            mean = loss / count
            values = {"loss": mean, "acc": 100 * right / count}
            if "loss_stderr" in kinds:
                variance = max(square / count - mean**2, 0.0) / (count - 1)
                values["loss_stderr"] = (variance * (1 - count / self._population[name])) ** 0.5
            results += [values[kind] for kind in kinds]
        return results

    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``."""
        self.weights.move_to(coordinates)
        if self._bn_batches is not None:
            recompute_statistics(self.model, self._bn_batches)
        if self._forward is not self.model:
            self._folded.refresh()

    def sample_losses(self, name: str, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Losses, and hits where targets are classes, of samples start..stop where the model is: (n,) float64 each."""
        losses, rights = [], []
        with self._running(name):
            for first in range(start, stop, self.batch_size):
                inputs, targets = self.batches[name].rows(first, min(first + self.batch_size, stop))
                batch_losses, right = self._losses(inputs, targets, self.kinds[name])
                losses.append(batch_losses)
                rights.append(right)
        return torch.cat(losses), None if rights[0] is None else torch.cat([r for r in rights if r is not None])

    @contextmanager
    def _running(self, name: str) -> Iterator[None]:
        """The arithmetic, the recording of gradients and the random numbers in which a split is evaluated."""
        manner = self.manners[name]
        with ExitStack() as stack:
            if manner.draws:
                stack.enter_context(seeded(_SEED))
            stack.enter_context(manner.recording())
            stack.enter_context(arithmetic(self.device, self.precision, self._autocast))
            yield

    def reorder(self, name: str, order: np.ndarray) -> None:
        """Put the samples of a split into another order, for ``sample_losses``."""
        self._shards[name] = self._shards[name].rows(order)
        self.batches[name] = Batches(self._shards[name], self.device, self.batch_size, self.manners[name])

    def use_batch_size(self, size: int) -> None:
        """Evaluate ``size`` samples at once from now on."""
        self.batch_size = size
        self.batches = {name: Batches(split, self.device, size, self.manners[name]) for name, split in self._shards.items()}
        first = next(iter(self.manners.values()))
        self._bn_batches = None if self._bn_data is None else Batches(self._bn_data, self.device, size, first)

    def halve_batch(self) -> bool:
        """Go on with half as many samples at once; False when it is one already. What was compiled is given up."""
        if self.batch_size < 2:
            return False
        self.compiled = False
        self.use_batch_size(self.batch_size // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def find_batch_size(self, seconds: float = 1.0) -> int:
        """Time a few sizes around the default for about ``seconds`` in all, use the fastest, and return it."""
        rows = max(len(split) for split in self._shards.values())
        sizes = [size for size in (self.batch_size // 2, self.batch_size, self.batch_size * 2, self.batch_size * 4) if size]
        sizes = sorted({min(size, rows) for size in sizes if rows})
        best, best_rate = self.batch_size, 0.0
        for size in sizes if len(sizes) > 1 else []:
            try:
                rate = size / self.seconds_a_batch(size, seconds / len(sizes))
            except torch.OutOfMemoryError:
                break
            if rate > 1.03 * best_rate:  # a larger batch must earn its memory
                best, best_rate = size, rate
        self.use_batch_size(best)
        return best

    def worth_compiling(self, points: int) -> bool:
        """Whether ``torch.compile`` saves more than it costs over the next ``points`` points; tries it if it may."""
        if self.device.type != "cuda":  # the fused operators have the gain already, see docs/performance.md
            return False
        before = self.seconds_a_batch(self.batch_size, 0.3)
        batches = sum(len(batch) for batch in self.batches.values())
        if not may_pay(before * batches * points) or not self.compile():
            return False
        self.compiled = self.seconds_a_batch(self.batch_size, 0.3) < 0.97 * before
        return self.compiled

    def compile(self) -> bool:
        """Compile the forward pass (on a GPU as CUDA graphs); whether it works and gives the same outputs."""
        name, batches = next(iter(self.batches.items()))
        inputs, _ = next(iter(batches))
        with self._running(name):
            self._compiled = compiled(self._forward, inputs, 0.05 if self._autocast else _COMPILED_TOLERANCE)
        self.compiled = self._compiled is not None
        return self.compiled

    def _losses(self, inputs: Tensor, targets: Tensor, kinds: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        outputs = self._run(inputs)
        outputs = outputs.float() if outputs.dtype in LOW.values() else outputs
        return self.criterion(outputs, targets).detach(), hits(outputs, targets) if "acc" in kinds else None

    def _run(self, inputs: Tensor) -> Tensor:
        # A last, smaller batch would be compiled anew for its own shape.
        whole = self.compiled and len(inputs) == self.batch_size
        outputs: Tensor = self._compiled(inputs) if whole else self._forward(inputs)
        return outputs

    def seconds_a_batch(self, size: int, seconds: float) -> float:
        """Shortest time of a forward pass over ``size`` samples, of as many as ``seconds`` allow (one at least)."""
        name = max(self._shards, key=lambda key: len(self._shards[key]))
        inputs, _ = Batches(self._shards[name].rows(slice(0, size)), self.device, size, self.manners[name]).rows(0, size)
        times: list[float] = []
        with self._running(name):
            until = time.perf_counter() + seconds
            while not times or time.perf_counter() < until:
                began = time.perf_counter()
                self._run(inputs)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                times.append(time.perf_counter() - began)
        return min(times[1:] or times)

    def _probe(self, name: str, split: Split) -> list[str]:
        """What can be told about a split; finds out on a few samples that model, data and criterion fit together, and how."""
        places = [slice(0, 2), slice(-2, None)]
        samples = [split.rows(place) for place in places if len(split) > 2 or place.start == 0]
        batches = [(part.normalize(part.inputs.to(self.device)), part.targets.to(self.device)) for part in samples]

        def run(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            with arithmetic(self.device, "fp32" if self._autocast else self.precision, False):
                return self._run_once(name, inputs, targets)

        types = dict.fromkeys(tensor.dtype for tensor in self.model.parameters() if tensor.is_floating_point())
        manner = self.manners[name] = find_manner(run, batches, [*types])
        with self._running(name), self._original:
            inputs, targets = manner.prepare(batches[0])
            outputs, losses = self._run_once(name, inputs, targets)
        self._original.check()
        accuracy = counts_accuracy(outputs, targets)
        if accuracy:
            lowest, highest = int(split.targets.min()), int(split.targets.max())
            if lowest < 0 or highest >= outputs.shape[1]:
                raise InputError(
                    f"the {name} targets are classes {lowest} to {highest}, but the model has {outputs.shape[1]} outputs; "
                    "classes are numbered from 0"
                )
        self.scalar_criterion = self.scalar_criterion or not losses.ndim
        drawn = self._population.get(name, 0) > len(split) > 1
        return ["loss"] + (["loss_stderr"] if drawn and losses.ndim else []) + (["acc"] if accuracy and self._accuracy else [])

    def _run_once(self, name: str, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and losses of the plain model, with messages for people who gave what does not fit."""
        try:
            outputs = self.model(inputs)
        except Exception as error:
            shape = tuple(inputs.shape[1:])
            raise InputError(f"the model cannot take {name} inputs of shape {shape}: {one_line(error)[:200]}") from error
        if not isinstance(outputs, Tensor):
            raise InputError(f"the model returned {type(outputs).__name__}, not a tensor; wrap it to return its outputs")
        try:
            return outputs, self.criterion(outputs, targets)
        except ParalossError:
            raise
        except Exception as error:
            raise InputError(
                f"the loss cannot take outputs {tuple(outputs.shape)} and {name} targets {tuple(targets.shape)}: "
                f"{one_line(error)[:200]}; classes in the data and in the model may differ"
            ) from error

    def _fold(self, name: str, split: Split) -> None:
        """Fold and fuse where it changes nothing: the traced model is compared with the plain one all around the center."""
        manner = self.manners[name]
        self._forward, self.folded, self.fused = self.model, 0, 0
        if manner.draws or manner.gradients != "inference":
            self.not_folded = "the model draws random numbers or differentiates"
            return
        inputs, _ = Batches(split.rows(slice(0, 32)), self.device, 32, manner).rows(0, 32)
        for fused in (True, False):
            self._folded = FoldedModel(self.model, fused)
            self.not_folded = self._folded.reason
            if self._folded.module is self.model:
                return
            if self._folds_right(name, inputs):
                self.folded, self.fused, self._forward = self._folded.folded, self._folded.fused, self._folded.module
                return
        self.not_folded = "its trace computes something else"

    def _folds_right(self, name: str, inputs: Tensor) -> bool:
        folded = self._folded
        try:
            with self.manners[name].recording(), arithmetic(self.device, "fp32", False):
                right = all(self._agrees_at(point, inputs[:_PROBED_ROWS]) for point in probe_points(self._axes))
                with other_statistics(self.model):
                    folded.refresh()
                    right = right and agrees(self.model, folded.module, inputs)
                self.weights.move_to([0.0] * self._axes)
            if self._autocast and right:
                folded.use(LOW[self.precision])
                folded.refresh()
                with self._running(name):
                    folded.module(inputs)
        except RuntimeError:  # an operator that this build of torch lacks, in this precision
            return False
        return right

    def _agrees_at(self, point: Sequence[float], inputs: Tensor) -> bool:
        self.weights.move_to(point)
        self._folded.refresh()
        return agrees(self.model, self._folded.module, inputs)
