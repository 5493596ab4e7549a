"""Train a model with SGD by one of two recipes, one checkpoint per epoch; as much as the paper's figures need."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paraloss.compute.evaluate.estimator import with_smaller_batches
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.sums import add_batch, empty_sums, metrics_of
from paraloss.compute.forward.precision import arithmetic, faster_precisions
from paraloss.compute.inputs.checkpoints import load_checkpoint, save_checkpoint, save_content
from paraloss.compute.inputs.criteria import load_criterion
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.metrics import Accuracy, find_accuracy
from paraloss.compute.inputs.split import DataSet, Split
from paraloss.compute.options.runs import TrainKeywords, TrainOptions
from paraloss.compute.ranks.devices import describe_device, rank_device
from paraloss.compute.recipes import RECIPES, image_scale, resized
from paraloss.errors import InputError
from paraloss.files import made_folder
from paraloss.log import logger
from paraloss.option import combine
from paraloss.progress import Progress
from paraloss.stopping import keeping
from paraloss.text import one_line

if TYPE_CHECKING:
    from typing_extensions import Unpack


_TEST_BATCH = 500  # samples at once when the test split is evaluated, at least


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
    """Train with SGD from ``model``'s weights on, by one of the recipes of ``paraloss.compute.recipes``.

    Args:
        model: trained in place.
        data: splits; requires "train". A "test" split is evaluated after every epoch, and like the others at the end.
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
        InputError: no "train" split, data that the recipe does not fit, or ``folder`` holds a run with other settings.
    """
    asked = combine(TrainOptions, groups, options, "train")
    if "train" not in data:
        raise InputError(f"training requires a split 'train'; the data have: {', '.join(data)}")
    recipe = RECIPES[asked.recipe]
    recipe.check(data["train"])
    device = rank_device(asked.device)
    _check_model(model)
    folder = Path(folder)
    loss_name, criterion = load_criterion(loss)
    facts = {name: value for name, value in asked.facts().items() if name != "device"}
    settings = {**(record or {}), "loss": loss_name, **facts, "precision": _arithmetic(asked.precision, device)}
    final = folder / "final.pt"
    with made_folder(folder):
        _refuse_other_run(folder, settings)
        if final.exists():
            return final
        model.to(device)
        if recipe.augment is not None:  # images: convolutions train a quarter faster so
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        criterion = criterion.to(device)
        run = _Run(model, asked, folder, settings, device, -(-len(data["train"]) // asked.batch_size))
        logger.info(f"training on {describe_device(device)} in {settings['precision']}, {asked.batch_size} samples a step")
        with arithmetic(device, "fp32", False):
            run.train(data, criterion, progress)
    model.eval()
    evaluator = Evaluator(model, criterion, data, [], device)
    values = with_smaller_batches(evaluator, lambda: evaluator([]))
    results = dict(zip(evaluator.metrics, values, strict=True))
    save_checkpoint(final, model, {**settings, "epoch": asked.epochs, **results})
    run.resume_file.unlink(missing_ok=True)
    return final


def _check_model(model: nn.Module) -> None:
    parameters = list(model.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise InputError(f"the model ({type(model).__name__}) has no parameters that require gradients: nothing to train")
    if any(parameter.is_meta for parameter in parameters):
        raise InputError(f"the model ({type(model).__name__}) is on the meta device and holds no numbers; initialize it first")


class _Run:
    """A run in its folder: starts, or goes on after its last epoch."""

    def __init__(
        self,
        model: nn.Module,
        asked: TrainOptions,
        folder: Path,
        settings: Mapping[str, Any],
        device: torch.device,
        steps: int,
    ) -> None:
        self.model, self.asked, self.folder, self.settings, self.device = model, asked, folder, settings, device
        self.steps, self.recipe = steps, RECIPES[asked.recipe]
        self.low = settings["precision"] == "bf16"
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            asked.lr,
            asked.momentum,
            weight_decay=asked.weight_decay,
            nesterov=asked.nesterov and asked.momentum > 0,
        )
        rate, whole = self.recipe.rate, asked.epochs * steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: rate(step, whole, asked.epochs))
        self.resume_file = folder / "resume.pt"
        self.start = 0
        if self.resume_file.exists():
            kept = torch.load(self.resume_file, map_location=device, weights_only=True)
            for part, state in self._parts().items():
                state.load_state_dict(kept[part])
            self.start = kept["epoch"]
        else:
            save_checkpoint(folder / "epoch_000.pt", model, {**settings, "epoch": 0})

    def train(self, data: DataSet, criterion: Criterion, progress: bool) -> None:
        """Train all epochs that are left; keep a checkpoint and what resuming requires after each."""
        asked, epochs = self.asked, self.asked.epochs
        split = self._resident(data["train"])
        test = self._resident(data["test"]) if "test" in data else None
        inputs, targets = split.inputs, split.targets
        epoch = self.start
        with (
            Progress("training", epochs * self.steps, self.start * self.steps, unit="steps", shown=progress) as bar,
            keeping(lambda: f"{epoch} of {epochs} epochs are kept in {self.folder}; the same command goes on from there"),
        ):
            for epoch in range(self.start, epochs):
                self.model.train()
                scale = image_scale(epoch, epochs) if asked.progressive else 1.0
                total = torch.zeros((), dtype=torch.float64, device=self.device)
                # Each epoch's shuffle depends on its number only, so that a resumed run sees the same batches.
                generator = torch.Generator().manual_seed(asked.seed * 100_003 + epoch)
                for rows in torch.randperm(len(split), generator=generator).to(self.device).split(asked.batch_size):
                    batch = inputs[rows] if self.recipe.augment is None else self.recipe.augment(inputs[rows], generator)
                    self.optimizer.zero_grad(set_to_none=True)
                    loss = self._step(resized(split.normalize(batch), scale), targets[rows], criterion)
                    self.schedule.step()
                    total += loss.detach() * len(rows)
                    bar.advance()
                found = {"running_train_loss": float(total) / len(split)}
                if test is not None:
                    found |= self._evaluate(test, criterion, scale)
                self._keep(epoch + 1, found)
                logger.info(
                    f"epoch {epoch + 1} of {epochs}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items())
                )

    def _step(self, batch: Tensor, targets: Tensor, criterion: Criterion) -> Tensor:
        """One step of the optimizer; the mean loss before it.

        Raises:
            InputError: model, data and loss do not fit; what the run wrote before its first step is removed.
        """
        try:
            loss = criterion.losses(self._outputs(batch), targets).mean
            loss.backward()
        except InputError:
            self._forget_first()
            raise
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            self._forget_first()
            raise InputError(
                f"a step of training failed: {type(error).__name__}: {one_line(error)[:200]}; check that the model takes these "
                f"inputs {tuple(batch.shape)} and the loss these targets {tuple(targets.shape)}"
            ) from error
        self.optimizer.step()
        return loss

    def _forget_first(self) -> None:
        """Remove what the run wrote before its first step, where no epoch is kept yet."""
        if not self.resume_file.exists():
            (self.folder / "epoch_000.pt").unlink(missing_ok=True)

    def _resident(self, split: Split) -> Split:
        """A split on the device; inputs of another floating-point type are converted to the model's."""
        own = next(self.model.parameters()).dtype
        inputs, targets = (t.to(self.device, own if t.is_floating_point() else None) for t in (split.inputs, split.targets))
        scale = None if split.scale is None else (split.scale[0].to(self.device), split.scale[1].to(self.device))
        return Split(inputs, targets, scale)

    def _outputs(self, inputs: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            outputs: Tensor = self.model(inputs)
        return outputs.float() if self.low else outputs

    @torch.no_grad()
    def _evaluate(self, split: Split, criterion: Criterion, scale: float) -> dict[str, float]:
        """Loss on the test split, and accuracy where targets are classes, in the training's arithmetic and size of images."""
        self.model.eval()
        accuracy: Accuracy | None = None
        kinds: dict[str, list[str]] = {}
        sums = torch.empty(0)
        for rows in torch.arange(len(split), device=self.device).split(max(self.asked.batch_size, _TEST_BATCH)):
            inputs, targets = resized(split.normalize(split.inputs[rows]), scale), split.targets[rows]
            outputs = self._outputs(inputs)
            if not kinds:
                accuracy = find_accuracy(criterion, outputs, targets, split.targets)
                kinds = {"test": ["loss", *(["acc"] if accuracy else [])]}
                sums = empty_sums(kinds, self.device)
            found = [accuracy.sums(outputs, targets)] if accuracy else []
            add_batch(sums[0], criterion.losses(outputs, targets), len(rows), kinds["test"], found)
        return {f"test_{kind}": value for kind, value in zip(kinds["test"], metrics_of(sums, kinds, {}), strict=True)}

    def _keep(self, epoch: int, found: Mapping[str, float]) -> None:
        save_checkpoint(self.folder / f"epoch_{epoch:03d}.pt", self.model, {**self.settings, "epoch": epoch, **found})
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
    usual = TrainOptions().facts()
    for key, value in settings.items():
        before = found.get(key, usual.get(key))  # a run of an earlier version does not name what it could not choose
        if before != value:
            raise InputError(
                f"{folder}: holds a run with other settings: {key} is {before!r} there, {value!r} now; "
                "choose another folder, or remove this one"
            )


def _arithmetic(asked: str, device: torch.device) -> str:
    """fp32 or bf16: what ``asked`` comes to on ``device``."""
    if asked != "auto":
        return asked
    return "bf16" if "bf16" in faster_precisions(device) else "fp32"


def _save(path: Path, content: Mapping[str, Any]) -> None:
    """Keep what an interrupted run goes on from."""
    save_content(path, content)
