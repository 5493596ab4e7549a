"""``torch.compile``: whether it pays, and a check that it computes the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paraloss.compute.inputs.user_code import one_line
from paraloss.log import logger

_COMPILE_S = 60.0  # what torch.compile takes
_COMPILED_GAIN = 0.3  # share of the time that it may save on a GPU


def may_pay(seconds: float) -> bool:
    """Whether compiling can earn its own time on a GPU within ``seconds`` of evaluation."""
    return _COMPILED_GAIN * seconds >= 2 * _COMPILE_S


def compiled(
    module: nn.Module, inputs: Tensor, tolerance: float, recorded: bool = False, moves: Sequence[Callable[[], None]] = ()
) -> Any | None:
    """Compile ``module`` for batches like ``inputs``; on a GPU every kernel is the fastest of several.

    Weights are read at each call: they move, and a compiler that freezes them would be wrong at all points but one.

    Args:
        module: the forward pass, in evaluation mode.
        inputs: one batch, on the device.
        tolerance: accepted difference of an output, relative to the largest output.
        recorded: whether the caller records CUDA graphs; else the compiler does.
        moves: each puts the weights elsewhere. Outputs are compared after each: the first call compiles, and one that froze
            the weights is right there.

    Returns:
        The compiled module; None where compiling fails or the outputs differ, after a line that says so: evaluation
        continues without.

    Raises:
        torch.OutOfMemoryError: the batch is too large.
    """
    mode = "default"
    if inputs.device.type == "cuda":
        mode = "max-autotune-no-cudagraphs" if recorded else "max-autotune"
    try:
        result = torch.compile(module, mode=mode, dynamic=False)
        result(inputs)
        for move in moves:
            move()
            if not alike(module(inputs).clone(), result(inputs), tolerance):
                logger.warning("torch.compile: its outputs differ from the model's own; evaluation continues without it")
                return None
        return result
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no compiler, or a model that it cannot take
        logger.warning(f"torch.compile failed ({one_line(error)[:160]}); evaluation continues without it")
        return None


def alike(expected: Tensor, found: Tensor, tolerance: float) -> bool:
    """Whether two outputs differ by at most ``tolerance`` of the largest finite one; NaN equals NaN."""
    finite = expected[expected.isfinite()].abs()
    largest = float(finite.max()) if len(finite) else 0.0
    return torch.allclose(expected, found, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
