"""The arithmetic of an evaluation: fp32, tf32, bf16 or fp16, and which of them may be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch

from paraloss.errors import InputError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
LOW: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, device: torch.device) -> None:
    """Raises:
    InputError: there is no such precision, or not on this device.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision '{precision}'; there are auto, {', '.join(PRECISIONS)}")
    if precision == "tf32" and device.type != "cuda":
        raise InputError("precision tf32 is of NVIDIA GPUs; on a CPU use fp32, bf16 or auto")
    if precision == "fp16" and device.type == "cpu" and not _runs_fp16_on_cpu():
        raise InputError("precision fp16 does not run on this CPU; use bf16, fp32 or auto")


def faster_precisions(device: torch.device) -> list[Precision]:
    """What ``device`` computes faster than fp32 in hardware, the fastest first."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return ["bf16", "tf32"] if capability >= (8, 0) else []
    return ["bf16"] if _has_bf16_units() else []


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Inference in ``precision``: convolutions and matrix products in it, everything that needs more in float32."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            tf32 = precision == "tf32"
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32))
            before = torch.backends.cuda.matmul.allow_tf32
            stack.callback(setattr, torch.backends.cuda.matmul, "allow_tf32", before)
            torch.backends.cuda.matmul.allow_tf32 = tf32
        if precision in LOW:
            stack.enter_context(torch.autocast(device.type, LOW[precision]))
        yield


def _has_bf16_units() -> bool:
    mkldnn_bf16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None) or (lambda: False)
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None) or (lambda: False)
    return bool(mkldnn_bf16 and mkldnn_bf16()) and bool(native() or tiles())


def _runs_fp16_on_cpu() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)
    return bool(supported and supported())
