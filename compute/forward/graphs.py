"""A point as one CUDA graph: its kernels are recorded once and launched together at every later point.

A ResNet-56 takes some hundred kernels for each batch, a small network a few of some microseconds; launched one by one they
cost the host more time than the GPU. A graph reads and writes the same memory at each replay, so that it follows whatever
moves the weights in place.

What cannot be recorded runs kernel by kernel, as before: models that read numbers back (control flow that depends on data),
data that are streamed, random numbers. A graph that differs from the kernels one by one at any of three points is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from paraloss.compute.inputs.user_code import one_line
from paraloss.log import logger

_POINTS = 3  # that are evaluated kernel by kernel, and then compared
_SAME = 1e-5  # relative difference of a sum: the kernels are the same


class NotRecorded(Exception):
    """The work cannot be a graph; the message says why."""


class Points:
    """The sums at points: kernel by kernel for the first three, then by a graph that gave the same at those.

    Args:
        move_to: puts the model at coordinates, in place.
        add_up: the sums where the model is: new tensors from tensors that stay where they are.
        device: where the work runs.
        why_not: why the work is never recorded; empty where it may be.
        report: called with one line where recording fails.

    Attributes:
        recorded: whether points are replayed from a graph.
        why_not: why they are not, and will not be; empty otherwise.
    """

    def __init__(
        self,
        move_to: Callable[[Sequence[float]], None],
        add_up: Callable[[], Tensor],
        device: torch.device,
        why_not: str = "",
        report: Callable[[str], None] = logger.info,
    ) -> None:
        self._move_to, self._add_up, self._device, self._report = move_to, add_up, device, report
        self.why_not = why_not
        self._seen: dict[tuple[float, ...], Tensor] = {}
        self._replay: Callable[[], Tensor] | None = None

    @property
    def recorded(self) -> bool:
        """Whether points are replayed from a graph."""
        return self._replay is not None

    def __call__(self, coordinates: Sequence[float]) -> Tensor:
        """The sums at ``coordinates``, where the model then is."""
        self._move_to(coordinates)
        if self._replay is not None:
            return self._replay()
        sums = self._add_up()
        if not self.why_not:
            self._seen[tuple(map(float, coordinates))] = sums.clone()
            if len(self._seen) == _POINTS:
                self._record()
                self._seen.clear()
                self._move_to(coordinates)  # recording was elsewhere, and may have ended half-way
                return self._add_up() if self._replay is None else self._replay()
        return sums

    def _record(self) -> None:
        """Record a graph and compare it at the points that were seen."""
        try:
            replay = record(self._add_up, self._device)
            for coordinates, expected in self._seen.items():
                self._move_to(coordinates)
                if not torch.allclose(replay(), expected, rtol=_SAME, atol=0.0, equal_nan=True):
                    place = ", ".join(f"{step:g}" for step in coordinates)
                    raise NotRecorded(f"its sums differ from those without at ({place})")
            self._replay = replay
        except (NotRecorded, RuntimeError) as error:
            self.why_not = one_line(error)[:200]
        if self.why_not:
            self._report(f"points run without a CUDA graph: {self.why_not}")


def can_record(device: torch.device) -> bool:
    """Whether ``device`` has graphs of kernels."""
    return device.type == "cuda"


def record(work: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Record the kernels of ``work``; the result launches them again and returns a copy of what they wrote.

    Args:
        work: reads tensors that stay where they are, and has run before: kernels are chosen in the first runs.
        device: where it runs.

    Raises:
        NotRecorded: ``work`` waits for the device, or cannot be recorded.
        torch.OutOfMemoryError: the graph's own memory is not there.
    """
    current, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        _check_waits(work)
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            result = work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NotRecorded(one_line(error)[:200]) from error

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


def launched_together(work: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """``work`` as a graph where that is possible, else ``work`` itself; it runs once before."""
    work()
    if not can_record(device):
        return work
    try:
        return record(work, device)
    except NotRecorded:
        return work


def _check_waits(work: Callable[[], Tensor]) -> None:
    """Run ``work`` once, refusing to wait for the device: a recording that fails half-way may leave torch unusable."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise NotRecorded(f"the model, the loss or a metric waits for the device ({one_line(error)[:120]})") from error
    finally:
        torch.cuda.set_sync_debug_mode(before)
