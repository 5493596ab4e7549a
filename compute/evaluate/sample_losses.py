"""The loss of every sample where the model is, for estimators that use a part of the samples or correct them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from paraloss.compute.evaluate.additivity import outputs_add_up
from paraloss.compute.evaluate.on_samples import SampleEvaluator
from paraloss.compute.forward.graphs import Points
from paraloss.compute.inputs.losses import Losses


class SampleLosses(SampleEvaluator):
    """An evaluator that knows the losses of single samples, and hits where targets are classes: (n,) float64 each."""

    _sound: Tensor  # 1, or NaN where activations overflowed, if ReLUs are fused
    _every: Points | None = None

    def sample_losses(self, name: str, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of samples start..stop (excluded)."""
        sizes = few_sizes(stop - start, self.batch_size)
        return self._losses_of(name, (self.batches[name].rows(first, last) for first, last in _ends(start, sizes)))

    def losses_at(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of the samples ``rows``, a tensor of at least one index."""
        parts = rows.split([*few_sizes(len(rows), self.batch_size)])
        return self._losses_of(name, (self.batches[name].at(part) for part in parts))

    def every_loss(self, coordinates: Sequence[float]) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Split -> losses and hits of all its samples at ``coordinates``, where the model then is; by a graph if possible."""
        if self._every is None:
            self._every = Points(self.weights.move_to, self._all_in_one, self.device, self._not_recorded())
        losses, hits = self._every(coordinates)
        found: dict[str, tuple[Tensor, Tensor | None]] = {}
        start = 0
        for name, kinds in self.kinds.items():
            stop = start + self.samples[name]
            found[name] = losses[start:stop], hits[start:stop] if "acc" in kinds else None
            start = stop
        return found

    def no_sample_losses(self) -> str:
        """Why nothing is known of the losses of single samples; empty where they are known and count alike."""
        if self.batch_bound:
            return "the model or the loss draws random numbers or is in training mode, so that it depends on the batches"
        for name in self._shards:
            inputs, targets = self.batches[name].rows(0, self.batch_size)
            with self._running(name):
                outputs = self._run(inputs)
                losses = self.criterion.losses(outputs, targets)
                if losses.each is None:
                    return "this loss returns a batch's mean or its sum; return one value per sample (reduction='none')"
                if not self._counts_alike[name]:
                    return f"targets of {name} are left out or weighted, so that samples count differently"
                sizes = (-(-len(targets) // 2), len(targets) // 3)
                alone = self.criterion.additive or outputs_add_up(self.criterion, outputs, targets, sizes)
                if self.mixing or (name in self.undivided and not alone):
                    return "the loss of a sample depends on the other samples of its batch"
        return "metrics of your own need all samples" if self.report.user_metrics else ""

    def _losses_of(self, name: str, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor | None]:
        losses: list[Tensor] = []
        rights: list[Tensor] = []
        with self._running(name):
            for inputs, targets in batches:
                outputs = self._run(inputs)
                losses.append(_each(self.criterion.losses(outputs, targets)))
                if "acc" in self.kinds[name]:
                    rights.append(_each(self._metrics[name][0].sums(outputs, targets)))
        found = torch.cat(losses)
        return found * self._sound if self.fused else found, torch.cat(rights) if rights else None

    def _all_in_one(self) -> Tensor:
        """(2, samples of all splits): losses, and hits or zeros, where the weights are."""
        self._follow()
        columns = []
        for name in self.kinds:
            losses, hits = self._losses_of(name, self.batches[name])
            columns.append(torch.stack([losses, torch.zeros_like(losses) if hits is None else hits.to(losses)]))
        return torch.cat(columns, dim=1)

    def _run_anew(self) -> None:
        super()._run_anew()
        self._every = None

    def _follow(self) -> None:
        """Bring up to date what depends on the weights."""
        raise NotImplementedError


def few_sizes(samples: int, largest: int) -> Iterator[int]:
    """Sizes of batches that ``samples`` are cut into: ``largest``, and for the rest powers of 2."""
    for _ in range(samples // largest):
        yield largest
    rest = samples % largest
    while rest:
        size = 1 << (rest.bit_length() - 1)
        yield size
        rest -= size


def _ends(start: int, sizes: Iterable[int]) -> Iterator[tuple[int, int]]:
    for size in sizes:
        yield start, start + size
        start += size


def _each(losses: Losses) -> Tensor:
    assert losses.each is not None  # checked by ``no_sample_losses``
    return losses.each.detach()
