"""A folded forward pass that was compared with the plain one all around the center."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from paraloss.compute.forward.agreement import agrees, other_statistics, probe_points
from paraloss.compute.forward.folding import FoldedModel

_PROBED_ROWS = 4  # samples that are compared at every probed point
_OTHER = "its trace computes something else"


def checked_fold(
    model: nn.Module,
    inputs: Tensor,
    move_to: Callable[[Sequence[float]], None],
    axes: int,
    exactly: Callable[[], AbstractContextManager[None]],
    low: tuple[torch.dtype, Callable[[], AbstractContextManager[None]]] | None,
    fuses: bool = True,
) -> tuple[FoldedModel | None, str]:
    """Fold and fuse ``model`` where that changes nothing.

    Args:
        model: in evaluation mode.
        inputs: a few samples.
        move_to: puts ``model`` at coordinates.
        axes: number of coordinates.
        exactly: context of the arithmetic in which outputs are compared.
        low: type of the folded weights, and context in which the folded model must run; None keeps float32.
        fuses: fuse ReLUs, too.

    Returns:
        The folded model, or None and the reason why there is none. The model ends at the center.
    """
    for fused in (True, False) if fuses else (False,):
        folded = FoldedModel(model, fused)
        if folded.module is model:
            return None, folded.reason
        try:
            with exactly():
                right = _agrees_around(model, folded, inputs, move_to, axes)
            if right and low is not None:
                dtype, running = low
                folded.use(dtype)
                folded.refresh()
                with running():
                    folded.module(inputs)
        except RuntimeError:  # an operator that this build of torch lacks, in this precision
            right = False
        if right:
            return folded, folded.reason
    return None, _OTHER


def _agrees_around(
    model: nn.Module, folded: FoldedModel, inputs: Tensor, move_to: Callable[[Sequence[float]], None], axes: int
) -> bool:
    def agrees_at(point: Sequence[float]) -> bool:
        move_to(point)
        folded.refresh()
        return agrees(model, folded.module, inputs[:_PROBED_ROWS])

    right = all(agrees_at(point) for point in probe_points(axes))
    with other_statistics(model):
        folded.refresh()
        right = right and agrees(model, folded.module, inputs)
    move_to([0.0] * axes)
    return right
