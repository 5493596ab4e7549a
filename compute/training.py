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
from paraloss.compute.inputs.data import DataSet
from paraloss.compute.run_options import TrainKeywords, TrainOptions
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
    epochs, batch_size, device = asked.epochs, asked.batch_size, asked.device
    if "train" not in data:
        raise InputError(f"training needs a split 'train'; the data have: {', '.join(data)}")
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
    criterion = criterion.to(torch.device(device))
    split = data["train"]
    own = next(model.parameters()).dtype  # inputs of another floating-point type are converted, as torch's layers want it
    inputs, targets = (t.to(device, own if t.is_floating_point() else None) for t in (split.inputs, split.targets))
    optimizer = torch.optim.SGD(
        model.parameters(),
        asked.lr,
        asked.momentum,
        weight_decay=asked.weight_decay,
        nesterov=asked.nesterov and asked.momentum > 0,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs * k // 12 for k in (6, 9, 11)])
    resume_file = folder / "resume.pt"
    start = 0
    if resume_file.exists():
        kept = torch.load(resume_file, map_location=device, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        start = kept["epoch"]
    else:
        save_checkpoint(folder / "epoch_000.pt", model, {**settings, "epoch": 0})

    steps = -(-len(split) // batch_size)
    epoch = start
    with (
        Progress("training", epochs * steps, start * steps, unit="steps", shown=progress) as bar,
        keeping(lambda: f"{epoch} of {epochs} epochs are kept in {folder}; the same command goes on from there"),
    ):
        for epoch in range(start, epochs):
            model.train()
            # Each epoch's shuffle depends on its number only, so that a resumed run sees the same batches.
            order = torch.randperm(len(split), generator=torch.Generator().manual_seed(asked.seed * 100_003 + epoch)).to(device)
            for rows in order.split(batch_size):
                optimizer.zero_grad(set_to_none=True)
                criterion.losses(model(split.normalize(inputs[rows])), targets[rows]).mean.backward()
                optimizer.step()
                bar.advance()
            schedule.step()
            save_checkpoint(folder / f"epoch_{epoch + 1:03d}.pt", model, {**settings, "epoch": epoch + 1})
            _save(
                resume_file,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "epoch": epoch + 1,
                },
            )
    model.eval()
    evaluator = Evaluator(model, criterion, data, [], device)
    results = dict(zip(evaluator.metrics, evaluator([]), strict=True))
    save_checkpoint(final, model, {**settings, "epoch": epochs, **results})
    resume_file.unlink(missing_ok=True)
    return final


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
