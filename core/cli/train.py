"""``paraloss train``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    *,
    model: str = "resnet20",
    data: str = "digits",
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    model_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    data_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    loss: str = "cross_entropy",
    epochs: int = 20,
    lr: float = 0.1,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train a model with SGD (Nesterov), a checkpoint an epoch; goes on where it was interrupted.

    Example: paraloss train --model resnet56_noshort --data digits --epochs 20 -o runs/r56n

    Args:
        model: Built-in name, file.py:callable or package.module:callable. Built-in are resnet20, 32, 44, 56, 110, resnet18,
            34, 50, 101, 152, wrn56_2, _4, _8, wrn110_2, _4, each also with _noshort; vgg9, densenet121, mlp.
        data: digits, mnist5k, cifar10, fashion-mnist, cifar100:DIR, npz:FILE or file.py:callable.
        output: Folder for the checkpoints epoch_000.pt … final.pt.
        model_arg: Option of the model as name=value; may be repeated.
        data_arg: Option of your own data callable as name=value; may be repeated.
        loss: cross_entropy, mse, softmax_mse or file.py:callable.
        epochs: Passes over the training data.
        lr: Learning rate; falls by ten at 50, 75 and 92 % of the epochs.
        batch_size: Samples a step.
        weight_decay: L2 penalty factor.
        momentum: Nesterov momentum.
        seed: Of the initial weights and the shuffles.
        device: cpu or cuda.
    """
    import torch

    from paraloss.compute import classes_of, load_checkpoint, load_data, load_model
    from paraloss.compute import train as train_model
    from paraloss.compute.inputs.user_code import parse_arguments
    from paraloss.compute.ranks.devices import rank_device
    from paraloss.progress import say

    _positive(epochs=epochs, lr=lr, batch_size=batch_size)
    model_arguments, data_arguments = parse_arguments(model_arg or []), parse_arguments(data_arg or [])
    splits = load_data(data, data_arguments)
    shape, classes = tuple(next(iter(splits.values())).inputs.shape[1:]), classes_of(splits)
    torch.manual_seed(seed)
    network = load_model(model, shape, classes, model_arguments)
    record = {
        "model": model,
        "model_args": model_arguments,
        "data": data,
        "data_args": data_arguments,
        "sample_shape": list(shape),
        "classes": classes,
    }
    final = train_model(
        network,
        splits,
        output,
        loss=loss,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        weight_decay=weight_decay,
        momentum=momentum,
        seed=seed,
        device=str(rank_device(device, None)),
        record=record,
    )
    results = load_checkpoint(final)[1]
    say(", ".join(f"{key} {value:.4g}" for key, value in results.items() if key.endswith(("_loss", "_acc"))))
    print(final)


def _positive(**values: float) -> None:
    from paraloss.errors import InputError

    for name, value in values.items():
        if not value > 0:
            raise InputError(f"--{name.replace('_', '-')} must be above zero, not {value}")
