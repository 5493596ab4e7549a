"""What is added up over the batches of a split, and over the ranks that share it: one row of float64 per split.

A row holds the sum of the losses, the count that it is divided by, the sum of the squared losses of single samples, the
number of samples, and a sum and a count for each metric. Sums of rows are right for any division into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from paraloss.compute.inputs.losses import Losses

_FIXED = 4
_OF_LOSS = ("loss", "loss_stderr")


def empty_sums(kinds: Mapping[str, Sequence[str]], device: torch.device) -> Tensor:
    """(splits, columns) float64 zeros for the metrics ``kinds`` of each split."""
    width = max(len(_others(names)) for names in kinds.values())
    return torch.zeros(len(kinds), _FIXED + 2 * width, dtype=torch.float64, device=device)


def add_batch(row: Tensor, losses: Losses, samples: int, kinds: Sequence[str], metrics: Iterable[Losses]) -> None:
    """Add one batch to its split's row, in place.

    Args:
        row: (columns,) of ``empty_sums``.
        losses: losses of the batch.
        samples: in the batch.
        kinds: names of the split's metrics.
        metrics: metrics of the batch, in the order of ``kinds`` without those of the loss.
    """
    row[0] += losses.total
    row[1] += losses.count
    if "loss_stderr" in kinds and losses.each is not None:
        row[2] += losses.each.square().sum()
    row[3] += samples
    for column, found in zip(range(_FIXED, len(row), 2), metrics, strict=False):
        row[column] += found.total
        row[column + 1] += found.count


def metrics_of(sums: Tensor, kinds: Mapping[str, Sequence[str]], population: Mapping[str, int]) -> list[float]:
    """The metrics that ``sums`` (of all shards, added up) amount to, in the order of ``kinds``.

    Args:
        sums: (splits, columns) of ``empty_sums``; reading it is the only wait for the device in a point.
        kinds: split -> names of its metrics.
        population: split -> number of samples that its samples were drawn from.
    """
    results: list[float] = []
    for (name, names), (total, count, square, samples, *rest) in zip(kinds.items(), sums.tolist(), strict=True):
        mean = _ratio(total, count)
        values = {"loss": mean}
        if "loss_stderr" in names:
            variance = max(square / samples - mean**2, 0.0) / (samples - 1)
            values["loss_stderr"] = (variance * (1 - samples / population[name])) ** 0.5
        for kind, metric, number in zip(_others(names), rest[::2], rest[1::2], strict=False):
            values[kind] = _ratio(metric, number) * (100 if kind == "acc" else 1)
        results += [values[kind] for kind in names]
    return results


def _others(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in _OF_LOSS]


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")
