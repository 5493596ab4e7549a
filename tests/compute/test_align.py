"""Hidden units are permuted to match another model: the same outputs, and an order that was mixed up comes back."""

import pickle
from itertools import permutations

import numpy as np
import pytest
import torch
from helpers import call, with_statistics
from standing import on_ranks
from torch import nn

from paraloss.compute import align
from paraloss.compute.symmetry.axes import Unit, canonical, free, index_along, product, unify
from paraloss.compute.symmetry.matching import assign
from paraloss.errors import InputError

MODEL = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.block = nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1))
        self.narrow = nn.Conv2d(6, 9, 1, stride=2)
        self.wide = nn.Conv2d(6, 9, 3, stride=2, padding=1)
        self.head = nn.Linear(9 * 2 * 2, 3)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.block(x))
        x = self.narrow(x) + self.wide(x).tanh()
        return self.head(x.flatten(1))

def net():
    return Residual()

def data():
    inputs = torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return {"train": (inputs, torch.arange(24) % 3)}
"""


class Mlp(nn.Sequential):
    shape = (4,)

    def __init__(self):
        super().__init__(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))


class Cnn(nn.Sequential):
    """Batch norm, pooling, and channels that a flatten makes blocks of columns."""

    shape = (2, 6, 6)

    def __init__(self):
        super().__init__(
            nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 8),
            nn.PReLU(8), nn.Linear(8, 3),
        )  # fmt: skip


class Padded(nn.Module):
    """A shortcut without weights: every second pixel, and channels of zeros (He et al. 2016, option A)."""

    shape = (1, 4, 4)

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head((self.norm(self.conv(x)) + short).mean(dim=(2, 3)))


class Dense(nn.Module):
    """Each layer reads all layers before (DenseNet)."""

    shape = (3, 4, 4)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + 3 * k), nn.ReLU(), nn.Conv2d(4 + 3 * k, 3, 3, padding=1)) for k in range(3)
        )
        self.head = nn.Linear(13, 3)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return self.head(x.mean(dim=(2, 3)))


class Grouped(nn.Module):
    """Group norm, a depthwise and a grouped convolution with a shuffle of channels, a convolution upwards."""

    shape = (1, 4, 4)

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 12, 1), nn.GroupNorm(3, 12)
        self.depth, self.groups = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 24, 1, groups=3)
        self.up, self.layer = nn.ConvTranspose2d(24, 6, 2, 2), nn.LayerNorm([6, 8, 8])
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.groups(self.depth(self.norm(self.stem(x)).relu()))
        n, c, h, w = x.shape
        x = x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.layer(self.up(x.relu())).amax(dim=(2, 3)))


class Transformer(nn.Module):
    """Attention in one product of three, layer norms, a hidden layer; heads and their features are units."""

    shape = (5, 4)

    def __init__(self):
        super().__init__()
        self.into, self.place = nn.Linear(4, 12), nn.Parameter(torch.randn(1, 5, 12))
        self.block = nn.TransformerEncoderLayer(12, 3, 16, batch_first=True, norm_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.block(self.into(x) + self.place).mean(dim=1))


class Recurrent(nn.Module):
    """A layer that has no rule keeps its order; what lies behind it may move."""

    shape = (5, 4)

    def __init__(self):
        super().__init__()
        self.lstm, self.hidden, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 9), nn.Linear(9, 3)

    def forward(self, x):
        return self.head(self.hidden(self.lstm(x)[0][:, -1]).relu())


QUICK = (Padded, Transformer)
NETS = [
    kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow)
    for kind in (Mlp, Cnn, Padded, Dense, Grouped, Transformer, Recurrent)
]


def made(kind, seed):
    torch.manual_seed(seed)
    model = kind()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.normal_(1, 0.3)
    return with_statistics(model, torch.randn(32, *kind.shape))


def samples(kind, count=24):
    inputs = torch.randn(count, *kind.shape, generator=torch.Generator().manual_seed(9))
    return {"train": (inputs, torch.arange(count) % 3)}


def outputs(model, state, inputs):
    model.load_state_dict(state)
    with torch.no_grad():
        return model.eval()(inputs)


@pytest.mark.parametrize("by", ["weights", pytest.param("activations", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", NETS)
def test_outputs_stay_and_units_move(kind, by):
    one, other, data = made(kind, 0), made(kind, 1), samples(kind)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    found = align(one, other, "cross_entropy", data, by=by, points=0, progress=False)
    inputs = torch.randn(40, *kind.shape)
    expected = outputs(other, before, inputs)
    assert torch.allclose(
        outputs(other, found.state, inputs), expected, rtol=0, atol=1e-5 * max(1, float(expected.abs().max()))
    )
    assert found.changed > 0
    changed = {name for name in before if not torch.equal(before[name], found.state[name])}
    assert changed and changed <= set(found.moved)
    for name, tensor in before.items():  # numbers only change places
        assert torch.equal(tensor.flatten().sort().values, found.state[name].flatten().sort().values)
    assert set(found.still) == ({"lstm"} if kind is Recurrent else set())
    if kind is Recurrent:
        assert found.moved == ("hidden.weight", "hidden.bias", "head.weight")


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETS)
def test_a_copy_in_another_order_is_put_back_to_the_bit(kind):
    one, stranger, data = made(kind, 0), made(kind, 2), samples(kind)
    mixed = align(stranger, one, data=data, points=0, progress=False)  # one's function in the stranger's order
    assert mixed.changed > 0
    back = align(one, mixed.state, data=data, points=0, progress=False)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, back.state[name]), name


def test_units_that_a_hand_has_mixed_up_are_found():
    one, other = made(Mlp, 0), made(Mlp, 0)
    first, second = torch.randperm(7), torch.randperm(5)
    with torch.no_grad():
        other[0].weight.copy_(one[0].weight[first])
        other[0].bias.copy_(one[0].bias[first])
        other[2].weight.copy_(one[2].weight[second][:, first])
        other[2].bias.copy_(one[2].bias[second])
        other[4].weight.copy_(one[4].weight[:, second])
    for by in ("weights", "activations"):
        found = align(one, other, data=samples(Mlp), by=by, points=0, progress=False)
        assert all(torch.equal(tensor, found.state[name]) for name, tensor in one.state_dict().items())


def test_the_barrier_is_that_of_a_plain_loop():
    one, other, data = made(Cnn, 0), made(Cnn, 1), samples(Cnn)
    found = align(one, other, data=data, points=5, progress=False)
    inputs, targets = data["train"]
    for when, end in (("before", other.state_dict()), ("after", found.state)):
        start, losses = {name: tensor.clone() for name, tensor in one.state_dict().items()}, {"kept": [], "recomputed": []}
        model = Cnn()
        for t in np.linspace(0, 1, 5):
            state = {n: a + float(t) * (end[n] - a) if a.is_floating_point() else a for n, a in start.items()}
            for how, values in losses.items():
                model.load_state_dict(state)
                model.eval()
                if how == "recomputed":
                    model[1].momentum = 1.0
                    model[1].train()
                    model(inputs)
                values.append(float(nn.functional.cross_entropy(outputs(model, model.state_dict(), inputs), targets)))
        for how, values in losses.items():
            excess = max(v - (values[0] + (values[-1] - values[0]) * k / 4) for k, v in enumerate(values))
            assert found.barriers[how][when]["train_loss"].height == pytest.approx(max(0, excess), abs=2e-4)


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x) if float(x.sum()) > 0 else -self.layer(x)


def test_a_model_that_decides_by_its_inputs_is_refused_in_one_line():
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"no graph that torch\.export can trace") as error:
        align(Deciding(), Deciding(), data=samples(Mlp), points=0)
    assert "\n" not in str(error.value)


def test_an_operation_that_mixes_units_by_number_changes_nothing():
    class Sorting(Mlp):
        def forward(self, x):
            hidden = self[1](self[0](x))
            return self[4](self[3](self[2](hidden * torch.arange(7.0))))

    torch.manual_seed(0)
    one, other = Sorting(), Sorting()
    found = align(one, other, data=samples(Mlp), points=0)
    assert "0.weight" not in found.moved and "4.weight" in found.moved


def test_axes_are_cut_and_factored_until_they_agree():
    heads = product([free(4), free(6)])
    halves = (*free(12), *free(12))
    unify(heads, halves)
    assert [[unit.size for unit in term] for term in canonical(heads)] == [[2, 6], [2, 6]]
    unit = Unit(6)
    axis = ((unit,), (Unit(2, fixed=True), unit))
    order = np.array([5, 4, 3, 2, 1, 0])
    assert index_along(axis, {unit: order}).tolist() == [*order, *(order + 6), *(order + 12)]


def test_groups_stay_together():
    gain = np.zeros((6, 6))
    gain[[0, 1, 2, 3, 4, 5], [3, 1, 5, 2, 0, 4]] = 1
    free_order, blocks = assign(gain), assign(gain, [3])
    assert free_order.tolist() == [3, 1, 5, 2, 0, 4]
    assert {tuple(part // 3) for part in blocks.reshape(2, 3)} == {(0, 0, 0), (1, 1, 1)}
    assert gain[np.arange(6), blocks].sum() == max(
        gain[np.arange(6), list(order)].sum() for order in permutations(range(6)) if len({k // 3 for k in order[:3]}) == 1
    )


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "net.py").write_text(MODEL)
    for name, seed in (("a", 0), ("b", 1)):
        torch.manual_seed(seed)
        namespace: dict = {}
        exec(MODEL, namespace)  # the same text as the file
        model = with_statistics(namespace["net"](), torch.randn(16, 1, 4, 4))
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
        torch.save(
            {"epoch": 3, "model": state, "optimizer": optimizer.state_dict()},
            tmp_path / f"{name}.pt",
        )
    return tmp_path


COMMON = ("--model", "net.py:net", "--data", "net.py:data", "--points", "3")


def test_the_file_has_the_form_of_the_second_one_and_its_outputs(pair):
    result = call("align", "a.pt", "b.pt", *COMMON, "-o", "c.pt", cwd=pair)
    assert result.returncode == 0, result.stderr
    assert "barrier of train_loss on the straight line" in result.stdout
    before, after = (torch.load(pair / name, weights_only=True) for name in ("b.pt", "c.pt"))
    assert list(after["model"]) == list(before["model"]) and after["epoch"] == 3
    namespace: dict = {}
    exec(MODEL, namespace)
    inputs = torch.randn(8, 1, 4, 4)
    found = [
        outputs(namespace["net"](), {n.removeprefix("module."): t for n, t in content["model"].items()}, inputs)
        for content in (before, after)
    ]
    assert (found[0] - found[1]).abs().max() < 1e-5
    assert any(not torch.equal(before["model"][name], after["model"][name]) for name in before["model"])
    again = call("align", "a.pt", "b.pt", *COMMON, "-o", "c.pt", cwd=pair)
    assert again.returncode == 2 and "c.pt: exists" in again.stderr


@pytest.mark.slow
def test_two_ranks_write_what_one_process_writes(pair):
    for name, run in (("one.pt", call), ("two.pt", on_ranks)):
        result = run("align", "a.pt", "b.pt", *COMMON, "--by", "activations", "-o", name, cwd=pair)
        assert result.returncode == 0, result.stderr
    one, two = (torch.load(pair / name, weights_only=True)["model"] for name in ("one.pt", "two.pt"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_without_data_outputs_are_compared_on_random_inputs(pair):
    result = call("align", "a.pt", "b.pt", "--model", "net.py:net", "--input-shape", "1,4,4", "-o", "c.safetensors", cwd=pair)
    assert result.returncode == 0, result.stderr
    assert "largest difference" in result.stdout and "barrier" not in result.stdout
    again = call("align", "b.pt", "c.safetensors", *COMMON, "-o", "d.pt", cwd=pair)
    assert again.returncode == 0, again.stderr


def spoiled(pair, change):
    content = torch.load(pair / "b.pt", weights_only=True)
    change(content["model"])
    torch.save(content, pair / "b.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.update({"module.head.bias": torch.zeros(4)}), "another model"),
        (lambda state: state["module.head.bias"].fill_(float("nan")), "'head.bias' holds NaN"),
        (None, "hold the same weights"),
    ],
)
def test_what_cannot_be_matched_is_one_line_and_writes_nothing(pair, change, words):
    if change is None:
        (pair / "b.pt").write_bytes((pair / "a.pt").read_bytes())
    else:
        spoiled(pair, change)
    for verb, output in (("align", "c.pt"), ("connect", "curve")):
        result = call(verb, "a.pt", "b.pt", *COMMON[:4], "-o", output, cwd=pair)
        assert result.returncode == 2 and words in result.stderr, result.stderr
        assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
        assert not (pair / output).exists()


def test_no_data_and_no_shape_is_one_line(pair):
    result = call("align", "a.pt", "b.pt", "--model", "net.py:net", "-o", "c.pt", cwd=pair)
    assert result.returncode == 2 and "--data" in result.stderr
    shape = call("align", "a.pt", "b.pt", "--model", "net.py:net", "--input-shape", "1,x", "-o", "c.pt", cwd=pair)
    assert shape.returncode == 2 and "--input-shape must be" in shape.stderr


def test_nothing_in_a_checkpoint_is_run(pair):
    class Trap:
        def __reduce__(self):
            return (eval, ("open('trapped', 'w')",))

    (pair / "b.pt").write_bytes(pickle.dumps({"model": Trap()}))
    result = call("align", "a.pt", "b.pt", *COMMON, "-o", "c.pt", cwd=pair)
    assert result.returncode == 2 and not (pair / "trapped").exists()
