"""A GPU that is not there: tensors that say they are on ``cuda:0`` while their numbers are on the CPU, and a record of what a
GPU would do with them.

Numbers are right, so that all of Paraloss runs, whatever it decides by looking at them. What differs between the two devices
is checked and counted: operators on tensors of both raise; waits of the host (numbers read back, copies between host and
device, shapes that depend on numbers), kernels, layouts and types of convolutions, and memory that is badly aligned.

Only for a CPU build of torch, and for a process of its own: such a build has no guard for CUDA devices, and is lent that of
the device ``meta``, which does nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import traceback
import unittest.mock as mock
from collections import Counter
from pathlib import Path

import torch
from reverse_mode import run_backward
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

import paraloss.compute

aten = torch.ops.aten
DEVICE = torch.device("cuda:0")  # with its number: a CPU build cannot look up the current one

_OURS = str(Path(paraloss.compute.__file__).resolve().parent)
_CROSSING = (aten._to_copy.default, aten.copy_.default)
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
_OF_UNKNOWN_SHAPE = (aten.nonzero.default, aten.masked_select.default, aten.equal.default, aten._unique2.default)
_CONVOLUTIONS = (aten.convolution.default, aten.convolution_backward.default)
_PRODUCTS = (*_CONVOLUTIONS, aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)
_FREE = ("aten::empty", "aten::detach", "aten::alias", "aten::lift_fresh")
_LOW = (torch.float16, torch.bfloat16)


class Cuda(torch.Tensor):
    """A tensor on the GPU that is not there; ``host`` has its numbers."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host, requires_grad=False):
        result = torch.Tensor._make_wrapper_subclass(
            cls, host.shape, host.stride(), host.storage_offset(), dtype=host.dtype, device=DEVICE, requires_grad=requires_grad
        )
        result.host = host
        return result

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # where no mode is: in autograd's threads
        return _run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):
        torch.Tensor.data.__set__(self, other)
        self.host = other.host

    def tolist(self):
        return self.cpu().tolist()

    def data_ptr(self):
        return self.host.data_ptr()

    def untyped_storage(self):
        return self.host.untyped_storage()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copied = Cuda(self.host.detach().clone(memory_format=torch.preserve_format))
            is_parameter = isinstance(self, nn.Parameter)
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    def __repr__(self, **_):
        return f"Cuda({self.host!r})"


class Record:
    """What a GPU would have done since ``clear``.

    Attributes:
        kernels: operator -> how many times.
        waits: (what, where) -> how many times the host would wait for the device.
        products: (kind, type of number, whether in TF32) of convolutions and matrix products.
        layouts: (inputs, weights, outputs) of convolutions of images.
        misaligned: products with an operand that does not begin at 16 bytes of its memory.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        self.kernels, self.waits, self.products, self.layouts, self.misaligned = (*(Counter() for _ in range(4)), 0)

    def wait(self, what):
        ours = [frame for frame in traceback.extract_stack() if str(Path(frame.filename).resolve()).startswith(_OURS)]
        self.waits[what, f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "elsewhere"] += 1


record = Record()


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # In inference mode composite operators arrive whole; a GPU runs their parts.
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd") and func._can_decompose():
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return _run(func, args, kwargs)


def _run(func, args, kwargs):
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    wanted = kwargs.get("device")
    ours = any(isinstance(tensor, Cuda) for tensor in given)
    onto = torch.device(wanted).type == "cuda" if wanted is not None else ours
    if func is aten.copy_.default:
        onto = isinstance(args[0], Cuda)
    _check_devices(func, args, given, ours)
    wrappers = {id(tensor.host): tensor for tensor in given if isinstance(tensor, Cuda)}
    host_args, host_kwargs = tree_map(lambda leaf: leaf.host if isinstance(leaf, Cuda) else leaf, (args, kwargs))
    if wanted is not None:
        host_kwargs["device"] = torch.device("cpu") if onto else wanted
        if func is aten._to_copy.default and ours is not onto and "memory_format" not in kwargs:
            host_kwargs["memory_format"] = torch.preserve_format
    with _disable_current_modes():
        result = _computed(func, host_args, host_kwargs)
    if func is aten._local_scalar_dense.default:
        if ours:
            record.wait("item()")
        return result
    if onto or ours:
        _count(func, args, kwargs, given, result, onto)
    if not onto:
        return result
    # A view of a tensor that was made outside inference mode is none of inference mode either.
    plain = func.is_view and not next(iter(wrappers.values())).is_inference()
    with torch.inference_mode(torch.is_inference_mode_enabled() and not plain):
        return tree_map(lambda leaf: _wrapped(leaf, wrappers), result)


def _wrapped(leaf, wrappers):
    """On the GPU; what was changed in place stays the same tensor."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return wrappers[id(leaf)] if id(leaf) in wrappers else Cuda(leaf)


def _computed(func, args, kwargs):
    """On the CPU; products of the small types in float32, rounded once, which is faster and what a GPU does."""
    if func in _PRODUCTS and args[0].dtype in _LOW:
        wide = tree_map(lambda leaf: leaf.float() if isinstance(leaf, torch.Tensor) else leaf, args)
        return tree_map(lambda leaf: leaf if leaf is None else leaf.to(args[0].dtype), func(*wide, **kwargs))
    return func(*args, **kwargs)


def _check_devices(func, args, given, ours):
    if not ours or func in _CROSSING or func.name().startswith("aten::set_"):
        return
    if func in _INDEXING:  # indices on the CPU are copied
        given = [tensor for tensor in tree_leaves((args[0], args[2:])) if isinstance(tensor, torch.Tensor)]
        if any(not isinstance(tensor, Cuda) for tensor in tree_leaves(args[1]) if isinstance(tensor, torch.Tensor)):
            record.wait("an index on the CPU")
    if any(not isinstance(tensor, Cuda) and tensor.ndim for tensor in given):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({func.name()})")


def _count(func, args, kwargs, given, result, onto):
    if not func.is_view and not func.name().startswith(_FREE):
        record.kernels[func.name()] += 1
    if func in _CROSSING and (func is aten.copy_.default or "device" in kwargs):
        source = args[1] if func is aten.copy_.default else args[0]
        if isinstance(source, Cuda) != onto and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
            record.wait(f"copy to {'cuda' if onto else 'cpu'}")
    masks = func in _INDEXING and any(getattr(leaf, "dtype", None) == torch.bool for leaf in tree_leaves(args[1]))
    if func in _OF_UNKNOWN_SHAPE or masks:
        record.wait(func.name())
    if func in _PRODUCTS:
        convolves = func in _CONVOLUTIONS
        record.products["convolution" if convolves else "matrix", str(given[0].dtype)[6:], _tf32(given[0], convolves)] += 1
        record.misaligned += any(t.storage_offset() * t.element_size() % 16 for t in given)
        if func is aten.convolution.default and given[0].ndim == 4:
            record.layouts[tuple(map(_layout, (given[0], given[1], result)))] += 1


def _tf32(tensor, convolves):
    if tensor.dtype != torch.float32:
        return False
    owner = torch.backends.cudnn.conv if convolves else torch.backends.cuda.matmul
    return owner.fp32_precision == "tf32"


def _layout(tensor):
    rows, channels = tensor.is_contiguous(), tensor.is_contiguous(memory_format=torch.channels_last)
    return "either" if rows and channels else "NHWC" if channels else "NCHW" if rows else "strided"


def install_guard():
    """Lend CUDA the device guard of ``meta``; without one, tensors that say they are on CUDA cannot be indexed."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    registry = (ctypes.c_void_p * 15).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    if not registry[1]:  # DeviceType::CUDA
        registry[1] = registry[14]  # DeviceType::Meta


def _apply(module, change, recurse=True):
    """``nn.Module._apply``, which would put a GPU's data into the CPU's own parameters; those that are tied stay so."""
    new = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if isinstance(parameter, Cuda):
                if id(parameter) not in new:
                    new[id(parameter)] = parameter
                    parameter.data = change(parameter.data)
            elif parameter is not None:
                if id(parameter) not in new:
                    new[id(parameter)] = nn.Parameter(change(parameter.detach()), requires_grad=parameter.requires_grad)
                part._parameters[name] = new[id(parameter)]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = change(buffer)
    return module


def _same(tensor, *_):
    return tensor


def _run_backward(outputs, *given, **options):
    """torch's own engine for what is on the CPU."""
    on_gpu = any(isinstance(tensor, Cuda) for tensor in outputs)
    return (run_backward if on_gpu else torch.autograd.graph._engine_run_backward)(outputs, *given, **options)


class _Nothing:
    def __init__(self, *args, **options): ...

    def __getattr__(self, name):
        return lambda *args, **options: None


class FakeCuda(contextlib.ExitStack):
    """Within this context there is a GPU. ``free``: its free memory in bytes, which may be changed."""

    def __init__(self, free=60 << 30):
        super().__init__()
        self.free, self.record = free, record

    def __enter__(self):
        super().__enter__()
        install_guard()
        record.clear()
        answers = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda device: None,
            "is_initialized": lambda: True,
            "_lazy_init": lambda: None,
            "mem_get_info": lambda device=None: (self.free, 80 << 30),
            "get_device_capability": lambda device=None: (9, 0),
            "get_device_name": lambda device=None: "fake H100",
            "is_bf16_supported": lambda *args, **options: True,
            "current_stream": lambda device=None: _Nothing(),
            "Stream": _Nothing,
            "stream": lambda stream: contextlib.nullcontext(),
            "synchronize": lambda device=None: None,
            "empty_cache": lambda: None,
            "manual_seed_all": lambda seed: None,
            "get_rng_state_all": lambda: [],
            "set_rng_state_all": lambda states: None,
            "is_current_stream_capturing": lambda: False,
        }
        for name, value in answers.items():
            self.enter_context(mock.patch.object(torch.cuda, name, value))
        for name in ("pin_memory", "record_stream"):
            self.enter_context(mock.patch.object(torch.Tensor, name, _same))
        self.enter_context(
            mock.patch("torch.amp.autocast_mode.torch.cuda.amp.common.amp_definitely_not_available", return_value=False)
        )
        self.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        self.enter_context(mock.patch("torch.autograd._engine_run_backward", _run_backward))
        for module in ("forward.graphs", "evaluate.on_samples"):  # graphs have tests of their own
            self.enter_context(mock.patch(f"paraloss.compute.{module}.can_record", return_value=False))
        self.enter_context(_Mode())
        return self
