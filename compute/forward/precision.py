"""The arithmetic of an evaluation: fp64, fp32, tf32, bf16 or fp16, and which of them may be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from paraloss.errors import InputError

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp64", "fp32", "tf32", "bf16", "fp16")
LOW: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, device: torch.device) -> None:
    """Check that ``device`` computes in ``precision``.

    Raises:
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
        # As fast as each other; the rounding of fp16 is an eighth of that of bf16, its range ends at 65,504.
        return ["fp16", "bf16", "tf32"] if capability >= (8, 0) else []
    return ["bf16"] if _has_bf16_units() else []


def own_precision(model: nn.Module) -> Precision:
    """The precision that ``model`` computes in by itself: the widest type of its parameters and buffers; fp32 without any."""
    types = {tensor.dtype for tensor in (*model.parameters(), *model.buffers())}
    if types & {torch.float64, torch.complex128}:
        return "fp64"
    if types & {torch.float32, torch.complex64} or not types & set(LOW.values()):
        return "fp32"
    return "bf16" if torch.bfloat16 in types else "fp16"


def rounding(precision: str) -> float:
    """Relative difference of a loss that another batch size, processor or number of ranks may bring."""
    return {"fp64": 1e-8, "fp32": 1e-4, "tf32": 1e-2}.get(precision, 5e-2)


def converts(model: nn.Module, precision: str) -> bool:
    """Whether ``precision`` requires other types of the model's tensors: float64, or float32 for a model of less."""
    return precision != own_precision(model) and (precision == "fp64" or own_precision(model) != "fp32")


def converted(model: nn.Module, precision: str) -> nn.Module:
    """``model``, its tensors converted in place where ``precision`` is not its own: to float64, else to float32."""
    if not converts(model, precision):
        return model
    real, complex_ = (torch.float64, torch.complex128) if precision == "fp64" else (torch.float32, torch.complex64)
    types = {True: complex_, False: real}
    moved: nn.Module = model._apply(lambda t: t.to(types[t.is_complex()]) if t.is_complex() or t.is_floating_point() else t)
    return moved


@contextmanager
def arithmetic(device: torch.device, precision: str, autocast: bool) -> Iterator[None]:
    """Convolutions and matrix products in ``precision``, everything that needs more in float32.

    Args:
        device: where.
        precision: fp32 on a GPU excludes tf32.
        autocast: run a model of float32 in a lower ``precision``; without it the types of the model's tensors decide.
    """
    with ExitStack() as stack:
        if device.type == "cuda":
            for owner, name, value in _switches(precision == "tf32"):
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
        if autocast:
            stack.enter_context(torch.autocast(device.type, LOW[precision]))
        yield


def _switches(tf32: bool) -> list[tuple[Any, str, Any]]:
    """(owner, name, value) of torch's switches for float32 on a GPU, and of cuDNN's search for the fastest kernels.

    torch 2.9 has new ones for TF32; once a user has set them, the old ones may not even be read.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    always: list[tuple[Any, str, Any]] = [(cudnn, "enabled", True), (cudnn, "benchmark", True)]
    if hasattr(products, "fp32_precision") and hasattr(cudnn, "conv") and hasattr(cudnn, "rnn"):
        value = "tf32" if tf32 else "ieee"
        return [*always, *((owner, "fp32_precision", value) for owner in (cudnn.conv, cudnn.rnn, products))]
    return [*always, (cudnn, "allow_tf32", tf32), (products, "allow_tf32", tf32)]


def _has_bf16_units() -> bool:
    mkldnn_bf16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None) or (lambda: False)
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None) or (lambda: False)
    return bool(mkldnn_bf16 and mkldnn_bf16()) and bool(native() or tiles())


def _runs_fp16_on_cpu() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)
    return bool(supported and supported())
