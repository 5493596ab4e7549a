"""Losses against a plain loop in float64, folding, the user's model left alone."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paraloss.compute import Evaluator, Split, compute_surface, load_criterion, load_model, random_direction
from paraloss.errors import InputError


def plain_loss(model, directions, coordinates, split):
    """theta + x d + y e by hand, in float64, unfolded, sample by sample mean."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for step, direction in zip(coordinates, directions, strict=True):
                parameter += step * direction[name].double()
        outputs = model(split.inputs.double())
        return F.cross_entropy(outputs, split.targets).item(), 100 * (outputs.argmax(1) == split.targets).double().mean().item()


@pytest.mark.parametrize("name", ["resnet20", "resnet20_noshort", "mlp"])
def test_losses_equal_a_plain_float64_loop(name, digits):
    torch.manual_seed(0)
    model = load_model(name, (1, 8, 8), 10).train()
    model(digits["train"].inputs[:256])  # moves the running statistics
    model.eval()
    split = digits["train"].subset(150)
    generator = torch.Generator().manual_seed(0)
    directions = [random_direction(model, generator) for _ in "xy"]
    evaluator = Evaluator(model, load_criterion("cross_entropy")[1], {"train": split}, directions, batch_size=64)
    assert evaluator.metrics == ["train_loss", "train_acc"]
    for point in ((0.0, 0.0), (0.5, -0.25), (-1.0, 1.0)):
        loss, accuracy = evaluator(point)
        expected = plain_loss(model, directions, point, split)
        assert loss == pytest.approx(expected[0], rel=1e-5)
        assert accuracy == pytest.approx(expected[1], abs=0.7)


def test_batch_norms_are_folded_where_they_can_be_and_the_outputs_stay(small_net, digits):
    evaluator = Evaluator(small_net, load_criterion("cross_entropy")[1], {"t": digits["test"]}, [])
    assert evaluator.folded == 2
    inputs, targets = digits["test"].inputs.double(), digits["test"].targets
    expected = F.cross_entropy(copy.deepcopy(small_net).double()(inputs), targets).item()
    assert evaluator([])[0] == pytest.approx(expected, rel=1e-5)


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 10)

    def forward(self, x):
        h = self.norm(self.conv(x))
        if h.mean() > 1e9:  # depends on the data
            h = h * 2
        return self.out(h.mean(dim=(2, 3)))


def test_a_model_that_cannot_be_traced_still_runs_and_says_why_it_is_not_folded(digits):
    torch.manual_seed(0)
    model = Untraceable().eval()
    evaluator = Evaluator(model, load_criterion("cross_entropy")[1], {"t": digits["test"]}, [])
    assert evaluator.folded == 0
    assert "cannot be traced" in evaluator.not_folded
    expected = F.cross_entropy(model(digits["test"].inputs), digits["test"].targets).item()
    assert evaluator([])[0] == pytest.approx(expected, rel=1e-5)


def test_the_model_handed_in_comes_back_as_it_was(small_net, digits):
    small_net.train()
    before = copy.deepcopy(small_net.state_dict())
    pointers = [p.data_ptr() for p in small_net.parameters()]
    compute_surface(small_net, "cross_entropy", {"train": digits["test"]}, x=(-1, 1, 3), y=(-1, 1, 2), progress=False)
    assert small_net.training
    assert all(p.requires_grad for p in small_net.parameters())
    assert pointers == [p.data_ptr() for p in small_net.parameters()]
    for name, tensor in small_net.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_interpolation_gives_each_models_own_loss_at_0_and_1(digits):
    models = []
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        model = load_model("resnet20", (1, 8, 8), 10).train()
        model(digits["train"].inputs[: 300 + seed])
        models.append(model.eval())
    split = digits["test"]
    own = [F.cross_entropy(copy.deepcopy(m).double()(split.inputs.double()), split.targets).item() for m in models]
    surface = compute_surface(
        models[0],
        "cross_entropy",
        {"test": split},
        x=(-0.5, 1.5, 5),
        y=(0, 1, 2),
        x_to=models[1],
        y_to=models[2],
        progress=False,
    )
    assert surface.at(0, 0)["test_loss"] == pytest.approx(own[0], rel=1e-6)
    assert surface.at(1, 0)["test_loss"] == pytest.approx(own[1], rel=1e-6)
    assert surface.at(0, 1)["test_loss"] == pytest.approx(own[2], rel=1e-6)
    assert np.isfinite(surface.metric("test_loss")).all()  # no running variance fell below zero at -0.5 and 1.5


def test_the_center_of_a_random_plane_is_the_checkpoints_own_loss(small_net, digits):
    split = digits["test"]
    expected = F.cross_entropy(copy.deepcopy(small_net).double()(split.inputs.double()), split.targets).item()
    surface = compute_surface(small_net, "cross_entropy", {"test": split}, x=(-1, 1, 3), y=(-1, 1, 3), progress=False)
    assert surface.at(0, 0)["test_loss"] == pytest.approx(expected, rel=1e-6)


def test_integer_buffers_do_not_move(small_net, digits):
    from paraloss.compute.directions.moving_weights import MovingWeights

    model = copy.deepcopy(small_net)
    model[1].num_batches_tracked.fill_(7)
    generator = torch.Generator().manual_seed(0)
    MovingWeights(model, [random_direction(model, generator, dir_type="states")]).move_to([3.0])
    assert model[1].num_batches_tracked == 7
    assert (model[1].running_var > 0).all()


class Affine(nn.Module):
    """One weight a direction: the loss is a formula of (x, y)."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[1.0, 2.0]]))

    def forward(self, inputs):
        return inputs @ self.w.T


def test_x_and_y_stay_apart_from_the_weights_to_the_grid():
    model = Affine()
    ends = [{"w": torch.tensor([[2.0, 2.0]])}, {"w": torch.tensor([[1.0, 12.0]])}]
    data = (torch.eye(2), torch.zeros(2, 1))

    def total(outputs, targets):  # w0 + w1 = (1 + x) + (2 + 10 y)
        return 2 * outputs.mean(dim=1)

    surface = compute_surface(model, total, data, x=(-1, 1, 7), y=(0, 1, 4), x_to=ends[0], y_to=ends[1], progress=False)
    x, y = np.meshgrid(surface.x, surface.y)
    np.testing.assert_allclose(surface.metric(), 3 + x + 10 * y, rtol=1e-6)
    assert surface.shape == (4, 7)


def test_standard_errors_of_a_drawn_subset_equal_the_formula(small_net, digits):
    surface = compute_surface(small_net, "cross_entropy", digits, curve=True, x=(-1, 1, 3), samples=100, progress=False)
    rows = digits["train"].subset(100)
    losses = F.cross_entropy(small_net(rows.inputs).double(), rows.targets, reduction="none").detach().numpy()
    expected = losses.std(ddof=1) / np.sqrt(100) * np.sqrt(1 - 100 / len(digits["train"]))
    assert surface.at(0)["train_loss_stderr"] == pytest.approx(expected, rel=1e-4)


def test_mse_takes_real_targets_and_classes():
    outputs = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
    _, mse = load_criterion("mse")
    torch.testing.assert_close(mse(outputs, torch.tensor([1, 0])), torch.tensor([0.04, 0.0], dtype=torch.float64))
    torch.testing.assert_close(mse(outputs, torch.zeros(2, 2)), torch.tensor([0.34, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        (nn.Linear(3, 10), (torch.zeros(4, 5), torch.zeros(4, dtype=torch.long)), "cannot take train inputs"),
        (nn.Linear(5, 2), (torch.zeros(4, 5), torch.tensor([0, 1, 7, 9])), "targets"),
        (nn.LSTM(5, 2), (torch.zeros(4, 5), torch.zeros(4, dtype=torch.long)), "returned tuple"),
        (nn.Linear(5, 2), (torch.zeros(4, 5), torch.zeros(3)), "rows must match"),
        (nn.Linear(5, 2), [], "not \\(input, target\\) pairs"),
    ],
)
def test_model_loss_and_data_that_do_not_fit_get_one_line(model, data, told):
    with pytest.raises(InputError, match=told) as caught:
        compute_surface(model, "cross_entropy", data, curve=True, x=(-1, 1, 3), progress=False)
    assert "\n" not in str(caught.value)


def test_a_nan_loss_is_a_result_and_is_not_computed_again(small_net, digits, tmp_path):
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return F.cross_entropy(outputs, targets) / 0 * 0

    data = {"train": Split(digits["test"].inputs[:8], digits["test"].targets[:8])}
    Evaluator(small_net, load_criterion(loss)[1], data, [])
    probe = len(calls)
    calls.clear()
    for _ in range(2):
        surface = compute_surface(
            small_net,
            loss,
            data,
            curve=True,
            x=(-1, 1, 3),
            path=tmp_path / "s.h5",
            progress=False,
        )
        assert (surface.status == 2).all()
    assert len(calls) == 2 * probe + 3  # a probe each time, and three points once


def test_a_loss_that_sums_over_the_batch_is_refused(small_net):
    data = (torch.randn(5, 1, 8, 8), torch.arange(5))
    with pytest.raises(InputError, match="depends on the batch size"):
        compute_surface(small_net, nn.CrossEntropyLoss(reduction="sum"), data, curve=True, x=(-1, 1, 3), progress=False)


def test_inputs_that_are_no_numbers_give_losses_that_are_none(small_net):
    data = (torch.full((5, 1, 8, 8), float("nan")), torch.arange(5))
    surface = compute_surface(small_net, "cross_entropy", data, curve=True, x=(-1, 1, 3), progress=False)
    assert np.isnan(surface.metrics["train_loss"]).all()
    assert (surface.status == 2).all()


def test_steps_that_pass_by_a_checkpoint_are_told(small_net, caplog):
    data = (torch.randn(5, 1, 8, 8), torch.arange(5))
    end = {name: tensor + 0.1 if tensor.is_floating_point() else tensor for name, tensor in small_net.state_dict().items()}
    for steps, told in (((-0.5, 1.5, 4), True), ((-0.5, 1.5, 5), False)):
        compute_surface(small_net, "cross_entropy", data, x=steps, x_to=end)
        assert ("the x grid does not contain 0 or 1" in caplog.text) is told
        caplog.clear()


@pytest.mark.parametrize("name", ["resnet20", "resnet20_noshort"])
def test_a_loss_that_overflows_is_not_a_number_and_never_a_guess(name, digits):
    """oneDNN's fused ReLU makes 0 of NaN: the loss would be ln 10, that of a network that knows nothing."""
    torch.manual_seed(0)
    model = load_model(name, (1, 8, 8), 10).eval()
    generator = torch.Generator().manual_seed(0)
    directions = [random_direction(model, generator) for _ in "xy"]
    evaluator = Evaluator(model, load_criterion("cross_entropy")[1], {"train": digits["test"]}, directions)
    assert evaluator.fused
    near = evaluator((0.5, 0.5))[0]
    assert np.isnan(evaluator((1e20, 1e20))[0])
    evaluator.move_to((1e20, 1e20))
    assert torch.isnan(evaluator.sample_losses("train", 0, 20)[0]).all()
    assert evaluator((0.5, 0.5))[0] == near
