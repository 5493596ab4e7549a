"""The zoo against the published parameter counts and names."""

import pytest
import torch

from paraloss.compute import load_model
from paraloss.compute.inputs.models import MODELS
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
    "wrn56_2": 3_412_394,
    "wrn56_2_noshort": 3_401_770,
    "wrn56_4": 13_628_234,
    "wrn56_4_noshort": 13_586_506,
    "wrn56_8": 54_470_282,
    "wrn56_8_noshort": 54_304_906,
    "wrn110_2_noshort": 6_893_482,
    "wrn110_4_noshort": 27_537_226,
    "densenet121": 6_956_298,
    "resnet18": 11_173_962,
    "resnet18_noshort": 11_000_138,
    "resnet34": 21_282_122,
    "resnet34_noshort": 21_108_298,
    "resnet50": 23_520_842,
    "resnet50_noshort": 20_744_266,
    "resnet101": 42_512_970,
    "resnet101_noshort": 39_736_394,
    "resnet152": 58_156_618,
    "resnet152_noshort": 55_380_042,
    "resnet110_noshort": 1_727_962,
}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts_are_the_published_ones(name, count):
    with torch.device("meta"):  # shapes only
        assert sum(p.numel() for p in load_model(name, (3, 32, 32), 10).parameters()) == count


def test_parameter_names_are_the_references():
    names = set(load_model("resnet56", (3, 32, 32), 10).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.bias"} <= names
    assert {"layer3.8.conv2.weight", "layer3.8.bn2.num_batches_tracked", "linear.weight", "linear.bias"} <= names
    assert not any("shortcut" in name for name in load_model("resnet56_noshort", (3, 32, 32), 10).state_dict())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_every_model_takes_any_channels_and_classes(name, shape):
    with torch.device("meta"):
        outputs = load_model(name, shape, 7).eval()(torch.zeros(2, *shape))
    assert outputs.shape == (2, 7)


def test_large_models_have_the_references_names():
    with torch.device("meta"):
        names = set(load_model("resnet50", (3, 32, 32), 10).state_dict())
        dense = set(load_model("densenet121", (3, 32, 32), 10).state_dict())
    assert {"layer1.0.shortcut.0.weight", "layer4.2.conv3.weight", "layer3.5.bn3.running_mean", "linear.bias"} <= names
    assert {"dense1.0.bn1.weight", "dense4.15.conv2.weight", "trans3.bn.bias", "trans1.conv.weight", "bn.weight"} <= dense


def test_options_reach_the_model_and_wrong_ones_are_named():
    assert load_model("mlp", (4,), 3, {"width": 5, "depth": 1})[1].weight.shape == (5, 4)
    with pytest.raises(InputError, match="cannot be built"):
        load_model("mlp", (4,), 3, {"breadth": 5})
    with pytest.raises(InputError, match="unknown model"):
        load_model("resnet21", (4,), 3)
