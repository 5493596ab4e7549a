"""What the machine itself can do: its largest matrix-product rate, and on a GPU its copy bandwidth."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F


def gemm_rate(dtype: torch.dtype, device: str = "cpu", seconds: float = 1.0, sizes: tuple[int, ...] | None = None) -> float:
    """Largest floating-point rate (1/s) of a square product, through BLAS or, as a 1×1 convolution, through oneDNN."""
    best = 0.0
    for size in sizes or ((1024, 2048, 4096) if device == "cpu" else (4096, 8192)):
        a, b = (torch.randn(size, size).to(device, dtype) for _ in range(2))
        best = max(best, 2 * size**3 / _shortest(lambda a=a, b=b: a @ b, device, seconds / 3))
    if device == "cpu" and sizes is None:
        for channels, side, batch in ((256, 32, 16), (512, 32, 8)):
            image = torch.randn(batch, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
            weight = torch.randn(channels, channels, 1, 1).to(dtype).contiguous(memory_format=torch.channels_last)
            work = 2 * batch * side**2 * channels**2
            best = max(best, work / _shortest(lambda i=image, w=weight: F.conv2d(i, w), device, seconds / 3))
    return best


def copy_bandwidth(device: str, size: int = 2**30) -> float:
    """Bytes read plus bytes written per second, of a copy of ``size`` bytes on the device."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _shortest(lambda: target.copy_(source), device, 1.0)


def convolution_work(model: torch.nn.Module, sample: torch.Tensor) -> float:
    """Floating-point operations of a forward pass of one sample, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(sample)
    return float(counter.get_total_flops())


def _shortest(work, device: str, seconds: float) -> float:  # type: ignore[no-untyped-def]
    times = []
    with torch.inference_mode():
        work()
        until = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < until:
            began = time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
    return min(times)
