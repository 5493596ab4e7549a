"""The paper's claims that small data can carry, as numbers with their direction."""

import numpy as np
import pytest
import torch

from paraloss.analysis.numbers import convex_share, draw_dependence, second_difference
from paraloss.compute import compute_surface, load_checkpoint, load_model, random_direction, train
from paraloss.compute.directions.principal import principal_plane, project_onto

EPOCHS = 8


@pytest.fixture(scope="module")
def mlp_run(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlp")
    torch.manual_seed(0)
    model = load_model("mlp", (1, 8, 8), 10)
    record = {"model": "mlp", "model_args": {}, "data": "digits", "data_args": {}, "classes": 10}
    train(model, digits, folder, epochs=EPOCHS, lr=0.05, batch_size=32, record=record, progress=False)
    return model.eval(), folder


def test_random_filter_normalized_curves_are_close_in_shape(mlp_run, digits):
    """Li et al. 2018, appendix: ten random directions give nearly the same curve."""
    model, _ = mlp_run
    data = {"train": digits["train"].subset(300)}
    curves = [
        compute_surface(model, data=data, curve=True, x=(-1, 1, 21), seed=seed, precision="fp32", progress=False).metric()
        for seed in range(10)
    ]
    assert draw_dependence(curves) < 0.35
    every_minimum = [int(np.argmin(curve)) for curve in curves]
    assert all(abs(place - 10) <= 1 for place in every_minimum)  # at the checkpoint


def test_a_training_path_lies_mostly_in_two_principal_directions_and_not_in_random_ones(mlp_run):
    """Li et al. 2018, section 7: 40 to 90 % of a path's variance in two components, almost none in two random directions."""
    model, folder = mlp_run
    checkpoints = sorted(folder.glob("epoch_*.pt"))
    plane = principal_plane(model, checkpoints)
    assert sum(plane.explained) > 0.4
    generator = torch.Generator().manual_seed(0)
    randoms = tuple(random_direction(model, generator) for _ in "xy")
    projected = project_onto(model, checkpoints, randoms)
    lengths = np.array(
        [
            np.sqrt(sum(float((load_checkpoint(path)[0][n] - p.detach()).square().sum()) for n, p in model.named_parameters()))
            for path in checkpoints
        ]
    )
    share_left = (projected.residual[:-1] / lengths[:-1]) ** 2
    assert share_left.min() > 0.95


def test_interpolation_from_initial_to_final_weights_meets_no_barrier(mlp_run, digits):
    """Goodfellow et al. 2015: the loss falls along the straight line."""
    model, folder = mlp_run
    start = load_model("mlp", (1, 8, 8), 10)
    start.load_state_dict(load_checkpoint(folder / "epoch_000.pt")[0], strict=False)
    line = compute_surface(
        start, data={"train": digits["train"]}, x=(0, 1, 21), x_to=model, precision="fp32", progress=False
    ).metric()
    assert (np.diff(line) < 1e-3).all()


@pytest.mark.slow
def test_a_deep_network_without_shortcuts_has_a_rougher_less_convex_surface(digits, tmp_path):
    """Li et al. 2018, section 5: ResNet-56 with and without shortcuts, on a plane through each solution."""
    found = {}
    for name in ("resnet56", "resnet56_noshort"):
        torch.manual_seed(0)
        model = load_model(name, (1, 8, 8), 10)
        record = {"model": name, "model_args": {}, "data": "digits", "data_args": {}, "classes": 10}
        small = {"train": digits["train"].subset(600), "test": digits["test"].subset(100)}
        train(model, small, tmp_path / name, epochs=EPOCHS, lr=0.05, batch_size=32, record=record, progress=False)
        values = compute_surface(
            model.eval(), data={"train": digits["train"].subset(64)}, x=(-0.5, 0.5, 11), y=(-0.5, 0.5, 11), progress=False,
            precision="fp32",
        ).metric()  # fmt: skip
        found[name] = (second_difference(values), convex_share(values))
    with_, without = found["resnet56"], found["resnet56_noshort"]
    assert without[0] > 1.3 * with_[0], found
    assert without[1] < with_[1], found


@pytest.mark.slow
def test_weight_decay_shrinks_the_weights_of_small_batches_more(digits, tmp_path):
    """Li et al. 2018, section 3: a small batch takes more steps, and each step of weight decay shrinks the weights."""
    norms = {}
    for decay in (0.0, 0.05):
        for size in (16, 512):
            torch.manual_seed(0)
            model = load_model("mlp", (1, 8, 8), 10)
            record = {"model": "mlp", "model_args": {}, "data": "digits", "data_args": {}, "classes": 10}
            options = {"epochs": 20, "lr": 0.05, "weight_decay": decay, "record": record, "progress": False}
            train(model, digits, tmp_path / f"{decay}_{size}", batch_size=size, **options)
            norms[decay, size] = sum(float(p.detach().square().sum()) for p in model.parameters() if p.ndim > 1) ** 0.5
    assert norms[0.0, 16] > norms[0.0, 512], norms
    assert norms[0.05, 16] < norms[0.05, 512], norms
    assert norms[0.05, 16] / norms[0.0, 16] < 0.8 * norms[0.05, 512] / norms[0.0, 512], norms
