"""Convolution, bias, addition and ReLU as one pass over memory on an NVIDIA GPU, where that is faster.

cuDNN's plain convolution adds its bias in a pass of its own, so that a folded batch norm saves nothing; its fused operators
write the output once. They are not always faster (pytorch issue 68506: 17 times slower for a 7×7 convolution), not there for
every type and shape, and their first versions were wrong for some. So each is compared with the plain layer and timed
against it, once for each geometry, on the numbers that it gets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from paraloss.compute.forward.fusing import FusedConvolution
from paraloss.compute.forward.manner import same

Key = tuple[object, ...]

_PLAIN_GAIN = 0.97  # the plain layer is taken where its time is below this share of the fused one's
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
_TF32_TOLERANCE = 3e-3
_RUNS = 5
_faster: dict[Key, bool] = {}  # geometry -> whether the fused operator is right and faster; layers of one geometry share it


def has_operators() -> bool:
    """Whether this torch has cuDNN with the fused operators."""
    return torch.backends.cudnn.is_available() and hasattr(torch, "cudnn_convolution_add_relu")


class CudnnConvolution(FusedConvolution):
    """relu(convolution(x)) or relu(convolution(x) + other), by cuDNN's fused operator or by plain ones, whichever is faster.

    The fused operator is tried for 4-d inputs and outputs in channels_last, both of the type ``dtype`` (fp32 with or without
    TF32, bf16, fp16), any stride, padding, dilation and number of groups, and for another summand of the output's own shape.
    """

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        layer, dtype = self.layer, self.dtype
        x, weight = x.to(dtype), layer.weight.to(dtype)
        bias = None if layer.bias is None else layer.bias.to(dtype)
        other = None if other is None else other.to(dtype)
        given = (x, weight, bias, other)
        if torch.compiler.is_compiling():  # the compiler fuses what follows a convolution by itself
            return self._plain(*given)
        return self._fused(*given) if self._is_faster(*given) else self._plain(*given)

    def _fused(self, x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> Tensor:
        geometry = (self.layer.stride, self.layer.padding, self.layer.dilation, self.layer.groups)
        operators = cast(Any, torch)
        if other is None:
            return cast(Tensor, operators.cudnn_convolution_relu(x, weight, bias, *geometry))
        return cast(Tensor, operators.cudnn_convolution_add_relu(x, weight, other, 1.0, bias, *geometry))

    def _plain(self, x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> Tensor:
        layer = self.layer
        outputs = F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[arg-type]
        return F.relu_(outputs if other is None else outputs + other)

    def _shows_nan(self, x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> bool:
        """Whether what is not a number stays so: some ReLUs make 0 of it."""
        blank = torch.full_like(x[:1], float("nan"))
        try:
            return bool(self._fused(blank, weight, bias, None if other is None else other[:1]).isnan().all())
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # no such operator
            return False

    def _is_faster(self, x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> bool:
        layer = self.layer
        key: Key = (
            x.device, x.dtype, _uses_tf32(), tuple(x.shape[1:]), len(x).bit_length(), tuple(weight.shape), bias is None,
            other is None, layer.stride, layer.padding, layer.dilation, layer.groups,
            x.is_contiguous(memory_format=torch.channels_last),
        )  # fmt: skip
        if key not in _faster:
            if _recording():  # nothing can be timed while a graph is recorded
                return False
            # fp16 overflows easily; the larger types are guarded by the plain model on a few samples, see ``Evaluator``
            _faster[key] = (x.dtype != torch.float16 or self._shows_nan(x, weight, bias, other)) and fused_pays(
                lambda: self._fused(x, weight, bias, other),
                lambda: self._plain(x, weight, bias, other),
                _TF32_TOLERANCE if x.dtype == torch.float32 and _uses_tf32() else _TOLERANCE.get(x.dtype, 0.0),
            )
        return _faster[key]


def fused_pays(fused: Callable[[], Tensor], plain: Callable[[], Tensor], tolerance: float) -> bool:
    """Whether ``fused`` gives what ``plain`` gives, wherever its output lies, and takes no longer.

    Args:
        fused: one operator, from inputs to a new tensor.
        plain: the same by plain operators.
        tolerance: accepted difference, relative to the largest output.

    The operator without a summand is given its own output, times zero, as one; where that is read, what was in this memory
    before shows. So the memory is filled with NaN first.
    """
    expected = plain()
    if expected.ndim != 4 or not expected.is_contiguous(memory_format=torch.channels_last):
        return False
    try:
        for _ in range(2):
            poison = torch.full_like(expected, float("nan"))
            del poison
            found = fused()
            if found.dtype != expected.dtype or not same(expected, found, tolerance):
                return False
            del found
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # cuDNN has no such operator for this type or shape
        return False
    return not shortest(plain, expected.device) < _PLAIN_GAIN * shortest(fused, expected.device)


def shortest(work: Callable[[], object], device: torch.device) -> float:
    """Shortest of a few times of ``work`` in seconds, on the device's own clock."""
    times: list[float] = []
    for _ in range(_RUNS):
        if device.type != "cuda":
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()  # type: ignore[no-untyped-call]
        work()
        end.record()  # type: ignore[no-untyped-call]
        end.synchronize()  # type: ignore[no-untyped-call]
        times.append(begin.elapsed_time(end) / 1000)  # type: ignore[no-untyped-call]
    return min(times)


def _uses_tf32() -> bool:
    """Whether convolutions of float32 are computed in TF32 just now."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)  # torch 2.9 and later; the old switch may raise there
    return bool(convolutions.fp32_precision == "tf32" if convolutions is not None else torch.backends.cudnn.allow_tf32)


def _recording() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
