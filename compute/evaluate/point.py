"""A copy of the model that moves over the plane, and what every way of evaluating it at a point shares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.directions.moving_in_place import MovingInPlace
from paraloss.compute.directions.moving_weights import MovingWeights
from paraloss.compute.directions.sources import Source, names_in, tensors_only
from paraloss.compute.evaluate.home import Home
from paraloss.compute.evaluate.measures import measure_all, metric_names
from paraloss.compute.evaluate.report import Report
from paraloss.compute.evaluate.sums import metrics_of
from paraloss.compute.forward.copying import computing_part, copy_model
from paraloss.compute.forward.layouts import put_back, weights_in_channels_last
from paraloss.compute.forward.manner import ForeignTensors, Manner, find_manner
from paraloss.compute.forward.precision import LOW, arithmetic, check_precision, converted, own_precision
from paraloss.compute.inputs.losses import BatchLoss
from paraloss.compute.inputs.randomness import seeded
from paraloss.compute.ranks.devices import describe_device
from paraloss.errors import ParalossError
from paraloss.log import logger

_SEED = 0  # of the random numbers that the model or the loss draw at each point


class PointEvaluator:
    """theta(x, y) = theta* + x * delta + y * eta, and the metrics there; how batches are evaluated is for subclasses.

    Args:
        model: the center; it is copied and left as it is. A ``Home``'s model is moved itself.
        loss: a criterion or a step.
        directions: one per axis; recipes only with a ``Home``.
        device: where to compute.
        precision: see ``Evaluator``.
        report: which metrics a call returns.

    Attributes:
        model: the copy, or what the ``Home`` has moved.
        in_place: whether there is a ``Home``.
        manners: split -> how its batches are run.
        samples: split -> number of samples.
        kinds: split -> names of its metrics, without the split.
        metrics: names of what a call returns, in order.
        measured: parameters that ``measures`` are of; None for all.
        undivided: splits whose batches must be evaluated together.
        mixing: the model needs all samples in one batch.
        folded, fused, not_folded, compiled: see ``Evaluator``.
        wider: makes an evaluator of the same samples in a type of larger range, for points that overflow. Default: none.
    """

    batch_size: int
    batches: dict[str, Any]
    folded, fused, not_folded, compiled = 0, 0, "", False
    mixing = False
    wider: Callable[[], PointEvaluator] | None = None
    _wider: PointEvaluator | None = None
    _layouts: Sequence[tuple[Tensor, Tensor]] = ()  # weights and what they were in their own layout

    def __init__(
        self,
        model: nn.Module | Home,
        loss: BatchLoss,
        directions: Sequence[Source],
        device: str | torch.device,
        precision: str | None,
        report: Report,
    ) -> None:
        self.device, self.loss = torch.device(device), loss
        self.report = replace(report, user_metrics=[metric.to(self.device) for metric in report.user_metrics])
        self.in_place = isinstance(model, Home)
        original = model.model if isinstance(model, Home) else model
        self.precision = precision or own_precision(original)
        if self.precision != own_precision(original):
            check_precision(self.precision, self.device)
        self._autocast = self.precision in LOW and self.precision != own_precision(original)
        watched = {name for direction in directions for name in names_in(direction)}
        if isinstance(model, Home):
            named, center = model.body(self.device, self.precision, watched)
            self._make_weights: Callable[[], MovingWeights | MovingInPlace] = partial(MovingInPlace, named, directions, center)
        else:
            named = converted(copy_model(model, self.device), self.precision)
            if self.device.type == "cuda":
                self._layouts = weights_in_channels_last(named)
            self._make_weights = partial(MovingWeights, named, tensors_only(directions))
        self.model, self.train_mode = computing_part(named).train(report.train_mode), report.train_mode
        names = report.moving
        self.measured = None if names is None else [p for name, p in named.named_parameters() if name in names]
        self.weights, self._axes = self._make_weights(), len(directions)
        if self.in_place:
            self.weights.move_to([0.0] * self._axes)  # another evaluator may have left it elsewhere
        self._original = ForeignTensors(original, watched if named is not original else set())
        self.manners: dict[str, Manner] = {}
        self.samples: dict[str, int] = {}
        self.kinds: dict[str, list[str]] = {}
        self.undivided: set[str] = set()

    def __call__(self, coordinates: Sequence[float]) -> list[float]:
        """The metrics at ``coordinates`` (one number per direction), in the order of ``metrics``."""
        sums = self.sums(coordinates)
        if self.overflowed(sums):
            sums = self.wider_sums(coordinates)
        results = self.metrics_of(sums)
        if self.report.measures:
            batches = self.batches_to_measure(next(iter(self.kinds)))
            with self.exactly():
                results += measure_all(self.report.measures, self.model, self.loss, batches, self.measured)
        return results

    def exactly(self) -> AbstractContextManager[None]:
        """The arithmetic of the plain model: in its own types, in TF32 only where that was asked for."""
        return arithmetic(self.device, "fp32" if self._autocast else self.precision, False)

    def how(self, evaluated: str = "") -> str:
        """How points are evaluated, in a line: device, precision, batch, what is folded, fused and compiled.

        Args:
            evaluated: what is evaluated, in which precision. Default: the evaluator's own precision.
        """
        folded = f"{self.folded} batch norms folded" if self.folded else f"nothing folded ({self.not_folded})"
        fused = f"{self.fused} ReLUs fused" if self.fused else "no ReLU fused"
        compiled = "compiled" if self.compiled else "not compiled"
        place = f"{describe_device(self.device)}, {evaluated or self.precision}, {self.batch_size:,} samples at once"
        return f"{place}; {folded}, {fused}, {compiled}"

    @property
    def metrics(self) -> list[str]:
        """Names of what a call returns, in order."""
        plain = [f"{name}_{kind}" for name, kinds in self.kinds.items() for kind in kinds]
        return plain + metric_names(self.report.measures, next(iter(self.kinds)))

    @property
    def indivisible(self) -> bool:
        """Whether ranks must not share the samples of a point."""
        return self.mixing or bool(self.undivided) or self.batch_bound

    @property
    def batch_bound(self) -> bool:
        """Whether values depend on how samples are divided into batches: random numbers are drawn, or as in training."""
        return self.train_mode or any(manner.draws for manner in self.manners.values())

    def first_loss(self, coordinates: Sequence[float]) -> float:
        """The loss of the first few samples of the first split, whatever this rank's shard is: for comparing ranks."""
        raise NotImplementedError

    def sums(self, coordinates: Sequence[float]) -> Tensor:
        """(splits, columns) float64 on the device: sums over this shard's samples, see ``sums``."""
        raise NotImplementedError

    def metrics_of(self, sums: Tensor) -> list[float]:
        """The metrics that ``sums`` (of all shards, added up) amount to."""
        return metrics_of(sums, self.kinds, self.report.population)

    def overflowed(self, sums: Tensor) -> bool:
        """Whether ``sums`` (of all shards, added up) are not finite, and ``wider_sums`` may be."""
        return self.wider is not None and not bool(sums[:, 0].isfinite().all())

    def wider_sums(self, coordinates: Sequence[float]) -> Tensor:
        """``sums`` of the evaluator that ``wider`` makes."""
        assert self.wider is not None
        self._wider = self._wider or self.wider()
        place = ", ".join(f"{step:g}" for step in coordinates)
        logger.info(f"({place}) leaves the range of {self.precision}: evaluated again in {self._wider.precision}")
        return self._wider.sums(coordinates)

    def use_batch_size(self, size: int) -> None:
        """Evaluate ``size`` samples at once from now on."""
        raise NotImplementedError

    def halve_batch(self) -> bool:
        """Continue with half as many samples at once; False where that is impossible."""
        raise NotImplementedError

    def seconds_per_batch(self, size: int, seconds: float) -> float:
        """Shortest time of a forward pass over ``size`` samples, measured for ``seconds``; 0 where sizes are not compared."""
        return 0.0

    def compile(self) -> bool:
        """Compile the forward pass; whether that works and gives the same outputs."""
        return False

    def no_sample_losses(self) -> str:
        """Why nothing is known of the losses of single samples; empty where they are known."""
        raise NotImplementedError

    def undivided_batches(self, name: str) -> Collection[Any]:
        """The batches of a split, only one where they must be evaluated together."""
        raise NotImplementedError

    def batches_to_measure(self, name: str) -> Collection[Any]:
        """The same, with the same random numbers in every pass where the model or the loss draws some."""
        batches = self.undivided_batches(name)
        return _Reseeded(batches) if self.manners[name].draws else batches

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

    def _find_manner(self, name: str, run: Callable[[Any, Any], Any], batches: Sequence[tuple[Any, Any]]) -> Manner:
        """How a split's batches are run, found on a few of them."""

        def plainly(inputs: Any, targets: Any) -> Any:
            with self.exactly():
                return run(inputs, targets)

        types = dict.fromkeys(tensor.dtype for tensor in self.model.parameters() if tensor.is_floating_point())
        try:
            self.manners[name] = find_manner(plainly, batches, [*types])
        except (ParalossError, RuntimeError):
            if not self._layouts:
                raise
            put_back(self._layouts)  # a model may look at the memory of its weights: weight.view(…)
            self._layouts, self.weights = [], self._make_weights()
            self.manners[name] = find_manner(plainly, batches, [*types])
        return self.manners[name]


class _Reseeded(Collection[Any]):
    """Batches whose every pass runs from one seed."""

    def __init__(self, batches: Collection[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __contains__(self, batch: object) -> bool:
        return batch in self._batches

    def __iter__(self) -> Iterator[Any]:
        with seeded(_SEED):
            yield from self._batches
