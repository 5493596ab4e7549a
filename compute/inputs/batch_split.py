"""A split of a data set as batches of any structure, for a step: fixed in content and order for all points and ranks.

What users have is one of two things. A data set of single samples is stacked, as a ``DataLoader`` would, and cut into batches
of any size. Batches that come ready, from a loader, a list or a generator, or as one object for the whole split, are
evaluated as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from paraloss.compute.inputs.pairs import one_pass
from paraloss.compute.inputs.split import Split
from paraloss.compute.inputs.trees import join_rows, map_tensors, rows_of, sha256_of, take_rows, tensors_in
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError

_SPLITS = ("train", "test", "val", "valid", "validation", "dev", "eval")


class BatchSplit:
    """Batches of any structure on the CPU.

    Args:
        batches: ready batches, each passed to the step as it is.
        stacked: instead, all samples as one batch that may be cut anywhere along the first axis of its tensors.

    Attributes:
        batches: as given, or ``stacked`` as a whole.
        divisible: whether the batches may be cut to any size.
    """

    def __init__(self, batches: Sequence[Any] = (), stacked: Any = None) -> None:
        self.divisible = stacked is not None
        self.batches = [stacked] if self.divisible else list(batches)
        self._rows = [rows_of(batch) for batch in self.batches]

    def __len__(self) -> int:
        """Number of samples; of batches where a batch does not reveal how many samples it holds."""
        return len(self.batches) if None in self._rows else sum(rows or 0 for rows in self._rows)

    def subset(self, samples: int | None, seed: int = 0) -> BatchSplit:
        """``samples`` of the rows, drawn without replacement with ``seed``, in their old order; all when None.

        Raises:
            InputError: the batches come ready.
        """
        if samples is None or samples >= len(self):
            return self
        if not self.divisible:
            raise InputError(
                "{samples} draws from a data set of single samples, but here the batches come ready; draw in the data callable",
                arguments=("samples",),
            )
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:samples])
        return BatchSplit(stacked=take_rows(self.batches[0], torch.from_numpy(rows), len(self)))

    def shard(self, rank: int, ranks: int) -> BatchSplit:
        """Every ``ranks``-th sample from sample ``rank`` on; every such batch where the batches come ready."""
        if not self.divisible:
            return BatchSplit(self.batches[rank::ranks])
        return BatchSplit(stacked=take_rows(self.batches[0], slice(rank, None, ranks), len(self)))

    def placed(self, place: Callable[[Any], Any]) -> BatchSplit:
        """The same samples, ``place`` applied to all of them together, or to every batch where the batches come ready."""
        moved = [place(batch) for batch in self.batches]
        return BatchSplit(stacked=moved[0]) if self.divisible else BatchSplit(moved)

    def of_size(self, size: int) -> list[Any]:
        """The batches, of ``size`` samples where they may be cut."""
        if not self.divisible:
            return self.batches
        rows = len(self)
        return [take_rows(self.batches[0], slice(start, start + size), rows) for start in range(0, rows, size)]

    def whole(self) -> Any | None:
        """All samples as one batch; None where the batches cannot be joined."""
        if len(self.batches) == 1:
            return self.batches[0]
        try:
            return None if None in self._rows else join_rows(self.batches)
        except (ValueError, RuntimeError):
            return None

    def sha256(self) -> str:
        """Identifies the numbers of this split, and where its batches begin."""
        return sha256_of(self.batches)


def as_batches(data: Any, name: str = "data") -> dict[str, BatchSplit]:
    """Turn what users have into batches for a step.

    Args:
        data: a ``DataLoader``, a list or a generator of batches; a data set of samples (anything with ``len`` and
            indexing, or a torch ``IterableDataset``), which is stacked; one batch for the whole split: a tensor, a tuple or a
            dict of tensors, a graph …; or a dict from split name to any of these.
        name: what to call it in messages.

    Raises:
        InputError: empty, or samples that cannot be stacked.

    A dict is a batch where all its values are tensors and no key is the usual name of a split.
    """
    if isinstance(data, Mapping) and not _is_batch(data):
        return {str(split): _as_batch_split(part, f"{name}[{split!r}]") for split, part in data.items()}
    return {"train": _as_batch_split(data, name)}


def _is_batch(data: Mapping[Any, Any]) -> bool:
    values = all(isinstance(value, (Tensor, np.ndarray, int, float)) for value in data.values())
    return values and not any(key in _SPLITS for key in data)


def _as_batch_split(data: Any, name: str) -> BatchSplit:
    if isinstance(data, BatchSplit):
        return data
    if isinstance(data, Split):
        return BatchSplit(stacked=(data.normalize(data.inputs), data.targets))
    if isinstance(data, DataLoader):
        result = BatchSplit([_owned(batch) for batch in one_pass(data, name)])
    elif isinstance(data, (list, Iterator)):
        result = BatchSplit([_owned(batch) for batch in one_pass(iter(data), name)])
    elif _is_samples(data):
        return BatchSplit(stacked=_stacked(data, name))
    else:
        result = BatchSplit([_owned(data)])
    if not result.batches or not tensors_in(result.batches):
        raise InputError(f"{name}: holds no batch with a tensor in it; give a data set, a loader or a list of batches")
    return result


def _is_samples(data: Any) -> bool:
    """Whether ``data`` gives single samples: a torch data set or the like, but no container that is itself a batch."""
    if isinstance(data, IterableDataset):
        return True
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, type)
    return indexed and not isinstance(data, (Tensor, np.ndarray, tuple, Mapping)) and not callable(getattr(data, "to", None))


def _stacked(data: Any, name: str) -> Any:
    if hasattr(data, "with_format") and hasattr(data, "column_names"):  # a data set of Hugging Face
        data = data.with_format("torch")
    samples = list(one_pass(data, name))
    if not samples:
        raise InputError(f"{name}: holds no samples")
    try:
        stacked = default_collate(samples)
    except (TypeError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"{name}: the samples cannot be stacked to batches ({one_line(error)[:120]}); give a DataLoader with a collate_fn, "
            "or a list of batches"
        ) from error
    if rows_of(stacked) != len(samples):
        raise InputError(f"{name}: the samples hold no tensors or numbers; give a DataLoader or a list of batches")
    return stacked


def _owned(batch: Any) -> Any:
    """A batch of our own: loaders may reuse their memory, and users may go on with their tensors."""
    return map_tensors(lambda tensor: tensor.detach().clone(), batch)
