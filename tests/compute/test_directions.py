"""Directions against formulas, written a second time in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from paraloss.compute import compute_surface, direction_between, normalize, random_direction
from paraloss.errors import InputError, ShapeMismatch


def by_numpy(d, w, norm):
    """Li et al.'s norms, one filter at a time."""
    d, w = d.astype(np.float64), w.astype(np.float64)
    out = np.empty_like(d)
    for k in range(len(d)):
        if norm == "filter":
            out[k] = d[k] * np.sqrt((w[k] ** 2).sum()) / (np.sqrt((d[k] ** 2).sum()) + 1e-10)
        elif norm == "dfilter":
            out[k] = d[k] / (np.sqrt((d[k] ** 2).sum()) + 1e-10)
        elif norm == "layer":
            out[k] = d[k] * np.sqrt((w**2).sum()) / np.sqrt((d**2).sum())
        elif norm == "dlayer":
            out[k] = d[k] / np.sqrt((d**2).sum())
        elif norm == "weight":
            out[k] = d[k] * w[k]
    return out


@pytest.mark.parametrize("norm", ["filter", "layer", "weight", "dfilter", "dlayer"])
@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 7)])
def test_norms_equal_a_second_implementation(norm, shape):
    rng = np.random.default_rng(0)
    d, w = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    ours = normalize(torch.tensor(d), torch.tensor(w), norm).numpy()
    np.testing.assert_allclose(ours, by_numpy(d, w, norm), rtol=2e-6)


def test_each_filter_of_a_filter_normalized_direction_has_its_weights_norm(small_net):
    direction = random_direction(small_net, torch.Generator().manual_seed(3))
    for name, weight in small_net.named_parameters():
        if weight.ndim > 1:
            norms = [d.flatten(1).norm(dim=1) for d in (direction[name], weight.detach())]
            torch.testing.assert_close(*norms)
        else:
            assert not direction[name].any()


def test_biases_become_the_weights_themselves_when_they_are_not_ignored():
    weight = torch.tensor([1.0, -2.0])
    assert normalize(torch.randn(2), weight, "filter", "none").tolist() == [1.0, -2.0]


@pytest.mark.parametrize("norm", ["filter", "layer", "dfilter", "dlayer"])
def test_a_zero_filter_gives_a_zero_direction_and_zero_draws_no_nan(norm):
    weight = torch.zeros(2, 3)
    assert torch.isfinite(normalize(torch.randn(2, 3), weight, norm)).all()
    assert torch.isfinite(normalize(torch.zeros(2, 3), torch.ones(2, 3), norm)).all()


def test_numbers_come_from_one_stream_in_the_references_order(small_net):
    torch.manual_seed(123)
    x = [torch.randn(p.shape) for p in small_net.parameters()]
    y = [torch.randn(p.shape) for p in small_net.parameters()]
    generator = torch.Generator().manual_seed(123)
    ours = [list(random_direction(small_net, generator, "none").values()) for _ in "xy"]
    for expected, got in zip(x + y, ours[0] + ours[1], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_x_and_y_are_independent_and_another_seed_gives_other_directions(small_net):
    def flat(seed):
        generator = torch.Generator().manual_seed(seed)
        return [torch.cat([t.flatten() for t in random_direction(small_net, generator).values()]) for _ in "xy"]

    (x, y), (other, _) = flat(1), flat(2)
    assert abs(torch.cosine_similarity(x, y, dim=0)) < 0.2
    assert abs(torch.cosine_similarity(x, other, dim=0)) < 0.2


def test_random_states_directions_leave_running_statistics_still(small_net):
    direction = random_direction(small_net, torch.Generator().manual_seed(0), dir_type="states")
    assert not any("running" in name or "tracked" in name for name in direction)


def test_a_direction_between_models_ends_at_the_second_one(small_net):
    other = {
        name: tensor + torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in small_net.state_dict().items()
    }
    direction = direction_between(small_net, other, "states", "b.pt")
    for name, tensor in direction.items():
        torch.testing.assert_close((small_net.state_dict()[name].double() + tensor).float(), other[name], rtol=0, atol=0)
    assert "1.num_batches_tracked" not in direction
    assert not any("running" in name for name in direction_between(small_net, other, "weights", "b.pt"))


def test_what_does_not_fit_is_named(small_net):
    with pytest.raises(ShapeMismatch):
        normalize(torch.zeros(2, 2), torch.zeros(3, 2))
    with pytest.raises(InputError, match=r"'0\.weight' is missing"):
        direction_between(small_net, {}, "weights", "b.pt")


def test_scaling_the_filters_of_a_batch_norm_network_leaves_the_surface_unchanged(small_net, digits):
    """Li et al. 2018, section 4: filter normalization removes the scale that batch norm makes meaningless."""
    train = {"train": digits["train"].subset(200)}
    scaled = nn.Sequential(*small_net)
    surfaces = []
    import copy

    for factor in (1.0, 10.0):
        net = copy.deepcopy(scaled)
        with torch.no_grad():
            for conv, norm in ((net[0], net[1]), (net[3], net[4])):
                conv.weight.mul_(factor)
                if conv.bias is not None:
                    conv.bias.mul_(factor)
                norm.running_mean.mul_(factor)
                norm.running_var.mul_(factor**2)
                norm.eps = norm.eps * factor**2
        surfaces.append(compute_surface(net, "cross_entropy", train, x=(-1, 1, 5), y=(-1, 1, 4), progress=False).metric())
    np.testing.assert_allclose(surfaces[1], surfaces[0], rtol=1e-4)
