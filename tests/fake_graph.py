"""CUDA graphs without a GPU: what torch runs while one is recorded is kept, operator by operator, and run again into the
same memory, with the Python numbers of that moment.
"""

from __future__ import annotations

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)  # inference mode gives the second


class _Recording(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in _READING:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class _NoWaits(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in _READING:
            raise RuntimeError("called a synchronizing CUDA operation")
        return func(*args, **(kwargs or {}))


class FakeCudaGraphs:
    """Put on a CPU by ``install``; counts recordings and replays."""

    def __init__(self):
        self.recorded = self.replayed = 0
        self.fails = self.stale = False  # recording raises; replays leave what is there
        self._mode, self._watch = "default", contextlib.ExitStack()

    def install(self, monkeypatch):
        import paraloss.compute.evaluate.on_samples as on_samples
        import paraloss.compute.forward.graphs as graphs

        for owner in (on_samples, graphs):
            monkeypatch.setattr(owner, "can_record", lambda device: True)
        for name, value in {
            "CUDAGraph": lambda: _Graph(self),
            "graph": self._record,
            "Stream": lambda device=None: _Stream(),
            "current_stream": lambda device=None: _Stream(),
            "stream": lambda stream: contextlib.nullcontext(),
            "get_sync_debug_mode": lambda: self._mode,
            "set_sync_debug_mode": self._set_mode,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        return self

    @contextlib.contextmanager
    def _record(self, graph, stream=None, capture_error_mode="global"):
        if self.fails:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        recording = _Recording()
        with recording:
            yield
        graph.calls = recording.calls
        self.recorded += 1

    def _set_mode(self, mode):
        self._watch.close()
        self._mode = mode
        if mode == "error":
            self._watch.enter_context(_NoWaits())


class _Graph:
    def __init__(self, fake):
        self._fake, self.calls = fake, []

    def replay(self):
        self._fake.replayed += 1
        if self._fake.stale:
            return
        with torch.inference_mode():
            for func, args, kwargs, out in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Stream:
    def wait_stream(self, other):
        pass
