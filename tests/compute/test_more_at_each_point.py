"""Batch-norm statistics estimated anew, volumes over three directions, ensembles of planes."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import update_bn

from paraloss.compute import compute_surface, random_direction
from paraloss.compute.ensemble import compute_ensemble
from paraloss.errors import InputError, SurfaceFileError
from paraloss.surface import read_outline, read_surface


def test_recomputed_statistics_equal_those_of_torch(small_net, digits):
    train, test = digits["train"].subset(128), digits["test"].subset(60)
    before = copy.deepcopy(small_net.state_dict())
    surface = compute_surface(
        small_net, data={"train": train, "test": test}, curve=True, x=(-0.5, 0.5, 3), bn="recompute", splits=["train", "test"],
        seed=2, batch_size=64, precision="fp32", progress=False,
    )  # fmt: skip
    assert all(torch.equal(before[name], tensor) for name, tensor in small_net.state_dict().items())
    direction = random_direction(small_net, torch.Generator().manual_seed(2))
    moved = copy.deepcopy(small_net)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter += 0.5 * direction[name]
    update_bn([train.inputs[:64], train.inputs[64:]], moved)  # torch's own
    moved.eval()
    for name, split in (("train", train), ("test", test)):
        expected = F.cross_entropy(moved(split.inputs).double(), split.targets).item()
        assert surface.at(0.5)[f"{name}_loss"] == pytest.approx(expected, rel=1e-4)
    kept = compute_surface(small_net, data={"train": train}, curve=True, x=(-0.5, 0.5, 3), seed=2, progress=False)
    assert abs(kept.at(0.5)["train_loss"] / surface.at(0.5)["train_loss"] - 1) > 0.01


def test_recomputing_makes_interpolated_weights_a_real_network(digits, tmp_path, trained):
    """Between two checkpoints of one run moved weights with foreign statistics are bad, with statistics of their own good."""
    from paraloss.compute import apply_checkpoint, load_checkpoint, load_model

    first, last = (load_checkpoint(trained / name)[0] for name in ("epoch_001.pt", "final.pt"))
    model = load_model("resnet20", (1, 8, 8), 10)
    apply_checkpoint(model, last, "last")
    options = {"data": {"train": digits["train"].subset(200)}, "x": (0, 1, 2), "x_to": first, "dir_type": "weights"}
    kept = compute_surface(model, **options, progress=False)
    anew = compute_surface(model, **options, bn="recompute", progress=False)
    assert anew.at(1.0)["train_loss"] < kept.at(1.0)["train_loss"]


def test_volume_keeps_three_axes_apart(small_net, digits, tmp_path):
    split = digits["train"].subset(40)
    volume = compute_surface(
        small_net, data={"train": split}, x=(-1, 1, 4), y=(-1, 1, 3), z=(0, 0.5, 2), seed=5, path=tmp_path / "v.h5",
        precision="fp32", progress=False,
    )  # fmt: skip
    assert volume.shape == (2, 3, 4)
    generator = torch.Generator().manual_seed(5)
    directions = [random_direction(small_net, generator) for _ in "xyz"]
    for place in ((-1.0, 1.0, 0.5), (1.0, -1.0, 0.0)):
        moved = copy.deepcopy(small_net)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                for step, direction in zip(place, directions, strict=True):
                    parameter += step * direction[name]
        expected = F.cross_entropy(moved(split.inputs).double(), split.targets).item()
        assert volume.at(*place)["train_loss"] == pytest.approx(expected, rel=1e-4)
    # The plane z = 0 is the surface without z: x and y are drawn first.
    plane = compute_surface(
        small_net, data={"train": split}, x=(-1, 1, 4), y=(-1, 1, 3), seed=5, precision="fp32", progress=False
    )
    np.testing.assert_allclose(volume.metric()[0], plane.metric(), rtol=1e-6)
    again = read_surface(tmp_path / "v.h5", directions=True)
    assert set(again.directions) == {"x", "y", "z"}
    np.testing.assert_array_equal(again.z, [0, 0.5])
    np.testing.assert_array_equal(again.metric(), volume.metric())
    with pytest.raises(SurfaceFileError, match=r"is a volume .*\.vti"):
        read_outline(tmp_path / "v.h5")


def test_volume_resumes(small_net, digits, tmp_path):
    import h5py

    options = {"x": (-1, 1, 3), "y": (-1, 1, 3), "z": (-1, 1, 3), "precision": "fp32", "progress": False}
    data, path = {"train": digits["train"].subset(30)}, tmp_path / "v.h5"
    whole = compute_surface(small_net, data=data, path=path, **options)
    with h5py.File(path, "r+") as file:
        file["status"][1:] = 0
        file["train_loss"][1:] = np.nan
    again = compute_surface(small_net, data=data, path=path, **options)
    np.testing.assert_allclose(again.metric(), whole.metric(), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"z": (-1, 1, 3), "curve": True, "y": None}, "curve runs along x alone: leave out z"),
        ({"z": (-1, 1, 3), "refine": 0.1}, "every point on all samples"),
        ({"bn": "sometimes"}, "'keep' or 'recompute'"),
    ],
)
def test_what_does_not_go_together_is_refused(options, told, small_net, digits):
    with pytest.raises(InputError, match=told):
        compute_surface(small_net, data=digits, x=(-1, 1, 3), **{"y": (-1, 1, 3), **options}, progress=False)


def test_ensemble_is_the_mean_and_spread_of_its_planes(small_net, digits, tmp_path):
    data = {"train": digits["train"].subset(50)}
    options = {"x": (-1, 1, 5), "y": (-1, 1, 4), "precision": "fp32", "progress": False}
    summary = compute_ensemble(small_net, "cross_entropy", data, repeats=3, seed=7, path=tmp_path / "e.h5", **options)
    planes = [compute_surface(small_net, "cross_entropy", data, seed=seed, **options).metric() for seed in (7, 8, 9)]
    np.testing.assert_allclose(summary.metrics["train_loss"], np.mean(planes, axis=0), rtol=1e-9)
    np.testing.assert_allclose(summary.metrics["train_loss_std"], np.std(planes, axis=0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(summary.metrics["train_loss_max"], np.max(planes, axis=0), rtol=1e-9)
    assert summary.at(0, 0)["train_loss_std"] == pytest.approx(0, abs=1e-3) or 0 not in summary.y
    assert sorted(p.name for p in tmp_path.glob("*.h5")) == ["e.h5", "e_seed7.h5", "e_seed8.h5", "e_seed9.h5"]
    logs = np.log(np.stack(planes) + 0.1)
    expected = logs.std(axis=0, ddof=1).mean() / logs.mean(axis=0).std()
    assert read_surface(tmp_path / "e.h5").provenance["draw_dependence"] == pytest.approx(expected)
    assert summary.default_metric == "train_loss"


@pytest.fixture
def importable_torchvision():
    """A torchvision built for CUDA does not bring its operators to a torch without; classifiers need only their names."""
    import importlib
    import re
    import sys

    library = torch.library.Library("torchvision", "FRAGMENT")
    while True:
        try:
            importlib.import_module("torchvision")
            break
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if not missing:
                raise
            library.define(f"{missing[1]}() -> Tensor")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
    return library


def test_timm_and_torchvision_models_are_built_without_weights(importable_torchvision):
    from paraloss.compute import load_model

    model = load_model("timm:resnet18", (1, 32, 32), 7).eval()
    assert model.conv1.in_channels == 1
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    model = load_model("torchvision:squeezenet1_1", (3, 64, 64), 5).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    with pytest.raises(InputError, match="timm has no model"):
        load_model("timm:resnet17x", (3, 32, 32), 10)
    with pytest.raises(InputError, match="3 channels"):
        load_model("torchvision:resnet18", (1, 8, 8), 10)
