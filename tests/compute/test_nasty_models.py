"""Ordinary models that are hard to move: each against a plain loop at the center and at three displaced points."""

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from paraloss.compute import compute_surface
from paraloss.errors import InputError

POINTS = [(0, 0), (1, -1), (-0.5, 0.5), (1, 0.5)]


def images(n=40, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator)


def vectors(n=40, width=6, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator).to(dtype), torch.randint(0, 5, (n,), generator=generator)


def settled(build, data):
    """A model with running statistics and scales that are not the initial ones, in evaluation mode."""
    torch.manual_seed(3)
    model = build()
    if isinstance(model, torch.jit.ScriptModule):
        return model.eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.3, 2.0)
    return model.eval()


def plain_loop(model, directions, point, data, loss=F.cross_entropy, size=16):
    """What a user writes: move the weights, loop over the batches, average."""
    names = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: tensor.detach().clone() for name, tensor in names.items()}
    with torch.no_grad():
        for name, tensor in names.items():
            moved = before[name].clone()
            for step, direction in zip(point, directions, strict=True):
                if name in direction:
                    moved = moved + step * direction[name].to(torch.promote_types(tensor.dtype, direction[name].dtype))
            if name.endswith("running_var"):
                moved = moved.clamp(min=0)
            if tensor.numel() and 0 in tensor.stride():  # expanded from a number: cannot be written into
                tensor.data = moved
            elif any(name in direction for direction in directions):
                tensor.copy_(moved)
    inputs, targets = data
    total = 0.0
    for k in range(0, len(targets), size):
        total += loss(model(inputs[k : k + size].clone()), targets[k : k + size]).item() * len(targets[k : k + size])
    with torch.no_grad():
        for name, tensor in names.items():
            if 0 in tensor.stride():
                tensor.data = before[name]
            else:
                tensor.copy_(before[name])
    return total / len(targets)


def check(build, data, loss=F.cross_entropy, rel=1e-5, model=None, size=16, **options):
    model = model or settled(build, data)
    options = {"precision": "fp32", **options} if "precision" not in options else options
    if options["precision"] is None:
        del options["precision"]
    axes = {"x": (-1, 1, 5), "y": (-1, 1, 5)}
    surface = compute_surface(model, loss, tuple(data), **{**axes, **options}, batch_size=16, progress=False)
    directions = [{n: torch.from_numpy(t) for n, t in surface.directions[axis].items()} for axis in "xy"]
    values = []
    for point in POINTS:
        expected = plain_loop(model, directions, point, data, loss, size)
        values.append(expected)
        assert surface.at(*point)["train_loss"] == pytest.approx(expected, rel=rel), point
    assert np.ptp(values) > 1e-3  # something moved
    return surface


class FrozenNorm(nn.Module):
    """Batch norm on buffers, as detectors write it."""

    def __init__(self, channels):
        super().__init__()
        for name, value in (("weight", 1.5), ("bias", 0.2), ("running_mean", 0.3), ("running_var", 0.7)):
            self.register_buffer(name, torch.full((channels,), value) + 0.1 * torch.randn(channels))
        self.running_var.abs_()

    def forward(self, x):
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


def frozen():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        FrozenNorm(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


class ListedWeights(nn.Module):
    """Parameters that meet outside of self.name."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.w1, self.w2 = nn.Parameter(torch.randn(144, 8) / 12), nn.Parameter(torch.randn(8, 5))
        self.ws = [self.w1, self.w2]

    def forward(self, x):
        return F.relu(self.norm(self.conv(x))).flatten(1) @ (self.ws[0] @ self.ws[1])


class BakedScalar(nn.Module):
    """Python numbers that come out of tensors."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 5)
        self.weights = [self.out.weight]

    def forward(self, x):
        size = self.weights[0].detach().numpy().std()
        return self.out(F.relu(self.norm(self.conv(x))).flatten(1) / float(size))


class LeNetView(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(144, 5)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).view(-1, 144))


class Reads(nn.Module):
    """A folded convolution whose weight is read elsewhere too, and used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 5)

    def forward(self, x):
        return self.out(F.relu(self.norm(self.conv(x))).flatten(1)) * self.conv.weight.norm() + self.conv.weight.mean()


class SelfNormalizing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.w = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Parameter(torch.randn(5, 144))

    def forward(self, x):
        return 3 * F.linear(F.relu(self.norm(self.conv(x))).flatten(1), F.normalize(self.w, dim=1))


class RecomputedBuffer(nn.Module):
    """A buffer that forward computes again from the weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 5)
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x):
        with torch.no_grad():
            self.scale = self.conv.weight.flatten(1).norm(dim=1)
        return self.out((self.norm(self.conv(x)) / self.scale[:, None, None]).flatten(1))


class Training(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.Linear(144, 5)

    def forward(self, x):
        x = F.dropout(F.relu(self.norm(self.conv(x))), 0.5, self.training)
        return self.out(x.flatten(1)) * (2 if self.training else 1)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(12, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.mix(self.embed(tokens)))).movedim(-1, 1)


class SharedMemory(nn.Module):
    """Two parameters over one memory."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = nn.Parameter(self.first.weight.data)
        self.out = nn.Linear(6, 5)

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Energy(nn.Module):
    """Outputs that are gradients with respect to the inputs, as in physics."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
        self.out = nn.Linear(6, 5)

    def forward(self, x):
        x.requires_grad_(True)
        return self.out(torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0])


class EnergyEnabled(Energy):
    def forward(self, x):
        with torch.enable_grad():
            return super().forward(x)


class InnerStep(nn.Module):
    """One step of gradient descent on its own weights within forward."""

    def __init__(self):
        super().__init__()
        self.w, self.out = nn.Parameter(torch.randn(6, 6) / 3), nn.Linear(6, 5)

    def forward(self, x):
        (step,) = torch.autograd.grad(((x @ self.w) ** 2).mean(), self.w)
        return self.out(x @ (self.w - 0.5 * step))


class WritesInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 5)

    def forward(self, x):
        x -= 0.5
        x *= 2
        return self.out(x)


class Fourier(nn.Module):
    """A spectral layer with complex weights."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 4, 4, dtype=torch.cfloat) / 3)
        self.lift, self.out = nn.Linear(1, 4), nn.Linear(4 * 10, 5)

    def forward(self, x):
        spectrum = torch.fft.rfft(self.lift(x[..., None]), dim=1)
        mixed = torch.einsum("nki,kio->nko", spectrum, self.w)
        return self.out(torch.fft.irfft(mixed, n=10, dim=1).flatten(1))


class MixedTypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8).bfloat16(), nn.Linear(8, 5)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.bfloat16()).float()))


class Strided(nn.Module):
    """Parameters that are not contiguous, and one that was expanded from a number."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(5, 6).T)
        self.b = nn.Parameter(torch.zeros(1, 1).expand(1, 5))
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return (x @ self.w.T.contiguous().T + self.b) * self.scale + self.w.t().view(-1).sum()


class Sparse(nn.Module):
    """A graph's adjacency matrix as a sparse buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("adjacency", (torch.eye(6) + torch.eye(6).roll(1, 0)).to_sparse())
        self.w, self.out = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 5)

    def forward(self, x):
        return self.out(torch.tanh(torch.sparse.mm(self.adjacency, x.T).T @ self.w))


class ExtraState(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 5)

    def get_extra_state(self):
        return {"note": "not a tensor", "epoch": 3}

    def set_extra_state(self, state):
        pass

    def forward(self, x):
        return self.out(x)


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 5)
        self.conv.register_forward_hook(lambda module, inputs, output: output + module.weight.mean())

    def forward(self, x):
        return self.out(F.relu(self.norm(self.conv(x))).flatten(1))


def chain(*layers):
    return lambda: nn.Sequential(*(layer() for layer in layers))


def L(kind, *args, **kwargs):
    return lambda: kind(*args, **kwargs)


def weight_normed():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conv = nn.utils.weight_norm(nn.Conv2d(1, 4, 3))
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def pruned():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    prune.l1_unstructured(net[0], "weight", 0.4)
    prune.l1_unstructured(net[4], "weight", 0.4)
    return net


HEAD = [L(nn.ReLU), L(nn.Flatten), L(nn.Linear, 144, 5)]
IMAGE_MODELS = {
    "frozen batch norm": frozen,
    "weights in a list": ListedWeights,
    "numbers out of tensors": BakedScalar,
    "view after a convolution": LeNetView,
    "weight read twice": Reads,
    "normalizes its weights": SelfNormalizing,
    "recomputed buffer": RecomputedBuffer,
    "if training": Training,
    "forward hook": Hooked,
    "weight norm, old": weight_normed,
    "weight norm": chain(lambda: parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), L(nn.BatchNorm2d, 4), *HEAD),
    "spectral norm": chain(lambda: parametrizations.spectral_norm(nn.Conv2d(1, 4, 3)), L(nn.BatchNorm2d, 4), *HEAD),
    "pruned": pruned,
    "conv bias, norm without affine": chain(L(nn.Conv2d, 1, 4, 3), L(nn.BatchNorm2d, 4, affine=False), *HEAD),
    "norm of the batch in eval": chain(L(nn.Conv2d, 1, 4, 3), L(nn.BatchNorm2d, 4, track_running_stats=False), *HEAD),
    "group norm": chain(L(nn.Conv2d, 1, 4, 3), L(nn.GroupNorm, 2, 4), *HEAD),
    "reflect padding": chain(
        L(nn.Conv2d, 1, 4, 3, padding=1, padding_mode="reflect"),
        L(nn.BatchNorm2d, 4),
        L(nn.ReLU),
        L(nn.Flatten),
        L(nn.Linear, 256, 5),
    ),
    "transposed convolution": chain(
        L(nn.ConvTranspose2d, 1, 4, 3), L(nn.BatchNorm2d, 4), L(nn.ReLU), L(nn.Flatten), L(nn.Linear, 400, 5)
    ),
    "grouped convolution": chain(
        L(nn.Conv2d, 1, 4, 3),
        L(nn.BatchNorm2d, 4),
        L(nn.Conv2d, 4, 8, 1, groups=4),
        L(nn.BatchNorm2d, 8),
        L(nn.ReLU),
        L(nn.Flatten),
        L(nn.Linear, 288, 5),
    ),
    "norm after norm": chain(L(nn.Conv2d, 1, 4, 3), L(nn.BatchNorm2d, 4), L(nn.BatchNorm2d, 4), *HEAD),
    "instance norm": chain(L(nn.Conv2d, 1, 4, 3), L(nn.InstanceNorm2d, 4, affine=True), *HEAD),
    "one-dimensional norm": chain(
        L(nn.Flatten), L(nn.Linear, 64, 16), L(nn.BatchNorm1d, 16), L(nn.Dropout), L(nn.ReLU), L(nn.Linear, 16, 5)
    ),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))),
    "data parallel": lambda: nn.DataParallel(frozen()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(frozen()),
    "compiled": lambda: torch.compile(frozen(), backend="eager"),
    "channels last": lambda: frozen().to(memory_format=torch.channels_last),
}
VECTOR_MODELS = {
    "shared memory": SharedMemory,
    "writes its inputs": WritesInputs,
    "strided parameters": Strided,
    "sparse buffer": Sparse,
    "extra state": ExtraState,
    "no gradient mode of its own": EnergyEnabled,
    "mixed types": MixedTypes,
}


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models_have_the_losses_of_a_plain_loop(name):
    # Where the samples of a batch are normalized together, all of them are one batch.
    check(IMAGE_MODELS[name], images(), size=40 if name == "norm of the batch in eval" else 16)


@pytest.mark.parametrize("name", VECTOR_MODELS)
def test_vector_models_have_the_losses_of_a_plain_loop(name):
    check(VECTOR_MODELS[name], vectors(), rel=1e-4 if name == "mixed types" else 1e-5)


@pytest.mark.parametrize("build", [Energy, EnergyEnabled, InnerStep])
def test_models_that_differentiate_have_the_losses_of_a_plain_loop(build):
    check(build, vectors(), size=40 if build is InnerStep else 16)  # its step is that of a whole batch


def test_complex_weights_move_as_a_whole():
    data = torch.randn(40, 10, generator=torch.Generator().manual_seed(0)), torch.randint(0, 5, (40,))
    surface = check(Fourier, data)
    assert np.iscomplexobj(surface.directions["x"]["w"])
    assert np.abs(surface.directions["x"]["w"].imag).max() > 0
    norms = [
        np.linalg.norm(t.reshape(6, -1), axis=1) for t in (surface.directions["x"]["w"], settled(Fourier, data).w.detach())
    ]
    np.testing.assert_allclose(*norms, rtol=1e-5)


def test_tied_weights_move_once_and_stay_tied():
    tokens = torch.randint(0, 12, (40, 7), generator=torch.Generator().manual_seed(0))
    surface = check(Tied, (tokens, tokens.roll(-1, 1)))
    assert [name for name in surface.directions["x"] if name.endswith("weight")] == ["embed.weight", "mix.weight"]


@pytest.mark.parametrize("name", ["frozen batch norm", "weights in a list", "grouped convolution", "averaged", "data parallel"])
def test_between_two_models_statistics_move_too(name):
    data = images()
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(settled(IMAGE_MODELS[name], data))
        with torch.no_grad():
            for tensor in (*models[-1].parameters(), *models[-1].buffers()):
                if tensor.is_floating_point():
                    tensor += seed * 0.2 * torch.rand_like(tensor)
    surface = check(None, data, model=models[0], x_to=models[1], y=(-1, 1, 5), dir_type="states")
    assert surface.at(1, 0)["train_loss"] == pytest.approx(plain_loop(models[1], [], (), data), rel=1e-5)


def test_float64_models_stay_float64():
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[1.0]], dtype=torch.float64))

        def forward(self, x):
            return x @ self.w.T

    inputs = 1e8 + torch.arange(64, dtype=torch.float64)[:, None]
    end = {"w": torch.tensor([[1 + 1e-8]], dtype=torch.float64)}
    surface = compute_surface(Line(), "mse", (inputs, inputs - 1), x=(-1, 1, 3), x_to=end, progress=False)
    assert surface.at(0)["train_loss"] == pytest.approx(1.0, rel=1e-12)
    assert surface.at(1)["train_loss"] == pytest.approx(((inputs * end["w"] - inputs + 1) ** 2).mean().item(), rel=1e-12)
    assert surface.provenance["precision"] == "fp64"


def test_a_float32_model_computes_in_float64_when_asked(small_net, digits):
    data = (digits["test"].inputs[:40], digits["test"].targets[:40])
    surface = compute_surface(small_net, "cross_entropy", data, curve=True, x=(-1, 1, 3), precision="fp64", progress=False)
    exact = copy.deepcopy(small_net).double()
    directions = [{n: torch.from_numpy(t) for n, t in surface.directions["x"].items()}]
    for x in (-1, 0, 1):
        expected = plain_loop(exact, directions, (x,), (data[0].double(), data[1]))
        assert surface.at(x)["train_loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_take_their_own_inputs(dtype):
    build = chain(lambda: nn.Linear(6, 16).to(dtype), L(nn.Tanh), lambda: nn.Linear(16, 5).to(dtype))
    data = vectors(dtype=dtype)
    loss = lambda outputs, targets: F.cross_entropy(outputs.float(), targets)  # noqa: E731
    surface = check(build, data, loss=loss, rel=3e-3 if dtype == torch.bfloat16 else 1e-3, precision=None)
    assert surface.provenance["precision"] == ("bf16" if dtype == torch.bfloat16 else "fp16")
    inputs, targets = vectors()  # float32 data are given to it in its own type
    again = compute_surface(
        settled(build, data), loss, (inputs, targets), x=(-1, 1, 5), y=(-1, 1, 5), batch_size=16, progress=False
    )
    np.testing.assert_allclose(again.metric(), surface.metric(), rtol=1e-6)


class Sampling(nn.Module):
    """A variational autoencoder's noise, and numbers from numpy and random."""

    def __init__(self):
        super().__init__()
        self.mean, self.spread, self.out = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 5)

    def forward(self, x):
        noise = torch.randn(len(x), 4) + np.random.normal() + random.random()
        return self.out(self.mean(x) + noise * torch.exp(0.2 * self.spread(x)))


def test_points_of_a_model_that_samples_have_common_random_numbers():
    data = vectors()
    model = settled(Sampling, data)
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(5)
    first = compute_surface(model, "cross_entropy", data, curve=True, x=(-1, 1, 9), batch_size=16, progress=False)
    drawn = torch.rand(1).item(), np.random.rand(), random.random()
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(5)
    assert drawn == (torch.rand(1).item(), np.random.rand(), random.random())  # the caller's generators are as they were
    again = compute_surface(model, "cross_entropy", data, curve=True, x=(-1, 1, 17), batch_size=16, progress=False)
    np.testing.assert_array_equal(first.metric(), again.metric()[..., ::2])
    bends = np.abs(np.diff(again.metric().ravel(), 2))
    assert bends.max() < 0.1 * np.ptp(again.metric())  # smooth: the noise is the same everywhere


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.calls = nn.Linear(6, 5), 0

    def forward(self, x):
        self.calls += 1
        return self.out(x) * 0.999**self.calls


class Hidden(nn.Module):
    """A recurrent state that is kept from batch to batch."""

    def __init__(self):
        super().__init__()
        self.cell, self.out, self.h = nn.GRUCell(6, 8), nn.Linear(8, 5), None

    def forward(self, x):
        start = None if self.h is None or len(self.h) != len(x) else self.h
        self.h = self.cell(x, start).detach()
        return self.out(self.h)


class Lambda(nn.Module):
    """Its forward goes through a closure that copying does not follow."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 5))
        self.f = lambda x: x @ self.w

    def forward(self, x):
        return self.f(x)


class Slices(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 5))
        self.register_buffer("part", self.w.data[:2])

    def forward(self, x):
        return x @ self.w + x[:, :2] @ self.part


class SparseWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.eye(6, 5).to_sparse())

    def forward(self, x):
        return torch.sparse.mm(self.w.T, x.T).T


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (Counter, "keeps something between calls"),
        (Hidden, "keeps something between calls"),
        (Lambda, "uses 'w' of the model that was handed in"),
        (Slices, "'part' shares its memory with the parameter 'w'"),
        (SparseWeight, "parameter 'w' is sparse"),
        (lambda: nn.LazyLinear(5), "'weight' of a lazy module has no shape yet"),
        (lambda: nn.Linear(6, 5, device="meta"), "'weight' is on the meta device"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_line(build, told):
    torch.manual_seed(0)
    with pytest.raises(InputError, match=told) as caught:
        compute_surface(build(), "cross_entropy", vectors(), curve=True, x=(-1, 1, 3), progress=False)
    assert "\n" not in str(caught.value)


def test_a_loss_that_reads_the_model_handed_in_is_refused():
    model = nn.Linear(6, 5)

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets) + 0.1 * model.weight.square().sum()

    with pytest.raises(InputError, match="the loss uses 'weight' of the model that was handed in"):
        compute_surface(model, loss, vectors(), curve=True, x=(-1, 1, 3), progress=False)


def test_directions_that_do_not_fit_are_refused():
    model = Tied()
    tokens = torch.randint(0, 12, (8, 7))
    for direction, told in (
        ({"embed.wieght": torch.zeros(12, 8)}, "has no such tensor"),
        ({"embed.weight": torch.zeros(12, 7)}, r"by \(12, 7\)"),
        ({"embed.weight": torch.ones(12, 8), "head.weight": torch.zeros(12, 8)}, "one tensor in the model"),
    ):
        with pytest.raises(InputError, match=told):
            compute_surface(model, "cross_entropy", (tokens, tokens), x=(-1, 1, 3), directions=[direction], progress=False)
    end = {name: tensor + 0.1 for name, tensor in model.state_dict().items()}
    end["head.weight"] = end["head.weight"] + math.pi
    with pytest.raises(InputError, match=r"'embed.weight' and 'head.weight' differ"):
        compute_surface(model, "cross_entropy", (tokens, tokens), x=(-1, 1, 3), x_to=end, progress=False)


def test_train_mode_keeps_dropout_and_batch_statistics_on_with_the_same_numbers_everywhere():
    data, model = (
        images(),
        settled(chain(L(nn.Conv2d, 1, 4, 3), L(nn.BatchNorm2d, 4), *HEAD[:2], L(nn.Dropout, 0.4), HEAD[2]), None),
    )
    surface = compute_surface(
        model, "cross_entropy", data, curve=True, x=(-1, 1, 9), train_mode=True, batch_size=16, progress=False
    )
    weights = {name: torch.from_numpy(tensor) for name, tensor in surface.directions["x"].items()}
    for x in (0, -1, 0.5, 1):
        moved = copy.deepcopy(model).train()
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter += x * weights[name]
            torch.manual_seed(0)
            losses = [F.cross_entropy(moved(data[0][k : k + 16]), data[1][k : k + 16]).item() for k in (0, 16, 32)]
        assert surface.at(x)["train_loss"] == pytest.approx((16 * losses[0] + 16 * losses[1] + 8 * losses[2]) / 40, rel=1e-5)
    assert not model.training
    plain = compute_surface(model, "cross_entropy", data, curve=True, x=(-1, 1, 9), progress=False)
    assert np.abs(plain.metric() - surface.metric()).max() > 0.01


def test_train_mode_excludes_what_depends_on_single_samples():
    model, data = nn.Sequential(nn.Linear(6, 5), nn.Dropout()), vectors()
    with pytest.raises(InputError, match="nothing to recompute"):
        compute_surface(model, "cross_entropy", data, curve=True, x=(-1, 1, 3), train_mode=True, bn="recompute", progress=False)
    with pytest.raises(InputError, match="in training mode"):
        compute_surface(model, "cross_entropy", data, curve=True, x=(-1, 1, 3), train_mode=True, rtol=0.1, progress=False)


def test_the_gradient_and_the_hessian_of_a_model_that_samples_use_its_noise():
    model, data = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5), nn.Linear(3, 5)), vectors()
    options = {
        "x": (-1, 1, 2),
        "curve": True,
        "train_mode": True,
        "metrics": ["grad_norm", "hessian"],
        "batch_size": 16,
        "progress": False,
    }
    first, again = (compute_surface(model, "cross_entropy", data, **options) for _ in range(2))
    for name, values in first.metrics.items():
        np.testing.assert_array_equal(values, again.metrics[name])
    moved = copy.deepcopy(model).train()
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter += torch.from_numpy(first.directions["x"][name])
    torch.manual_seed(0)
    losses = [F.cross_entropy(moved(data[0][k : k + 16]).double(), data[1][k : k + 16]) for k in (0, 16, 32)]
    loss = (16 * losses[0] + 16 * losses[1] + 8 * losses[2]) / 40
    gradients = torch.autograd.grad(loss, list(moved.parameters()))
    norm = torch.cat([gradient.reshape(-1) for gradient in gradients]).norm()
    assert first.at(1)["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert first.at(1)["train_grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(12, 8), nn.Linear(8, 12)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens):
        x = self.embed(tokens)
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = x + self.attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
        return self.out(x + F.scaled_dot_product_attention(x, x, x, is_causal=True)).movedim(-1, 1)


def test_attention_has_a_hessian_on_a_cpu():
    tokens = torch.randint(0, 12, (12, 6), generator=torch.Generator().manual_seed(0))
    data = (tokens, tokens.roll(-1, 1))
    surface = check(Attention, data, metrics=["hessian"], x=(-1, 1, 5), y=(-1, 1, 5))
    assert np.isfinite(surface.metrics["max_eig"]).all()
    assert surface.metrics["max_eig"].max() > 0.01
