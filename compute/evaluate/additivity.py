"""Whether a loss may be summed over batches: measured, not assumed.

The mean of the batches' means is the mean over all samples only for losses of single samples. Token means over unequal
padding, class weights, Dice, contrastive losses and losses that broadcast are none. What a whole split loses is compared
with what its parts add up to, for several ways of cutting it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from paraloss.compute.forward.copying import copy_model
from paraloss.compute.forward.manner import same
from paraloss.compute.inputs.criterion import Criterion
from paraloss.compute.inputs.losses import Losses
from paraloss.errors import InputError

TOLERANCE = 3e-6
"""Of the loss: float32 sums in another order differ by less, and losses that do not add up by more."""
_MIXING = 1e-4  # of the largest output
_SHARE_FOR_ACTIVATIONS = 0.5  # of the free memory


def adds_up(whole: Losses, parts: Iterable[Losses]) -> bool:
    """Whether ``parts`` amount to ``whole``; False where the whole is not finite, because nothing is known then."""
    totals, counts, size = 0.0, 0.0, 0.0
    for part in parts:
        totals += float(part.total)
        counts += float(part.count)
        size += abs(float(part.total))
    mean = float(whole.mean)
    if not (math.isfinite(mean) and counts):
        return False
    return abs(totals / counts - mean) <= TOLERANCE * max(abs(mean), size / counts)


def outputs_add_up(criterion: Criterion, outputs: Tensor, targets: Tensor, sizes: Sequence[int]) -> bool:
    """Whether the losses of batches of each of ``sizes`` add up to the loss of all ``outputs`` (n, …)."""
    whole = criterion.losses(outputs, targets)
    return all(
        adds_up(whole, (criterion.losses(o, t) for o, t in zip(outputs.split(size), targets.split(size), strict=True)))
        for size in dict.fromkeys(max(1, size) for size in sizes)
    )


def may_broadcast(criterion: Criterion, outputs: Tensor, targets: Tensor) -> bool:
    """Whether a user's loss gets numbers to compare in two different shapes."""
    differ = outputs.shape != targets.shape and (targets.dtype.is_floating_point or outputs.numel() == targets.numel())
    return criterion.additive is None and differ


def check_broadcasting(criterion: Criterion, outputs: Tensor, targets: Tensor) -> None:
    """Check that a batch loses what its samples lose one by one, where ``may_broadcast``.

    Args:
        criterion: the loss.
        outputs: (n, …) of a few samples.
        targets: (n, …) the targets of these samples.

    Raises:
        InputError: it does not, as where (n, 1) broadcasts against (n,) to (n, n).
    """
    finite = bool(criterion.losses(outputs, targets).mean.isfinite())
    if len(outputs) > 1 and finite and not outputs_add_up(criterion, outputs, targets, [1]):
        raise InputError(
            f"the loss of {len(outputs)} samples is not the mean of their losses one by one: outputs "
            f"{tuple(outputs.shape)} and targets {tuple(targets.shape)} broadcast; give them one shape, "
            "or return a pair (sum, count)"
        )


def needs_one_batch(model: nn.Module, inputs: Tensor, samples: int, free: int) -> bool:
    """Whether all samples must go through the model as one batch.

    Args:
        model: the plain model, which draws no random numbers.
        inputs: (n, …) of a few samples, on the device.
        samples: number of all.
        free: bytes of memory.

    Raises:
        InputError: they must, and do not fit.
    """
    if not _mixes_samples(model, inputs):
        return False
    if activation_bytes(model, inputs) * samples / len(inputs) > _SHARE_FOR_ACTIVATIONS * free:
        raise InputError(
            "the model's outputs of a sample depend on the other samples of its batch (batch norm without running "
            f"statistics?), and {samples} samples are too many for one batch; take fewer with {{samples}}",
            arguments=("samples",),
        )
    return True


def _mixes_samples(model: nn.Module, inputs: Tensor) -> bool:
    """Whether the outputs of a sample depend on the other samples of its batch, as with batch norm without statistics.

    Where they seem to, float64 decides: batches of another size are rounded in another way.
    """
    if not _differ_in_parts(model, inputs, _MIXING):
        return False
    try:
        return _differ_in_parts(copy_model(model).double(), inputs.double() if inputs.is_floating_point() else inputs, 1e-9)
    except Exception:  # a model that insists on its own types
        return True


def _differ_in_parts(run: Callable[[Tensor], Tensor], inputs: Tensor, tolerance: float) -> bool:
    rows = len(inputs)
    if rows < 2:
        return False
    whole = run(inputs)
    for size in dict.fromkeys((-(-rows // 2), max(1, rows // 3))):
        try:
            parts = torch.cat([run(part) for part in inputs.split(size)])
        except RuntimeError:  # some models want a batch of a certain size
            return True
        if not same(whole, parts, tolerance):
            return True
    return False


def activation_bytes(model: nn.Module, inputs: Tensor) -> int:
    """Bytes that the outputs of all layers take for ``inputs``: what a forward pass needs at most."""
    found = 0

    def add(_: nn.Module, __: object, outputs: object) -> None:
        nonlocal found
        if isinstance(outputs, Tensor):
            found += outputs.numel() * outputs.element_size()

    handles = [layer.register_forward_hook(add) for layer in model.modules()]
    try:
        model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
