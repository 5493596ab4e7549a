"""The loss and accuracy of a model anywhere on the plane that its directions span."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from paraloss.compute.criteria import SampleLosses, counts_accuracy, hits
from paraloss.compute.data import DataSet
from paraloss.compute.directions import Direction
from paraloss.compute.folding import FoldedModel
from paraloss.compute.user_code import one_line
from paraloss.errors import InputError, ParalossError

_FOLD_TOLERANCE = 1e-3


class Evaluator:
    """theta(x, y) = theta* + x * delta + y * eta, and the mean loss and accuracy there.

    Args:
        model: the centre; it is copied and left as it is.
        criterion: the losses of a batch, see ``criteria``.
        data: splits to evaluate; they are moved to ``device`` and stay there.
        directions: one (a curve) or two (a surface).
        device: where to compute.
        batch_size: samples at once; None chooses by the size of a sample.
        population: split -> number of samples that its rows were drawn from, for splits that were not taken whole.

    Attributes:
        metrics: names of what a call returns, in order: ``<split>_loss``; for a drawn split ``<split>_loss_stderr``, its
            standard error with finite-population correction, s / sqrt(n) * sqrt(1 - n / N); where targets are
            classes ``<split>_acc``, percent.
        folded: number of batch norms folded away; ``not_folded`` says why none were.

    Raises:
        InputError: the model cannot take these data, or the criterion cannot take its outputs.

    The model is in evaluation mode, nothing is augmented. Losses are sum(loss of each sample) / n, summed in float64.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: SampleLosses,
        data: DataSet,
        directions: Sequence[Direction],
        device: str | torch.device = "cpu",
        batch_size: int | None = None,
        population: Mapping[str, int] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.criterion = criterion
        self.model = copy.deepcopy(model).to(self.device).float().eval().requires_grad_(False)
        self.weights = MovingWeights(self.model, directions)
        self.batches = {
            name: _batches(split.inputs.to(self.device), split.targets.to(self.device), batch_size)
            for name, split in data.items()
        }
        self._population = dict(population or {})
        self._kinds = {name: self._probe(name, data[name].inputs) for name in data}
        self._fold()
        self.metrics = [f"{name}_{kind}" for name, kinds in self._kinds.items() for kind in kinds]

    def __call__(self, coordinates: Sequence[float]) -> list[float]:
        """The metrics at ``coordinates`` (one number a direction), in the order of ``metrics``."""
        self.weights.move_to(coordinates)
        if self._forward is not self.model:
            self._folded.refresh()
        results: list[Tensor] = []
        with torch.inference_mode():
            for name, batches in self.batches.items():
                sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # losses, their squares, hits
                kinds, count = self._kinds[name], 0
                for inputs, targets in batches:
                    outputs = self._forward(inputs)
                    losses = self.criterion(outputs, targets)
                    sums[0] += losses.sum() if losses.ndim else losses * len(targets)
                    if "loss_stderr" in kinds:
                        sums[1] += losses.square().sum()
                    if "acc" in kinds:
                        sums[2] += hits(outputs, targets)
                    count += len(targets)
                mean = sums[0] / count
                values = {"loss": mean, "acc": 100 * sums[2] / count}
                if "loss_stderr" in kinds:
                    variance = (sums[1] / count - mean.square()).clamp_min(0) / (count - 1)
                    values["loss_stderr"] = (variance * (1 - count / self._population[name])).sqrt()
                results += [values[kind] for kind in kinds]
        return torch.stack(results).tolist()  # the only wait for the device in a point

    def _probe(self, name: str, original: Tensor) -> list[str]:
        """What can be told about a split; finds out on two samples that model, data and criterion fit together."""
        inputs, targets = self.batches[name][0]
        try:
            with torch.inference_mode():
                outputs = self.model(inputs[:2])
        except Exception as error:
            shape = tuple(original.shape[1:])
            raise InputError(f"the model cannot take {name} inputs of shape {shape}: {one_line(error)[:200]}") from error
        if not isinstance(outputs, Tensor):
            raise InputError(f"the model returned {type(outputs).__name__}, not a tensor; wrap it to return its outputs")
        try:
            losses = self.criterion(outputs, targets[:2])
        except ParalossError:
            raise
        except Exception as error:
            raise InputError(
                f"the loss cannot take outputs {tuple(outputs.shape)} and {name} targets {tuple(targets.shape)}: "
                f"{one_line(error)[:200]}; classes in the data and in the model may differ"
            ) from error
        if counts_accuracy(outputs, targets[:2]):
            lowest, highest = (int(f(torch.stack([f(rows) for _, rows in self.batches[name]]))) for f in (torch.min, torch.max))
            if lowest < 0 or highest >= outputs.shape[1]:
                raise InputError(
                    f"the {name} targets are classes {lowest} to {highest}, but the model has {outputs.shape[1]} outputs; "
                    "classes are numbered from 0"
                )
        drawn = self._population.get(name, 0) > sum(len(rows) for _, rows in self.batches[name]) > 1
        return (
            ["loss"]
            + (["loss_stderr"] if drawn and losses.ndim else [])
            + (["acc"] if counts_accuracy(outputs, targets[:2]) else [])
        )

    def _fold(self) -> None:
        """Fold where it changes nothing: the traced model is checked against the real one on a batch."""
        self._folded = FoldedModel(self.model)
        self.folded, self.not_folded, self._forward = self._folded.folded, self._folded.reason, self._folded.module
        if not self.folded:
            self._forward = self.model
            return
        inputs = next(iter(self.batches.values()))[0][0]
        with torch.inference_mode():
            plain, folded = self.model(inputs), self._forward(inputs)
            if not torch.allclose(plain, folded, rtol=_FOLD_TOLERANCE, atol=_FOLD_TOLERANCE * float(plain.abs().max())):
                self.folded, self.not_folded, self._forward = 0, "its trace computes something else", self.model


class MovingWeights:
    """The tensors that the directions name, laid out in one flat buffer that one fused update moves.

    Args:
        model: its tensors become views of the buffer.
        directions: which tensors move, and how.

    The sum is in float32 (as in the reference), or in float64 and rounded once when a direction is float64.
    """

    def __init__(self, model: nn.Module, directions: Sequence[Direction]) -> None:
        tensors: Mapping[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        names = [name for name in tensors if any(name in direction for direction in directions)]
        exact = any(t.dtype == torch.float64 for direction in directions for t in direction.values())
        work = torch.float64 if exact else torch.float32
        device = next(iter(tensors.values())).device
        nothing = [torch.zeros(0, device=device)]  # no direction at all: the model stays where it is
        self._buffer = torch.cat([tensors[name].detach().reshape(-1) for name in names] or nothing)
        self._centre = self._buffer.to(work, copy=True)
        self._directions = [
            torch.cat(
                [
                    d[name].reshape(-1).to(device, work) if name in d else self._centre.new_zeros(tensors[name].numel())
                    for name in names
                ]
            )
            for d in directions
        ]
        self._variances: list[Tensor] = []
        start = 0
        for name in names:
            tensor = tensors[name]
            view = self._buffer[start : start + tensor.numel()].view(tensor.shape)
            tensor.data = view
            start += tensor.numel()
            if name.endswith("running_var"):
                self._variances.append(view)

    def move_to(self, coordinates: Sequence[float]) -> None:
        """Put the model at ``coordinates``; a running variance that would fall below zero stays at zero."""
        moved = self._centre
        for step, direction in zip(coordinates, self._directions, strict=True):
            moved = torch.add(moved, direction, alpha=float(step))
        self._buffer.copy_(moved)
        for variance in self._variances:
            variance.clamp_(min=0)


def _batches(inputs: Tensor, targets: Tensor, batch_size: int | None) -> list[tuple[Tensor, Tensor]]:
    if inputs.ndim == 4 and inputs.dtype.is_floating_point:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    size = batch_size or _default_batch_size(inputs)
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def _default_batch_size(inputs: Tensor) -> int:
    """About 64 images of 3×32×32 on a CPU, whose activations then stay in its cache; 4,096 such images on a GPU."""
    numbers = 196_608 if inputs.device.type == "cpu" else 12_582_912
    return max(1, min(len(inputs), 512 if inputs.device.type == "cpu" else 8192, numbers // max(1, inputs[0].numel())))
