"""Directions by recipe: numbers against a second implementation, surfaces against plain loops; files, ranks, resumes."""

import copy
import hashlib
import math
import shutil

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import call
from standing import on_ranks
from torch import nn

from paraloss.compute import compute_surface, load_directions, random_recipe
from paraloss.compute.directions import shards
from paraloss.compute.directions.philox import normals, philox
from paraloss.compute.directions.recipe import tensors_of_recipe
from paraloss.errors import InputError, SurfaceFileError
from paraloss.surface import PENDING, read_directions, read_recipes, read_surface
from paraloss.surface.repair import repair

WORD = 2**32 - 1
GRID = {"x": (-0.5, 0.5, 3), "y": (-1.0, 1.0, 3)}
POINTS = ((0.0, 0.0), (0.5, -1.0), (-0.5, 1.0), (0.5, 1.0))


class Net(nn.Module):
    """Convolutions, batch norm with statistics, an embedding, tied weights, bfloat16 and complex numbers are all there is."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.conv = nn.Conv1d(6, 5, 3)
        self.norm = nn.BatchNorm1d(5)
        self.twist = nn.Parameter(torch.randn(5, 6, dtype=torch.complex64))
        self.low = nn.Linear(6, 6).to(torch.bfloat16)
        self.last = nn.Linear(6, 11)
        self.last.weight = self.words.weight

    def forward(self, tokens):
        x = self.norm(self.conv(self.words(tokens).transpose(1, 2))).mean(dim=2)
        x = torch.tanh((x.to(torch.complex64) @ self.twist).abs())
        return self.last(self.low(x.to(torch.bfloat16)).float())


def build():
    torch.manual_seed(0)
    net = Net()
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2)
    return net.eval()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 11, (40, 9), generator=generator), torch.randint(0, 11, (40,), generator=generator)


def words_of(counter, key):
    """Philox4x32-10 in Python's own integers."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q & WORD, (p >> 32) ^ d ^ m, p & WORD
        k, m = (k + 0x9E3779B9) & WORD, (m + 0xBB67AE85) & WORD
    return a, b, c, d


def numbers_by_hand(seed, axis, name, rows, columns):
    """The table of numbers of a tensor, in float64."""
    digest = hashlib.sha256(f"{axis}/{name}".encode()).digest()
    stream = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
    table = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            words = words_of((column // 4, row, *stream), (seed & WORD, seed >> 32 & WORD))
            one, other = words[column % 4 // 2 * 2 : column % 4 // 2 * 2 + 2]
            radius = math.sqrt(-2 * math.log((one + 1) / 2**32)) * (-1 if other >> 31 else 1)
            angle = ((other & 0x7FFFFFFF) - 2**30) * math.pi / 2**31
            table[row, column] = radius * (math.cos(angle), math.sin(angle))[column % 2]
    return table


def directions_by_hand(model, seed, axis):
    """Filter-normalized directions of the matrices of ``model``, in float64."""
    found = {}
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            real = torch.view_as_real(weight) if weight.is_complex() else weight
            w = real.detach().double().numpy().reshape(len(weight), -1)
            d = numbers_by_hand(seed, axis, name, *w.shape)
            d *= np.linalg.norm(w, axis=1, keepdims=True) / np.linalg.norm(d, axis=1, keepdims=True)
            d = torch.from_numpy(d.reshape(real.shape))
            found[name] = torch.view_as_complex(d) if weight.is_complex() else d
    return found


def loss_by_hand(point, seed=123, moving=lambda name: True):
    """A plain loop at theta* + x * delta + y * eta."""
    model = build()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        x, y = (directions_by_hand(build(), seed, axis) for axis in "xy")
        for name in x:
            if moving(name):
                wide = parameters[name].to(x[name].dtype)
                parameters[name].copy_(wide + point[0] * x[name] + point[1] * y[name])
        inputs, targets = data()
        return F.cross_entropy(model(inputs), targets).item()


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that come with Random123, the authors' own code
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert tuple(int(word) for word in philox((torch.tensor(counter[0]), *counter[1:]), key)) == expected


@pytest.mark.parametrize("seed", [0, 123, -5, 2**62])
def test_numbers_are_those_of_a_second_implementation(seed):
    recipe = random_recipe(nn.Linear(9, 7), seed, "y", norm="none")
    made = tensors_of_recipe(recipe, nn.Linear(9, 7))["weight"].numpy()
    np.testing.assert_allclose(made, numbers_by_hand(seed, "y", "weight", 7, 9), rtol=1e-5, atol=5e-7)


def test_any_part_of_the_numbers_can_be_made_alone_to_the_bit():
    whole = normals(7, (1, 2), (0, 50), (0, 203))
    assert torch.equal(normals(7, (1, 2), (13, 29), (5, 94)), whole[13:29, 5:94])
    assert torch.equal(normals(7, (1, 2), (49, 50), (202, 203)), whole[49:, 202:])
    assert not torch.equal(normals(8, (1, 2), (0, 1), (0, 9)), whole[:1, :9])


def test_numbers_are_normal_and_independent():
    drawn = normals(3, (5, 6), (0, 500), (0, 2000)).double()
    n = drawn.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((drawn**power).mean() - moment) < 5 * math.sqrt(variance / n)
    for other in (drawn.roll(1, 0), drawn.roll(1, 1), drawn.roll(2, 1), normals(3, (5, 7), (0, 500), (0, 2000)).double()):
        assert abs((drawn * other).mean()) < 5 / math.sqrt(n)
    assert 4.3 < drawn.abs().max() < 6.7


@pytest.mark.parametrize("norm", ["filter", "layer", "weight", "dfilter", "dlayer", "none"])
@pytest.mark.parametrize("ignore", ["biasbn", "none"])
def test_every_norm_of_a_recipe_is_that_of_its_numbers(norm, ignore):
    from paraloss.compute import normalize

    model = build()
    made = tensors_of_recipe(random_recipe(model, 4, "x", norm, ignore), model)
    for name, weight in dict(model.named_parameters()).items():
        real = torch.view_as_real(weight) if weight.is_complex() else weight
        shape = (1, -1) if weight.ndim <= 1 else (len(weight), -1)
        raw = numbers_by_hand(4, "x", name, *real.reshape(shape).shape).reshape(real.shape)
        raw = torch.from_numpy(raw).to(torch.promote_types(real.dtype, torch.float32))
        raw = torch.view_as_complex(raw) if weight.is_complex() else raw
        expected = normalize(raw, weight.detach().to(raw.dtype), norm, ignore)
        if name in made:
            torch.testing.assert_close(made[name], expected, rtol=2e-5, atol=1e-6)
        else:
            assert not expected.any()


@pytest.mark.parametrize("most", [2**20, 7])
def test_the_model_moved_in_place_gives_the_losses_of_a_plain_loop_and_comes_back(most, monkeypatch):
    monkeypatch.setitem(shards._MOST, "cpu", most)
    model = build()
    model.low.train()
    before = copy.deepcopy(model.state_dict())
    surface = compute_surface(model, "cross_entropy", data(), **GRID, generator="philox", in_place=True, progress=False)
    for point in POINTS:
        assert surface.at(*point)["train_loss"] == pytest.approx(loss_by_hand(point), rel=2e-3), point  # bfloat16 rounds
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert [m.training for m in model.modules()] == [m is model.low for m in model.modules()]
    assert surface.provenance["in_place"]


def test_the_values_are_those_of_stored_directions_to_1e_6(tmp_path):
    made = compute_surface(build(), "cross_entropy", data(), **GRID, generator="philox", in_place=True, progress=False)
    options = {"generator": "philox", "save_directions": True, "path": tmp_path / "kept.h5"}
    kept = compute_surface(build(), "cross_entropy", data(), **GRID, **options, progress=False)
    stored = read_directions(tmp_path / "kept.h5")
    given = [{name: torch.from_numpy(values) for name, values in stored[axis].items()} for axis in "xy"]
    for in_place in (False, True):
        again = compute_surface(build(), "cross_entropy", data(), **GRID, directions=given, in_place=in_place, progress=False)
        for other in (made, kept):
            np.testing.assert_allclose(again.metrics["train_loss"], other.metrics["train_loss"], rtol=1e-6)


def test_a_float64_model_moves_in_float64():
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(5, 3).double(), torch.randn(20, 5).double(), torch.randint(0, 3, (20,))
    surface = compute_surface(
        model, "cross_entropy", (inputs, targets), x=(-1, 1, 3), y=(0, 1, 2), generator="philox", in_place=True, progress=False
    )
    x, y = (directions_by_hand(model, 123, axis)["weight"] for axis in "xy")
    made = tensors_of_recipe(random_recipe(model, 123, "x"), model)["weight"]
    torch.testing.assert_close(made, x, rtol=1e-5, atol=1e-6)  # the numbers themselves have float32's digits
    expected = F.cross_entropy(F.linear(inputs, model.weight - x + y, model.bias), targets).item()
    assert surface.at(-1.0, 1.0)["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_adapters_alone_move_and_get_the_numbers_that_they_get_in_any_model():
    chosen = {"generator": "philox", "move": ["low", "conv"], "in_place": True}
    surface = compute_surface(build(), "cross_entropy", data(), **GRID, **chosen, progress=False)
    for point in POINTS:
        expected = loss_by_hand(point, moving=lambda name: name.startswith(("low", "conv")))
        assert surface.at(*point)["train_loss"] == pytest.approx(expected, rel=2e-3), point
    assert set(surface.recipes["x"].parts) == {"low.weight", "conv.weight"}
    alone = random_recipe(nn.ModuleDict({"low": nn.Linear(6, 6)}), 123, "x", norm="none")
    inside = random_recipe(build(), 123, "x", norm="none")
    one, other = (
        tensors_of_recipe(recipe, model)
        for recipe, model in ((alone, nn.ModuleDict({"low": nn.Linear(6, 6)})), (inside, build()))
    )
    assert torch.equal(one["low.weight"], other["low.weight"])


def test_statistics_and_buffers_that_the_model_writes_come_back():
    model = build()
    before = copy.deepcopy(model.state_dict())
    for options in ({"bn": "recompute"}, {"train_mode": True}):
        found = [
            compute_surface(
                model, "cross_entropy", data(), **GRID, **options, in_place=in_place, generator="philox", progress=False
            )
            for in_place in (True, False)
        ]
        np.testing.assert_allclose(found[0].metrics["train_loss"], found[1].metrics["train_loss"], rtol=1e-5)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name


def test_a_model_comes_back_after_an_error(tmp_path):
    model, calls = build(), []
    before = copy.deepcopy(model.state_dict())

    def loss(outputs, targets):
        calls.append(1)
        if len(calls) > 30:
            raise ValueError("enough")
        return F.cross_entropy(outputs, targets, reduction="none")

    with pytest.raises(InputError, match="enough"):
        compute_surface(model, loss, data(), x=(-1, 1, 40), y=(-1, 1, 3), generator="philox", in_place=True, progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def on_files(tmp_path):
    torch.save(build().state_dict(), tmp_path / "w.pt")
    return ["compute", "--weights", tmp_path / "w.pt", "--model", f"{__file__}:build", "--data", f"{__file__}:data",
            "--x=-0.5:0.5:3", "--y=-1:1:3", "--generator", "philox", "--precision", "fp32"]  # fmt: skip


def test_two_ranks_give_the_values_of_one_and_a_file_is_finished_with_the_same_directions(tmp_path):
    arguments = on_files(tmp_path)
    done = on_ranks(*arguments, "--in-place", "-o", tmp_path / "two.h5", ranks=2)
    assert done.returncode == 0, done.stderr
    two = read_surface(tmp_path / "two.h5", directions=True)
    assert not two.directions
    for point in POINTS:
        assert two.at(*point)["train_loss"] == pytest.approx(loss_by_hand(point), rel=2e-3)
    done = call(*arguments, "--in-place", "-o", tmp_path / "one.h5")
    assert done.returncode == 0, done.stderr
    assert "philox" in done.stderr
    np.testing.assert_array_equal(read_surface(tmp_path / "one.h5").metrics["train_loss"], two.metrics["train_loss"])
    shutil.copy(tmp_path / "two.h5", tmp_path / "half.h5")
    with h5py.File(tmp_path / "half.h5", "r+") as file:  # as a kill leaves it
        file["status"][1:] = PENDING
        file["train_loss"][1:] = np.nan
    plain = [part for part in arguments if part not in ("--generator", "philox")]  # the file says which
    done = on_ranks(*plain, "-o", tmp_path / "half.h5", ranks=2)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(read_surface(tmp_path / "half.h5").metrics["train_loss"], two.metrics["train_loss"], rtol=1e-6)
    done = call(*plain, "--generator", "li2018", "-o", tmp_path / "half.h5")
    assert done.returncode == 2
    assert "generator" in done.stderr


def test_the_default_of_small_models_is_still_li_s_generator():
    surface = compute_surface(nn.Linear(3, 2), "mse", (torch.randn(4, 3), torch.randn(4, 2)), **GRID, progress=False)
    assert not surface.recipes
    assert "generator" not in surface.provenance["directions"][0]
    drawn = torch.randn(2, 3, generator=torch.Generator().manual_seed(123))
    ratio = torch.from_numpy(surface.directions["x"]["weight"]) / drawn
    torch.testing.assert_close(ratio[:, :1].expand(2, 3), ratio)


def test_large_models_get_recipes_and_move_in_place_by_default(monkeypatch):
    monkeypatch.setattr("paraloss.compute.evaluate.home.LARGE", 100)
    surface = compute_surface(build(), "cross_entropy", data(), **GRID, progress=False)
    assert surface.provenance["in_place"]
    assert set(surface.recipes) == {"x", "y"}
    assert not surface.directions
    assert surface.provenance["directions"][0]["generator"] == "philox"


def test_recipes_in_a_file_can_be_used_as_directions_and_refuse_another_model(tmp_path):
    options = {"generator": "philox", "path": tmp_path / "s.h5"}
    first = compute_surface(build(), "cross_entropy", data(), **GRID, **options, progress=False)
    second = compute_surface(build(), "cross_entropy", data(), **GRID, directions=tmp_path / "s.h5", progress=False)
    np.testing.assert_allclose(second.metrics["train_loss"], first.metrics["train_loss"], rtol=1e-6)
    assert load_directions(tmp_path / "s.h5", build())[0].keys() == first.recipes["x"].parts.keys()
    with pytest.raises(SurfaceFileError, match="recipe"):
        read_directions(tmp_path / "s.h5")
    with pytest.raises(InputError, match=r"s\.h5: direction x is of another model: 'conv.weight'"):
        load_directions(tmp_path / "s.h5", nn.Linear(3, 2))


@pytest.mark.parametrize("damage", ["numbers", "shape", "kind", "method", "seed"])
def test_damaged_recipes_are_refused_in_one_line_and_made_again_after_a_repair(damage, tmp_path):
    path = tmp_path / "s.h5"
    options = {**GRID, "generator": "philox", "path": path, "progress": False}
    first = compute_surface(build(), "cross_entropy", data(), **options)
    with h5py.File(path, "r+") as file:
        group = file["recipes/x"]
        if damage == "numbers":
            group["conv.weight"][0] *= 2
        elif damage == "shape":
            group["conv.weight"].attrs["shape"] = np.array([-5, 2**40])
        elif damage == "kind":
            group["conv.weight"].attrs["kind"] = "other"
        elif damage == "method":
            group.attrs["method"] = "another"
        else:
            del group.attrs["seed"]
        file["status"][0] = PENDING
    with pytest.raises(SurfaceFileError) as caught:
        read_recipes(path)
    assert "\n" not in str(caught.value)
    assert any("recipes" in line for line in repair(path))
    again = compute_surface(build(), "cross_entropy", data(), **options)
    np.testing.assert_array_equal(again.metrics["train_loss"], first.metrics["train_loss"])
    assert set(read_recipes(path)) == {"x", "y"}
