"""The zoo against the published parameter counts and names."""

import pytest
import torch

from paraloss.compute import load_model
from paraloss.compute.models import MODELS
from paraloss.errors import InputError

# shared by all ports of the reference's models: 10 classes, 3×32×32
COUNTS = {
    "resnet20": 272_474,
    "resnet20_noshort": 269_722,
    "resnet32_noshort": 464_154,
    "resnet44_noshort": 658_586,
    "resnet56": 855_770,
    "resnet56_noshort": 853_018,
    "resnet110": 1_730_714,
    "vgg9": 2_789_706,
    "resnet110_noshort": 1_727_962,
}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts_are_the_published_ones(name, count):
    assert sum(p.numel() for p in load_model(name, (3, 32, 32), 10).parameters()) == count


def test_parameter_names_are_the_references():
    names = set(load_model("resnet56", (3, 32, 32), 10).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.bias"} <= names
    assert {"layer3.8.conv2.weight", "layer3.8.bn2.num_batches_tracked", "linear.weight", "linear.bias"} <= names
    assert not any("shortcut" in name for name in load_model("resnet56_noshort", (3, 32, 32), 10).state_dict())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_every_model_takes_any_channels_and_classes(name, shape):
    outputs = load_model(name, shape, 7).eval()(torch.zeros(2, *shape))
    assert outputs.shape == (2, 7)


def test_options_reach_the_model_and_wrong_ones_are_named():
    assert load_model("mlp", (4,), 3, {"width": 5, "depth": 1})[1].weight.shape == (5, 4)
    with pytest.raises(InputError, match="cannot be built"):
        load_model("mlp", (4,), 3, {"breadth": 5})
    with pytest.raises(InputError, match="unknown model"):
        load_model("resnet21", (4,), 3)
