"""A moving model run on samples in batches, and what a few of them show about whether model, data and loss fit together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.directions.sources import Source
from paraloss.compute.evaluate.additivity import check_broadcasting, may_broadcast
from paraloss.compute.evaluate.home import Home
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.report import Report
from paraloss.compute.forward.batches import Batches, default_batch_size
from paraloss.compute.forward.compiling import compiled
from paraloss.compute.forward.graphs import Points, can_record, launched_together
from paraloss.compute.forward.precision import LOW
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.losses import Losses
from paraloss.compute.inputs.metrics import OutputsMetric, find_accuracy
from paraloss.compute.inputs.split import DataSet, Split
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError, ParalossError

_COMPILED_TOLERANCE = 1e-4
PROBED = 32
"""Samples on which a loss is checked for broadcasting, and compared over ranks."""


class SampleEvaluator(PointEvaluator):
    """Run the model on batches of samples, folded or compiled where that was found right, and know each split's metrics.

    Arguments are those of ``Evaluator``; so are the errors.
    """

    records = True
    _input_type: torch.dtype | None = None  # of batches, where the forward pass rounds its inputs first of all
    _bn_batches: Batches | None = None
    _forward: nn.Module
    _compiled: Any

    def __init__(
        self,
        model: nn.Module | Home,
        criterion: Criterion,
        data: DataSet,
        directions: Sequence[Source],
        device: str | torch.device,
        batch_size: int | None,
        precision: str | None,
        report: Report,
        bn_data: Split | None,
        shard: tuple[int, int],
    ) -> None:
        self.criterion = criterion.to(torch.device(device))
        super().__init__(model, self.criterion, directions, device, precision, report)
        self._data = data
        self.samples = {name: len(split) for name, split in data.items()}
        self._bn_data = bn_data
        self.batches = {}
        self._metrics: dict[str, list[OutputsMetric]] = {}
        self._counts_alike: dict[str, bool] = {}
        self._checked: set[str] = set()
        self.kinds = {name: self._probe(name, split) for name, split in data.items()}
        self._shards = {name: split.rows(slice(shard[0], None, shard[1])) for name, split in data.items()}
        self.use_batch_size(batch_size or default_batch_size(next(iter(data.values())), self.device))

    def use_batch_size(self, size: int) -> None:
        """Evaluate ``size`` samples at once from now on; all of them where the model mixes them."""
        self.batch_size = size = max(self.samples.values()) if self.mixing else size
        if self.batches:  # the data stay where they are
            self.batches = {name: batches.of_size(size) for name, batches in self.batches.items()}
            if self.mixing and self._bn_batches is not None:
                self._bn_batches = self._bn_batches.of_size(size)
        else:
            self._place_data()
        self._run_anew()

    def halve_batch(self) -> bool:
        """Continue with half as many samples at once, not compiled; False where that is impossible."""
        if self.batch_size < 2 or self.mixing or self.batch_bound:
            return False
        self.compiled = False
        self.use_batch_size(self.batch_size // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _place_data(self) -> None:
        """Put the data on the device, or again where they are wanted in another type."""
        self.batches = {}  # not twice on the device
        self.batches = {name: self._batches(name, self.batch_size) for name in self._shards}
        first = next(iter(self.manners.values()))
        if self._bn_data is not None:
            # Statistics depend on the size of their batches, so that it stays.
            size = self.batch_size if self._bn_batches is None else self._bn_batches.size
            self._bn_batches = Batches(self._bn_data, self.device, size, first)
        self._run_anew()

    def reorder(self, name: str, order: np.ndarray) -> None:
        """Put the samples of a split into another order, for ``sample_losses``."""
        self._shards[name] = self._shards[name].rows(order)
        del self.batches[name]  # not twice on the device
        self.batches[name] = self._batches(name, self.batch_size)
        self._run_anew()

    def compile(self) -> bool:
        """Compile the forward pass; whether it works and gives the same outputs."""
        name, batches = next(iter(self.batches.items()))
        inputs, _ = next(iter(batches))
        with self._running(name):
            tolerance = 0.05 if self._autocast else _COMPILED_TOLERANCE
            moves = [partial(self.move_to, [step * (-1) ** k for k in range(self._axes)]) for step in (0.0, 0.5, -0.7)]
            self._compiled = compiled(self._forward, inputs, tolerance, not self._not_recorded(), moves)
        self.compiled = self._compiled is not None
        self._run_anew()
        return self.compiled

    def seconds_per_batch(self, size: int, seconds: float) -> float:
        """Shortest time of a forward pass over ``size`` samples, among as many passes as ``seconds`` allow (at least one)."""
        name = max(self._shards, key=lambda key: len(self._shards[key]))
        inputs, _ = self.batches[name].rows(0, size)
        times: list[float] = []
        with self._running(name):
            once = partial(self._run, inputs)
            run = once if self._not_recorded() else launched_together(once, self.device)
            until = time.perf_counter() + seconds
            while not times or time.perf_counter() < until:
                began = time.perf_counter()
                run()
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                times.append(time.perf_counter() - began)
        return min(times[1:] or times)

    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``."""
        raise NotImplementedError

    def _add_up(self) -> Tensor:
        """(splits, columns) float64 on the device: the sums where the weights are."""
        raise NotImplementedError

    def _run_anew(self) -> None:
        """Forget a recorded graph: batches or the forward pass are others now."""
        self.points = Points(self.weights.move_to, self._add_up, self.device, self._not_recorded())

    def _not_recorded(self) -> str:
        """Why points are not recorded as CUDA graphs; empty where that is tried."""
        if not can_record(self.device):
            return "the device has none"
        if not self.records:
            return "not asked for"
        if self.in_place:
            return "the model is moved in place"
        if self.batch_bound or any(manner.gradients == "grad" for manner in self.manners.values()):
            return "the model draws random numbers, differentiates or is in training mode"
        sources = [*self.batches.values(), *([] if self._bn_batches is None else [self._bn_batches])]
        return "the data are streamed" if any(source.streamed for source in sources) else ""

    def _batches(self, name: str, size: int) -> Batches:
        return Batches(self._shards[name], self.device, size, self.manners[name], self._input_type)

    def _run(self, inputs: Tensor) -> Tensor:
        # A last, smaller batch would be compiled again for its own shape.
        whole = self.compiled and len(inputs) == self.batch_size
        outputs: Tensor = self._compiled(inputs) if whole else self._forward(inputs)
        return outputs.float() if outputs.dtype in LOW.values() else outputs

    def _probe(self, name: str, split: Split) -> list[str]:
        """The metrics available for a split. Runs a few samples to find whether and how model, data and loss fit together."""
        places = [slice(0, 2), slice(-2, None)]
        samples = [split.rows(place) for place in places if len(split) > 2 or place.start == 0]
        batches = [(part.normalize(part.inputs.to(self.device)), part.targets.to(self.device)) for part in samples]

        def run(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            outputs, losses = self._run_once(name, inputs, targets, split)
            return outputs, losses.mean

        manner = self._find_manner(name, run, batches)
        with self._running(name), self._original:
            inputs, targets = manner.prepare(batches[0])
            outputs, losses = self._run_once(name, inputs, targets, split)
            self._original.check()
            if may_broadcast(self.criterion, outputs, targets):
                self._check_broadcasting(name, split)
            every = split.targets.to(self.device)
            accuracy = find_accuracy(self.criterion, outputs, targets, every) if self.report.accuracy else None
            self._metrics[name] = [*([accuracy] if accuracy else []), *self.report.user_metrics]
            for metric in self.report.user_metrics:
                metric.sums(outputs, targets)
        alike = self.criterion.counts_alike(every)
        self._counts_alike[name] = alike and (accuracy is None or accuracy.counts_alike(outputs, every))
        drawn = self.report.population.get(name, 0) > len(split) > 1 and losses.each is not None and alike
        own = [metric.name for metric in self.report.user_metrics]
        return ["loss", *(["loss_stderr"] if drawn else []), *(["acc"] if accuracy else []), *own]

    def _check_broadcasting(self, name: str, split: Split) -> None:
        few = split.rows(np.unique(np.linspace(0, len(split) - 1, PROBED).round().astype(int)))
        inputs, targets = Batches(few, self.device, PROBED, self.manners[name]).rows(0, PROBED)
        check_broadcasting(self.criterion, self._run_once(name, inputs, targets, split)[0], targets)

    def _run_once(self, name: str, inputs: Tensor, targets: Tensor, split: Split) -> tuple[Tensor, Losses]:
        """Outputs and losses of the plain model; errors say what does not fit."""
        try:
            outputs = self.model(inputs)
        except torch.OutOfMemoryError as error:
            raise InputError(f"out of memory with {len(inputs)} samples at once; use another device") from error
        except Exception as error:
            shape = tuple(inputs.shape[1:])
            raise InputError(f"the model cannot take {name} inputs of shape {shape}: {one_line(error)[:200]}") from error
        if not isinstance(outputs, Tensor):
            raise InputError(
                f"the model returned {type(outputs).__name__}, not a tensor; give step=, which calls the model itself, "
                "or wrap the model to return its outputs"
            )
        if name not in self._checked:
            self.criterion.check_targets(split.targets, outputs, name)
            self._checked.add(name)
        try:
            return outputs, self.criterion.losses(outputs, targets)
        except ParalossError:
            raise
        except Exception as error:
            raise InputError(
                f"the loss cannot take outputs {tuple(outputs.shape)} and {name} targets {tuple(targets.shape)}: "
                f"{one_line(error)[:200]}; classes in the data and in the model may differ"
            ) from error
