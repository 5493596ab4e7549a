"""Shapes of outputs and targets: where the classes are, what would broadcast, which targets are no classes."""

from __future__ import annotations

from torch import Tensor

from paraloss.errors import InputError


def class_axis(outputs: Tensor, targets: Tensor) -> int | None:
    """The axis of (n, …) outputs that holds the classes of these targets, 1 or the last; None where they are no classes.

    Two axes of the same length are distinguished by ``paraloss.compute.inputs.metrics.Accuracy``; here axis 1 is taken then.
    """
    if targets.dtype.is_floating_point or outputs.ndim != targets.ndim + 1 or outputs.shape[0] != targets.shape[0]:
        return None
    if outputs.shape[2:] == targets.shape[1:] and outputs.shape[1] > 1:
        return 1
    return outputs.ndim - 1 if outputs.shape[:-1] == targets.shape and outputs.shape[-1] > 1 else None


def column_as_row(outputs: Tensor, targets: Tensor) -> Tensor:
    """Class targets (n, 1, …) of outputs (n, classes, …) as (n, …)."""
    column = not targets.dtype.is_floating_point and targets.ndim == outputs.ndim > 1 and targets.shape[1] == 1
    return targets.squeeze(1) if column and outputs.shape[1] > 1 else targets


def shaped_like(targets: Tensor, outputs: Tensor) -> Tensor:
    """Targets in the shape of the outputs, where they differ by axes of length 1 or one of them is flat.

    Raises:
        InputError: they would broadcast.
    """
    if targets.shape == outputs.shape:
        return targets
    bare = [[side for side in tensor.shape if side != 1] for tensor in (targets, outputs)]
    flat = targets.numel() == outputs.numel() and len(targets) == len(outputs) and min(targets.ndim, outputs.ndim) <= 2
    if bare[0] != bare[1] and not flat:
        raise InputError(
            f"outputs are {tuple(outputs.shape)} and targets {tuple(targets.shape)}, which would broadcast; give them one shape"
        )
    return targets.reshape(outputs.shape)


def check_classes(targets: Tensor, outputs: Tensor, split: str, ignored: int | None) -> None:
    classes = outputs.shape[1] if outputs.ndim > 1 else 1
    counting = targets if ignored is None else targets[targets != ignored]
    if not counting.numel():
        raise InputError(f"every target of {split} is {ignored}, so that none counts")
    lowest, highest = int(counting.min()), int(counting.max())
    if lowest < 0 or highest >= classes:
        raise InputError(
            f"the {split} targets are classes {lowest} to {highest}, but the model has {classes} outputs; "
            "classes are numbered from 0"
        )
