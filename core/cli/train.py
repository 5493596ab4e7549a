"""``paraloss train``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.cli.groups import INPUT, OUTPUT, Training
from paraloss.compute.options.runs import TrainOptions


def train(
    *,
    model: Annotated[str, INPUT] = "resnet20",
    model_arg: Annotated[list[str] | None, INPUT, Parameter(negative="")] = None,
    data: Annotated[str, INPUT] = "digits",
    data_arg: Annotated[list[str] | None, INPUT, Parameter(negative="")] = None,
    loss: Annotated[str, INPUT] = "cross_entropy",
    training: Training = TrainOptions(),
    output: Annotated[Path, OUTPUT],
) -> None:
    """Train a model with SGD, one checkpoint per epoch; the same command finishes an interrupted run.

    Example: paraloss train --model resnet56_noshort --data digits --epochs 20 -o runs/r56n
    CIFAR-10: paraloss train --model resnet20 --data cifar10 --recipe cifar --precision auto --epochs 30 -o runs/r20

    Args:
        model: Built-in name, file.py:callable or package.module:callable. Built-in are resnet20, 32, 44, 56, 110, resnet18,
            34, 50, 101, 152, wrn56_2, _4, _8, wrn110_2, _4, each also with _noshort; vgg9, densenet121, mlp.
        model_arg: Option of the model as name=value; may be repeated.
        data: digits, mnist5k, cifar10, mnist, fashion-mnist, cifar100:DIR, npz:FILE or file.py:callable.
        data_arg: Option of your own data callable as name=value; may be repeated.
        loss: cross_entropy, mse, softmax_mse or file.py:callable.
        output: Folder for the checkpoints epoch_000.pt … final.pt.
    """
    import torch

    from paraloss.compute import classes_of, load_checkpoint, load_data, load_model
    from paraloss.compute import train as train_model
    from paraloss.compute.inputs.user_code import parse_arguments
    from paraloss.log import logger

    model_arguments, data_arguments = parse_arguments(model_arg or []), parse_arguments(data_arg or [])
    splits = load_data(data, data_arguments)
    shape, classes = tuple(next(iter(splits.values())).inputs.shape[1:]), classes_of(splits)
    torch.manual_seed(training.seed)
    network = load_model(model, shape, classes, model_arguments)
    record = {
        "model": model,
        "model_args": model_arguments,
        "data": data,
        "data_args": data_arguments,
        "sample_shape": list(shape),
        "classes": classes,
    }
    final = train_model(network, splits, output, training, loss=loss, record=record)
    results = load_checkpoint(final)[1]
    logger.info(", ".join(f"{key} {value:.4g}" for key, value in results.items() if key.endswith(("_loss", "_acc"))))
    print(final)
