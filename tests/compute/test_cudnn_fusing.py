"""Which of two ways a convolution with its ReLU goes on a GPU: by injected times, and operators written on the CPU."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_graphs import CRITERION, POINTS, case, plain_loss
from torch import nn

import paraloss.compute.forward.cudnn_fusing as cudnn
from paraloss.compute import Evaluator
from paraloss.compute.forward import folding
from paraloss.compute.forward.cudnn_fusing import CudnnConvolution


class FakeCudnn:
    """The two operators, and a clock that gives the fused ones ``fused`` seconds and the plain ones ``plain``."""

    def __init__(self, monkeypatch):
        self.calls, self.timed, self.fused, self.plain, self.wrong = 0, 0, 1.0, 2.0, ""
        monkeypatch.setattr(torch, "cudnn_convolution_relu", self._relu)
        monkeypatch.setattr(torch, "cudnn_convolution_add_relu", self._add_relu)
        monkeypatch.setattr(cudnn, "shortest", self._shortest)
        monkeypatch.setattr(cudnn, "_faster", {})

    def _relu(self, x, weight, bias, stride, padding, dilation, groups):
        return self._result(F.relu(F.conv2d(x, weight, bias, stride, padding, dilation, groups)))

    def _add_relu(self, x, weight, z, alpha, bias, stride, padding, dilation, groups):
        outputs = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        if outputs.shape != z.shape:
            raise RuntimeError("CUDNN_STATUS_BAD_PARAM")
        return self._result(F.relu(outputs + alpha * z))

    def _result(self, outputs):
        self.calls += 1
        if self.wrong == "raises":
            raise RuntimeError("FIND was unable to find an engine to execute this computation")
        if self.wrong == "memory":
            raise torch.OutOfMemoryError
        return {"": outputs, "numbers": outputs * 1.1, "reads its output": outputs * float("nan")}[self.wrong]

    def _shortest(self, work, device):
        self.timed += 1
        before = self.calls
        work()
        return self.fused if self.calls > before else self.plain


@pytest.fixture
def fake(monkeypatch):
    return FakeCudnn(monkeypatch)


def layer_and_input(**geometry):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, **geometry).eval().requires_grad_(False)
    x = torch.randn(5, 4, 9, 9).contiguous(memory_format=torch.channels_last)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer, x


GEOMETRIES = [{}, {"padding": 1}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"bias": False}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("geometry", "added"), list(itertools.product(GEOMETRIES, [False, True])))
def test_both_ways_give_relu_of_the_convolution(geometry, added, dtype, fake):
    layer, x = layer_and_input(**geometry)
    other = torch.randn_like(layer(x)) if added else None
    expected = F.relu(layer.double()(x.double()) + (other.double() if added else 0))
    layer.float()
    for fake.fused, fake.plain in ((1.0, 2.0), (17.0, 1.0)):
        cudnn._faster.clear()
        fused = CudnnConvolution(layer)
        fused.dtype = dtype
        found = fused(x) if other is None else fused(x, other)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=3e-2, atol=0.03 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize(
    ("fused", "plain", "taken"), [(1.0, 2.0, True), (17.0, 1.0, False), (1.0, 1.0, True), (1.0, 0.9, False)]
)
def test_the_faster_way_is_kept_and_found_once_for_each_geometry(fused, plain, taken, fake):
    fake.fused, fake.plain = fused, plain
    layer, x = layer_and_input(padding=1)
    first, second = CudnnConvolution(layer), CudnnConvolution(layer)
    first(x)
    assert fake.timed == 2
    before = fake.calls
    for module in (first, second, first):  # another layer of the same geometry shares what was found
        module(x)
    assert (fake.calls - before, fake.timed) == (3 * taken, 2)
    first(x[:, :, :7])
    assert fake.timed == 4  # another shape is another question
    first(torch.cat([x] * 8).contiguous(memory_format=torch.channels_last))
    assert fake.timed == 6
    first(x[:4].contiguous(memory_format=torch.channels_last))  # about as many samples is not
    assert fake.timed == 6


@pytest.mark.parametrize("wrong", ["numbers", "reads its output", "raises"])
def test_an_operator_that_is_wrong_or_missing_is_never_used(wrong, fake):
    layer, x = layer_and_input()
    fake.wrong = wrong
    module = CudnnConvolution(layer)
    for _ in range(2):
        torch.testing.assert_close(module(x), F.relu(layer(x)))
    assert fake.timed == 0


def test_running_out_of_memory_is_no_verdict(fake):
    layer, x = layer_and_input()
    fake.wrong = "memory"
    module = CudnnConvolution(layer)
    with pytest.raises(torch.OutOfMemoryError):
        module(x)
    fake.wrong = ""
    module(x)
    assert fake.timed == 2


def test_images_in_rows_and_other_summands_go_the_plain_way(fake):
    layer, x = layer_and_input()
    layer.weight.data = layer.weight.data.contiguous()
    rows, other = x.contiguous(), torch.randn(1, 8, 1, 1)
    module = CudnnConvolution(layer)
    torch.testing.assert_close(module(rows), F.relu(layer(rows)))
    torch.testing.assert_close(module(x, other), F.relu(layer(x) + other))
    assert fake.timed == 0


@pytest.mark.parametrize(("fused", "plain"), [(1.0, 2.0), (2.0, 1.0)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_residual_network_equals_float64_either_way(precision, fused, plain, fake, monkeypatch):
    monkeypatch.setattr(folding, "_fused_layer", lambda device: CudnnConvolution)
    fake.fused, fake.plain = fused, plain
    model, split, directions = case()
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, batch_size=32, precision=precision)
    assert (evaluator.folded, evaluator.fused) == (21, 19)
    for point in POINTS[:3]:
        expected = plain_loss(model, directions, point, split)
        assert evaluator(point)[0] == pytest.approx(expected, rel=1e-5 if precision == "fp32" else 0.05)
    assert fake.timed > 0
    before = fake.calls
    evaluator(POINTS[3])
    assert fake.calls - before == (3 * 19 if fused < plain else 0)  # three batches


@pytest.mark.parametrize("kind", [CudnnConvolution, folding.FusedConvolution])
def test_a_compiler_gets_the_whole_network_as_one_graph(kind, fake, monkeypatch):
    monkeypatch.setattr(folding, "_fused_layer", lambda device: kind)
    fake.fused, fake.plain = 2.0, 1.0
    model, split, directions = case()
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, batch_size=32)
    inputs, _ = evaluator.batches["train"].rows(0, 32)
    with torch.inference_mode():
        found = torch._dynamo.explain(evaluator._forward)(inputs)
    torch._dynamo.reset()
    assert evaluator.fused == 19
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


def test_a_compiler_sees_plain_operators(fake, monkeypatch):
    layer, x = layer_and_input()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(CudnnConvolution(layer)(x), F.relu(layer(x)))
    assert fake.calls == 0
