"""Train a model with SGD, one checkpoint per epoch; as much as the paper's figures need."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.inputs.checkpoints import load_checkpoint, save_checkpoint, save_content
from paraloss.compute.inputs.criteria import load_criterion
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.split import DataSet, Split
from paraloss.compute.options.runs import TrainKeywords, TrainOptions
from paraloss.compute.ranks.devices import rank_device
from paraloss.errors import InputError
from paraloss.option import combine
from paraloss.progress import Progress
from paraloss.stopping import keeping

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train(
    model: nn.Module,
    data: DataSet,
    folder: str | Path,
    *groups: TrainOptions,
    loss: str | Callable[..., Any] = "cross_entropy",
    record: Mapping[str, Any] | None = None,
    progress: bool = True,
    **options: Unpack[TrainKeywords],
) -> Path:
    """Train with SGD from ``model``'s weights on; the rate falls by ten at 50, 75 and 92 % of the epochs (Li et al. 2018).

    Args:
        model: trained in place.
        data: splits; requires "train". A "test" split is evaluated at the end.
        folder: folder for ``epoch_000.pt`` (before training), ``epoch_001.pt`` …, ``final.pt``; made when missing.
        groups: options as ``TrainOptions``.
        loss: see ``paraloss.compute.load_criterion``.
        record: facts to store in every checkpoint (model name, data name …).
        progress: show progress on standard error.
        options: single options by name, as in ``TrainOptions``. They win over groups.

    Returns:
        The path of ``final.pt``. Its record holds loss and accuracy of every split. An interrupted run goes on from
        its last epoch when it is called again with the same settings; a finished one returns at once.

    Raises:
        InputError: no "train" split, or ``folder`` holds a run with other settings.
    """
    asked = combine(TrainOptions, groups, options, "train")
    if "train" not in data:
        raise InputError(f"training requires a split 'train'; the data have: {', '.join(data)}")
    device = rank_device(asked.device)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder ({error.strerror}); choose another folder") from error
    loss_name, criterion = load_criterion(loss)
    facts = {name: value for name, value in asked.facts().items() if name != "device"}
    settings = {**(record or {}), "loss": loss_name, **facts}
    final = folder / "final.pt"
    _refuse_other_run(folder, settings)
    if final.exists():
        return final
    model.to(device)
    criterion = criterion.to(device)
    run = _Run(model, asked, folder, settings, device)
    run.train(data["train"], criterion, progress)
    model.eval()
    evaluator = Evaluator(model, criterion, data, [], device)
    results = dict(zip(evaluator.metrics, evaluator([]), strict=True))
    save_checkpoint(final, model, {**settings, "epoch": asked.epochs, **results})
    run.resume_file.unlink(missing_ok=True)
    return final


class _Run:
    """A run in its folder: starts, or goes on after its last epoch."""

    def __init__(
        self, model: nn.Module, asked: TrainOptions, folder: Path, settings: Mapping[str, Any], device: torch.device
    ) -> None:
        self.model, self.asked, self.folder, self.settings, self.device = model, asked, folder, settings, device
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            asked.lr,
            asked.momentum,
            weight_decay=asked.weight_decay,
            nesterov=asked.nesterov and asked.momentum > 0,
        )
        milestones = [asked.epochs * k // 12 for k in (6, 9, 11)]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones)
        self.resume_file = folder / "resume.pt"
        self.start = 0
        if self.resume_file.exists():
            kept = torch.load(self.resume_file, map_location=device, weights_only=True)
            for part, state in self._parts().items():
                state.load_state_dict(kept[part])
            self.start = kept["epoch"]
        else:
            save_checkpoint(folder / "epoch_000.pt", model, {**settings, "epoch": 0})

    def train(self, split: Split, criterion: Criterion, progress: bool) -> None:
        """Train all epochs that are left; keep a checkpoint and what resuming requires after each."""
        asked, epochs, device = self.asked, self.asked.epochs, self.device
        own = next(self.model.parameters()).dtype  # inputs of another floating-point type are converted to it
        inputs, targets = (t.to(device, own if t.is_floating_point() else None) for t in (split.inputs, split.targets))
        steps = -(-len(split) // asked.batch_size)
        epoch = self.start
        with (
            Progress("training", epochs * steps, self.start * steps, unit="steps", shown=progress) as bar,
            keeping(lambda: f"{epoch} of {epochs} epochs are kept in {self.folder}; the same command goes on from there"),
        ):
            for epoch in range(self.start, epochs):
                self.model.train()
                # Each epoch's shuffle depends on its number only, so that a resumed run sees the same batches.
                generator = torch.Generator().manual_seed(asked.seed * 100_003 + epoch)
                for rows in torch.randperm(len(split), generator=generator).to(device).split(asked.batch_size):
                    self.optimizer.zero_grad(set_to_none=True)
                    criterion.losses(self.model(split.normalize(inputs[rows])), targets[rows]).mean.backward()
                    self.optimizer.step()
                    bar.advance()
                self.schedule.step()
                self._keep(epoch + 1)

    def _keep(self, epoch: int) -> None:
        save_checkpoint(self.folder / f"epoch_{epoch:03d}.pt", self.model, {**self.settings, "epoch": epoch})
        _save(self.resume_file, {part: state.state_dict() for part, state in self._parts().items()} | {"epoch": epoch})

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}


def _refuse_other_run(folder: Path, settings: Mapping[str, Any]) -> None:
    first = folder / "epoch_000.pt"
    if not first.exists():
        others = sorted(path.name for path in folder.iterdir() if re.fullmatch(r"(epoch_\d+|final|resume)\.pt", path.name))
        if others:
            raise InputError(f"{folder}: holds {others[0]} of another run; choose another folder")
        return
    found = load_checkpoint(first)[1]
    for key, value in settings.items():
        if found.get(key) != value:
            raise InputError(
                f"{folder}: holds a run with other settings: {key} is {found.get(key)!r} there, {value!r} now; "
                "choose another folder, or remove this one"
            )


def _save(path: Path, content: Mapping[str, Any]) -> None:
    """Keep what an interrupted run goes on from."""
    save_content(path, content)
