"""A user of LoRA or a frozen backbone: only the parameters that patterns name move, and gradient and Hessian are of these."""

import copy
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import call
from judge import AXES, assert_right, surface_of
from lora import build, data
from standing import on_ranks
from torch import nn

from paraloss.compute import random_direction
from paraloss.compute.directions.moving import names_to_move
from paraloss.errors import InputError
from paraloss.surface import read_surface

OWN = Path(__file__).with_name("lora.py")


def loop(model):
    inputs, targets = data()
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(x[None]).double(), t[None]).item() for x, t in zip(inputs, targets)]  # noqa: B905
    return {"train_loss": float(np.mean(losses))}


def moving(surface):
    return {name for direction in surface.directions.values() for name, part in direction.items() if np.any(part)}


def test_only_what_a_pattern_names_moves_and_the_losses_are_those_of_a_plain_loop():
    model = build()
    surface = surface_of(model, "cross_entropy", data(), move="layers.*.lora_?")
    assert moving(surface) == {f"layers.{k}.lora_{ab}" for k in (0, 1) for ab in "ab"}
    assert_right(surface, model, loop)
    everything = surface_of(model, "cross_entropy", data())
    for axis, direction in surface.directions.items():
        for name, part in direction.items():
            np.testing.assert_array_equal(part, everything.directions[axis][name])  # the same numbers, whatever else moves
    still = surface.provenance["still"]
    assert (still["tensors"], still["of_tensors"]) == (8, 12)
    assert "layers.0.base.weight" in still["names"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("head", {"head.weight", "head.bias"}),
        (["layers.0.lora_a", "head.bias"], {"layers.0.lora_a", "head.bias"}),
        ("*.base.*", {f"layers.{k}.base.{part}" for k in (0, 1) for part in ("weight", "bias")}),
        ("norm", {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}),
        ("trainable", {*(f"layers.{k}.lora_{ab}" for k in (0, 1) for ab in "ab"), "head.weight", "head.bias"}),
    ],
)
def test_patterns_name_parameters_modules_and_what_is_trained(patterns, expected):
    assert names_to_move(build(), patterns) == expected


def test_statistics_move_with_a_module_that_is_trained_and_ties_have_one_name():
    model = build()
    model.norm.weight.requires_grad_(True)
    assert {"norm.weight", "norm.running_mean", "norm.running_var"} <= names_to_move(model, "trainable")
    tied = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    tied.head.weight = tied.embed.weight
    assert names_to_move(tied, "head.weight") == {"embed.weight"}


def test_a_pattern_that_names_nothing_is_refused_with_the_closest_names():
    with pytest.raises(InputError, match=r"move: nothing in the model is called 'layers.\*.lora_c'; closest are .*lora_"):
        names_to_move(build(), "layers.*.lora_c")
    with pytest.raises(InputError, match=r"nothing moves along x.*ignore=none"):
        surface_of(build(), "cross_entropy", data(), move="head.bias")
    surface = surface_of(build(), "cross_entropy", data(), move="head.bias", ignore="none")
    assert_right(surface, build(), loop)


def test_gradient_and_hessian_are_of_the_parameters_that_move():
    model, (inputs, targets) = build(), data()
    surface = surface_of(model, "cross_entropy", data(), move=["layers.1.lora_*", "head"], metrics="loss,grad_norm,hessian")
    reference = copy.deepcopy(model).double()
    names = ["layers.1.lora_a", "layers.1.lora_b", "head.weight", "head.bias"]
    parameters = {name: reference.get_parameter(name).requires_grad_(True) for name in names}
    loss = nn.functional.cross_entropy(reference(inputs.double()), targets)
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    matrices = [p for p in parameters.values() if p.ndim > 1]
    flat = torch.cat([g.flatten() for g, p in zip(gradients, parameters.values(), strict=True) if p.ndim > 1])
    rows = [torch.cat([h.flatten() for h in torch.autograd.grad(one, matrices, retain_graph=True)]) for one in flat]
    values = torch.linalg.eigvalsh(torch.stack(rows))
    found = surface.at(0.0, 0.0)
    assert found["train_grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert found["min_eig"] == pytest.approx(values[0].item(), rel=1e-3, abs=1e-5)
    assert found["max_eig"] == pytest.approx(values[-1].item(), rel=1e-3)


def test_a_line_between_models_that_differ_elsewhere_says_so(caplog):
    first, second = build(), build()
    with torch.no_grad():
        second.head.weight.add_(0.3)
        second.layers[0].lora_a.add_(0.5)
    options = {"x": (0.0, 1.0, 3), "y": None, "x_to": second, "progress": True}
    surface = surface_of(first, "cross_entropy", data(), **options, move="layers.*.lora_?")
    assert "'head.weight' differs between the two models along x, but does not move" in caplog.text
    between = copy.deepcopy(first)
    with torch.no_grad():
        between.layers[0].lora_a.copy_(second.layers[0].lora_a)
    assert surface.at(1.0)["train_loss"] == pytest.approx(loop(between)["train_loss"], rel=1e-5)
    caplog.clear()
    surface = surface_of(first, "cross_entropy", data(), **options, move=["layers.*.lora_?", "head"])
    assert "does not move" not in caplog.text
    assert surface.at(1.0)["train_loss"] == pytest.approx(loop(second)["train_loss"], rel=1e-5)


def test_filters_are_slices_along_the_first_axis_whatever_the_tensor_means():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.depthwise = nn.Embedding(6, 4), nn.Conv2d(3, 3, 3, groups=3, bias=False)
            self.scale, self.cls_token = nn.Parameter(torch.rand(1, 3, 1, 1)), nn.Parameter(torch.rand(1, 1, 5))
            self.gamma, self.lora_b = nn.Parameter(torch.rand(3)), nn.Parameter(torch.zeros(4, 2))

    torch.manual_seed(0)
    model = Odd()
    direction = random_direction(model, torch.Generator().manual_seed(1))
    for name, filters in (("embed.weight", 6), ("depthwise.weight", 3), ("scale", 1), ("cls_token", 1)):
        weight = model.get_parameter(name).detach()
        assert len(weight) == filters
        for k in range(filters):
            assert direction[name][k].norm().item() == pytest.approx(weight[k].norm().item(), rel=1e-5)
    assert not direction["gamma"].any()
    assert not direction["lora_b"].any()


def test_a_seed_draws_the_same_numbers_as_ever_when_everything_moves():
    model = build()
    whole = random_direction(model, torch.Generator().manual_seed(123))
    part = random_direction(model, torch.Generator().manual_seed(123), moving={"head.weight"})
    assert list(part) == ["head.weight"]
    assert torch.equal(part["head.weight"], whole["head.weight"])


def test_the_spectrum_is_of_the_parameters_that_move(tmp_path):
    torch.save(build().state_dict(), tmp_path / "w.pt")
    done = call(
        "hessian", "--weights", tmp_path / "w.pt", "--model", f"{OWN}:build", "--data", f"{OWN}:data", "--move", "head",
        "--top", "1", "--repeats", "1", "-o", tmp_path / "h.h5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model, (inputs, targets) = build().double(), data()
    weight = model.head.weight.requires_grad_(True)
    loss = nn.functional.cross_entropy(model(inputs.double()), targets)
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    rows = [torch.autograd.grad(one, weight, retain_graph=True)[0].flatten() for one in gradient.flatten()]
    with h5py.File(tmp_path / "h.h5") as file:
        assert list(file["directions/x"]) == ["head.weight"]
        assert file["eigenvalues"][0] == pytest.approx(torch.linalg.eigvalsh(torch.stack(rows))[-1].item(), rel=1e-3)


@pytest.mark.slow
def test_the_command_line_moves_the_same_on_two_ranks_tells_it_and_refuses_another_part(tmp_path):
    torch.save(build().state_dict(), tmp_path / "w.pt")
    command = [
        "compute", "--weights", tmp_path / "w.pt", "--model", f"{OWN}:build", "--data", f"{OWN}:data",
        "--x=-0.5:0.5:3", "--y=-1:1:3", "--precision", "fp32", "-o", tmp_path / "s.h5",
    ]  # fmt: skip
    done = on_ranks(*command, "--move", "trainable", ranks=2)
    assert done.returncode == 0, done.stderr
    surface = read_surface(tmp_path / "s.h5", directions=True)
    assert_right(surface, build(), loop)
    told = call("info", tmp_path / "s.h5").stdout
    assert "7 of 12 parameters" in told
    assert "do not move: layers.0.base.weight" in told
    other = call(*command, "--move", "head")
    assert other.returncode == 2
    assert "move" in other.stderr
    assert AXES["x"] == (surface.x[0], surface.x[-1], len(surface.x))
