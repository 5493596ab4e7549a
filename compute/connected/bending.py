"""Train the bends of a curve, so that the loss along it becomes low (Garipov et al. 2018, section 3.1).

Each step takes a batch and a place on the curve, drawn uniformly; the gradient at that place goes to the bends in their shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.connected.curves import shares
from paraloss.compute.directions.between import movable
from paraloss.compute.forward.copying import copy_model
from paraloss.compute.forward.precision import arithmetic
from paraloss.compute.inputs.batch_split import BatchSplit
from paraloss.compute.inputs.checkpoints import save_content
from paraloss.compute.inputs.problem import AnySplit, Loss
from paraloss.compute.inputs.split import Split
from paraloss.compute.inputs.tensors import distinct_parameters
from paraloss.compute.inputs.trees import map_tensors, take_rows
from paraloss.compute.options.connected import ConnectOptions
from paraloss.errors import InputError
from paraloss.log import logger
from paraloss.progress import Progress
from paraloss.stopping import keeping
from paraloss.text import one_line

Named = dict[str, Tensor]
_STATISTICS = ("running_mean", "running_var")


class Bending:
    """The training of one curve, which starts, or goes on after its last epoch.

    Args:
        model: the first end; copied.
        other: tensors of the last end by name.
        loss: a criterion, or a step.
        split: training samples.
        asked: curve and training.
        device: where.
        file: what an interrupted training goes on from.
        settings: facts that decide the result; the file of other ones is refused.

    Raises:
        InputError: the file belongs to another curve.
    """

    def __init__(
        self,
        model: nn.Module,
        other: Mapping[str, Tensor],
        loss: Loss,
        split: AnySplit,
        asked: ConnectOptions,
        device: torch.device,
        file: Path,
        settings: Mapping[str, Any],
    ) -> None:
        self.asked, self.device, self.file, self.settings = asked, device, file, dict(settings)
        self.model = copy_model(model, device)
        self.loss, self.split = loss.to(device), split
        self.parameters = distinct_parameters(self.model)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self.ends = [{n: p.detach().clone() for n, p in self.parameters.items()}, self._of(other, self.parameters)]
        buffers = {n: b for n, b in movable(self.model).items() if n not in self.parameters and not n.endswith(_STATISTICS)}
        self.buffers = [(b, b.clone(), self._of(other, {n: b})[n]) for n, b in buffers.items()]
        first, last = self.ends
        self.bends = [
            {n: (p + (last[n] - p) * (k / (asked.bends + 1))).requires_grad_(True) for n, p in first.items()}
            for k in range(1, asked.bends + 1)
        ]
        self.optimizer = torch.optim.SGD(
            [p for bend in self.bends for p in bend.values()],
            asked.lr,
            asked.momentum,
            weight_decay=asked.weight_decay,
            nesterov=asked.momentum > 0,
        )
        self.start = self._resumed() if file.exists() else 0

    def _of(self, other: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Named:
        return {n: other[n].to(self.device, t.dtype) if n in other else t.detach().clone() for n, t in like.items()}

    def _resumed(self) -> int:
        kept = torch.load(self.file, map_location=self.device, weights_only=True)
        check_settings(self.file, kept["settings"], self.settings)
        for bend, values in zip(self.bends, kept["bends"], strict=True):
            for name, parameter in bend.items():
                parameter.data.copy_(values[name])
        self.optimizer.load_state_dict(kept["optimizer"])
        return int(kept["epoch"])

    def train(self) -> list[Named]:
        """Train all epochs that are left; the bends, each a parameter by name, on the CPU."""
        asked, epoch, steps = self.asked, self.start, self._steps()
        with (
            Progress("training the curve", asked.epochs * steps, self.start * steps, "steps", asked.progress) as bar,
            keeping(lambda: f"{epoch} of {asked.epochs} epochs are kept; the same command goes on from there"),
            arithmetic(self.device, "fp32", False),
            torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []),
        ):
            for epoch in range(self.start, asked.epochs):
                # An epoch's numbers depend on its number only, so that a resumed training goes on as if it had not stopped.
                generator = torch.Generator().manual_seed(asked.seed * 100_003 + epoch)
                torch.manual_seed(asked.seed * 100_003 + epoch)
                self.model.train()
                total, count = 0.0, 0
                for step, batch in enumerate(self._batches(generator)):
                    self._set_rate((epoch * steps + step) / (asked.epochs * steps))
                    total, count = total + self._step(batch, float(torch.rand((), generator=generator))), count + 1
                    bar.advance()
                if not np.isfinite(total):
                    raise InputError(
                        f"the loss along the curve is {total} in epoch {epoch + 1}; use a lower learning rate, {{lr}}", ("lr",)
                    )
                self._keep(epoch + 1)
                if asked.progress:
                    logger.info(f"epoch {epoch + 1} of {asked.epochs}: mean loss along the curve {total / max(1, count):.4g}")
                epoch += 1
        return [{name: parameter.detach().cpu() for name, parameter in bend.items()} for bend in self.bends]

    def _step(self, batch: Any, place: float) -> float:
        """One step of the optimizer at a place of the curve; the mean loss before it."""
        part = shares(self.asked.curve, self.asked.bends, np.array([place]))[0].tolist()
        points = [self.ends[0], *self.bends, self.ends[1]]
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(sum(share * point[name] for share, point in zip(part, points, strict=True)))
                parameter.grad = None
            for buffer, first, last in self.buffers:
                buffer.copy_(first + (last - first) * place)
        try:
            loss = self.loss.batch_losses(self.model, batch).mean
            loss.backward()
        except InputError:
            raise
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise InputError(f"a step of training failed: {type(error).__name__}: {one_line(error)[:200]}") from error
        for share, bend in zip(part[1:-1], self.bends, strict=True):
            for name, parameter in bend.items():
                gradient = self.parameters[name].grad
                parameter.grad = None if gradient is None else share * gradient
        self.optimizer.step()
        return float(loss.detach())

    def _set_rate(self, done: float) -> None:
        """Garipov et al.'s schedule: constant, then down to a hundredth, which is reached at nine tenths."""
        factor = 1.0 if done <= 0.5 else 1.0 - (done - 0.5) / 0.4 * 0.99 if done <= 0.9 else 0.01
        for group in self.optimizer.param_groups:
            group["lr"] = self.asked.lr * factor

    def _steps(self) -> int:
        if isinstance(self.split, BatchSplit) and not self.split.divisible:
            return len(self.split.batches)
        size, samples = self.asked.train_batch, len(self.split)
        return max(1, samples // size + (samples % size > 1))

    def _batches(self, generator: torch.Generator) -> Iterator[Any]:
        """Batches of one epoch; a last one of a single sample is left out, since batch norm cannot train on it."""
        split, size = self.split, self.asked.train_batch
        if isinstance(split, BatchSplit) and not split.divisible:
            for k in torch.randperm(len(split.batches), generator=generator).tolist():
                yield self._placed(split.batches[k])
            return
        order = torch.randperm(len(split), generator=generator)
        dtype = next(iter(self.parameters.values())).dtype
        for rows in order.split(size)[: self._steps()]:
            if isinstance(split, Split):
                inputs = split.normalize(split.inputs[rows].to(self.device))
                yield inputs.to(dtype) if inputs.is_floating_point() else inputs, split.targets[rows].to(self.device)
            else:
                yield self._placed(take_rows(split.batches[0], rows, len(split)))

    def _placed(self, batch: Any) -> Any:
        return map_tensors(lambda tensor: tensor.to(self.device), batch)

    def _keep(self, epoch: int) -> None:
        bends = [{name: parameter.detach() for name, parameter in bend.items()} for bend in self.bends]
        content = {"settings": self.settings, "bends": bends, "optimizer": self.optimizer.state_dict(), "epoch": epoch}
        save_content(self.file, content)


def check_settings(file: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a curve of other settings.

    Raises:
        InputError: names the first setting that differs.
    """
    for key, value in now.items():
        if before.get(key) != value:
            shown = f": {key} is {before.get(key)!r} there, {value!r} now" if len(str(value)) < 60 else f" of {key}"
            raise InputError(
                f"{file}: belongs to a curve with other settings{shown}; choose another folder, or {{overwrite}}",
                ("overwrite",),
            )
