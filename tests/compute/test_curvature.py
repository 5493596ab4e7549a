"""Eigenvalues, gradient norms and spectra against a dense Hessian, autograd and curvlinops' own products."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian

from paraloss.compute import Evaluator, compute_surface, load_criterion, random_direction
from paraloss.compute.directions.files import load_directions
from paraloss.compute.evaluate.curvature import eigenvalue_ends, spectrum
from paraloss.compute.evaluate.spectrum_file import save_spectrum
from paraloss.errors import InputError

CRITERION = load_criterion("cross_entropy")[1]


@pytest.fixture
def net():
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Softplus(), nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 10)).eval()


def dense_hessian(model, split):
    """(n, n) float64 over the weights of dimension > 1, by torch.func, all samples at once."""
    model = copy.deepcopy(model).double().eval()
    weights = {name: p.detach() for name, p in model.named_parameters() if p.ndim > 1}

    def loss(weights):
        return F.cross_entropy(functional_call(model, weights, split.inputs.double()), split.targets)

    blocks = hessian(loss)(weights)
    return (
        torch.cat(
            [torch.cat([blocks[a][b].reshape(weights[a].numel(), weights[b].numel()) for b in weights], dim=1) for a in weights]
        )
        .detach()
        .numpy()
    )


def test_eigenvalues_equal_those_of_the_dense_hessian_of_the_mean_loss(net, digits):
    split = digits["train"].subset(90)
    evaluator = Evaluator(net, CRITERION, {"train": split}, [], batch_size=40)  # unequal batches
    low, high = eigenvalue_ends(evaluator.model, CRITERION, evaluator.batches["train"])
    values = np.linalg.eigvalsh(dense_hessian(net, split))
    assert low == pytest.approx(values[0], rel=1e-4)
    assert high == pytest.approx(values[-1], rel=1e-4)


def test_small_models_are_diagonalised_as_a_whole(digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 10)).eval()
    split = digits["train"].subset(50)
    evaluator = Evaluator(net, CRITERION, {"train": split}, [])
    values = np.linalg.eigvalsh(dense_hessian(net, split))
    got = eigenvalue_ends(evaluator.model, CRITERION, evaluator.batches["train"])
    assert got[1] == pytest.approx(values[-1], rel=1e-4)
    assert got[0] == pytest.approx(values[0], abs=1e-5 * values[-1])


def test_hessian_products_equal_those_of_curvlinops(net, digits):
    from curvlinops import HessianLinearOperator

    from paraloss.compute.evaluate.curvature import Hessian

    split = digits["train"].subset(60)
    batches = Evaluator(net, CRITERION, {"train": split}, [], batch_size=25).batches["train"]
    vectors = torch.randn(sum(p.numel() for p in net.parameters() if p.ndim > 1), 3)
    with Hessian(net, CRITERION, batches) as ours:
        mine = ours.operator @ vectors
        weights = [p for p in net.parameters() if p.ndim > 1]
        theirs = HessianLinearOperator(net, nn.CrossEntropyLoss(), weights, batches, check_deterministic=False, num_data=60)
        torch.testing.assert_close(mine, theirs @ vectors, rtol=1e-4, atol=1e-5)


def test_surface_holds_gradient_norm_and_eigenvalues_of_each_point(net, digits):
    split = digits["train"].subset(80)
    surface = compute_surface(
        net, data={"train": split}, x=(-0.5, 0.5, 3), y=(0, 1, 2), seed=4, metrics=["loss", "acc", "grad_norm", "hessian"],
        progress=False,
    )  # fmt: skip
    assert list(surface.metrics) == ["train_loss", "train_acc", "train_grad_norm", "min_eig", "max_eig", "eig_ratio"]
    generator = torch.Generator().manual_seed(4)
    x, y = (random_direction(net, generator) for _ in "xy")
    moved = copy.deepcopy(net).double()
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter += 0.5 * x[name] + 1.0 * y[name]
    F.cross_entropy(moved(split.inputs.double()), split.targets).backward()
    norm = torch.sqrt(sum(p.grad.square().sum() for p in moved.parameters())).item()
    values = np.linalg.eigvalsh(dense_hessian(moved, split))
    there = surface.at(0.5, 1.0)
    assert there["train_grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert there["min_eig"] == pytest.approx(values[0], rel=1e-4)
    assert there["max_eig"] == pytest.approx(values[-1], rel=1e-4)
    assert there["eig_ratio"] == pytest.approx(abs(values[0] / values[-1]), rel=2e-4)
    assert not any(p.grad is not None or p.requires_grad is False for p in net.parameters())  # left as it was


def test_measures_resume_and_refuse_a_file_without_them(net, digits, tmp_path):
    options = {"data": {"train": digits["train"].subset(30)}, "x": (-1, 1, 3), "path": tmp_path / "s.h5", "progress": False}
    compute_surface(net, **options, metrics=["loss", "grad_norm"])
    assert compute_surface(net, **options, metrics=["loss", "grad_norm"]).is_complete
    with pytest.raises(Exception, match="measures"):
        compute_surface(net, **options, metrics=["loss"])
    with pytest.raises(InputError, match="unknown metric 'sharpness'"):
        compute_surface(net, **options, metrics=["sharpness"])
    with pytest.raises(InputError, match="all samples on one rank"):
        compute_surface(net, **options, metrics=["hessian"], rtol=0.1)


@pytest.mark.slow
def test_spectrum_top_pairs_density_and_eigenvectors_as_directions(net, digits, tmp_path):
    split = digits["train"].subset(90)
    evaluator = Evaluator(net, CRITERION, {"train": split}, [])
    found = spectrum(evaluator.model, CRITERION, evaluator.batches["train"], top=4)
    matrix = dense_hessian(net, split)
    values = np.linalg.eigvalsh(matrix)
    expected = values[np.argsort(-np.abs(values))][:4]
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-4)
    for value, direction in zip(found.eigenvalues, found.eigenvectors, strict=True):
        vector = np.concatenate([tensor.numpy().ravel() for tensor in direction.values()])
        np.testing.assert_allclose(matrix @ vector, value * vector, atol=2e-3 * abs(expected[0]))
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1.0, abs=0.05)
    mean = np.trapezoid(found.density * found.grid, found.grid)
    assert mean == pytest.approx(values.mean(), abs=0.1 * np.abs(values).max())
    path = save_spectrum(found, tmp_path / "h.h5", {})
    x, y, z = load_directions(path, net)
    for direction, kept in zip(found.eigenvectors, (x, y, z), strict=False):
        assert all(torch.equal(direction[name], kept[name]) for name in direction)
    # Along an eigenvector of norm 1 the loss's second difference is its eigenvalue.
    step = 1e-2
    curve = compute_surface(
        net, data={"train": split}, x=[-step, 0.0, step], directions=[x], precision="fp32", progress=False
    ).metric()
    assert (curve[0] - 2 * curve[1] + curve[2]) / step**2 == pytest.approx(found.eigenvalues[0], rel=0.05)
    bare = spectrum(evaluator.model, CRITERION, evaluator.batches["train"], top=4, density=False)
    np.testing.assert_array_equal(bare.eigenvalues, found.eigenvalues)
    assert bare.grid.size == bare.density.size == 0
    with pytest.raises(InputError, match="top must lie between 1 and"):
        spectrum(evaluator.model, CRITERION, evaluator.batches["train"], top=0)


class TwoWays(nn.Module):
    """A part whose gradient depends on no weight beside one that bends."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.straight = nn.Linear(3, 1, bias=False)
        self.bent = nn.Linear(3, 4, bias=False)

    def forward(self, inputs):
        return self.straight(inputs) + torch.tanh(self.bent(inputs)).sum(dim=1, keepdim=True)


class Straight(TwoWays):
    """The first part alone: weights of the other are there and not used."""

    def forward(self, inputs):
        return self.straight(inputs)


def test_weights_that_the_loss_is_linear_in_have_no_curvature():
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    options = {"x": (0, 1, 2), "curve": True, "metrics": "loss,hessian", "precision": "fp32", "progress": False}

    def mean(outputs, targets):
        return outputs[:, 0]

    surface = compute_surface(TwoWays(), mean, (inputs, torch.zeros(20)), **options)
    with pytest.raises(InputError, match="the loss is linear in the weights"):
        compute_surface(Straight(), mean, (inputs, torch.zeros(20)), **options)
    moved = TwoWays()
    for k in range(2):
        with torch.no_grad():
            for name, weight in moved.named_parameters():
                weight.copy_(dict(TwoWays().named_parameters())[name] + k * torch.as_tensor(surface.directions["x"][name]))
        hessian = torch.autograd.functional.hessian(
            lambda bent: torch.tanh(inputs @ bent.reshape(4, 3).T).sum(dim=1).mean(), moved.bent.weight.detach().flatten()
        )
        values = torch.linalg.eigvalsh(hessian)
        assert surface.metrics["min_eig"][k] == pytest.approx(min(0.0, values[0].item()), abs=1e-5)
        assert surface.metrics["max_eig"][k] == pytest.approx(max(0.0, values[-1].item()), abs=1e-5)
