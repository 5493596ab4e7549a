"""Axes along the gradient, the worst direction, eigenvectors, momentum and others, against plain loops away from the center."""

import numpy as np
import pytest
import torch
from helpers import call
from matplotlib.figure import Figure
from standing import on_ranks
from torch import nn
from torch.nn.functional import cross_entropy

from paraloss import compute_surface
from paraloss.compute import compute_ensemble
from paraloss.errors import InputError
from paraloss.rendering import render
from paraloss.surface import DONE, Surface, read_surface
from paraloss.ways import way_in_words

FAST = {"precision": "fp32", "progress": False}


@pytest.fixture
def problem():
    """A model near a minimum, its data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    inputs = torch.randn(90, 4)
    targets = (inputs @ torch.randn(4, 3)).argmax(dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, (inputs, targets), optimizer


def flat(direction, model):
    """All numbers of a direction in the order of the parameters; zero where it names none."""
    return np.concatenate(
        [np.asarray(direction.get(name, np.zeros(tuple(p.shape)))).ravel() for name, p in model.named_parameters()]
    ).astype(float)


def weights(model):
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]).astype(float)


def loss_at(model, data, direction, step):
    moved = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    place = torch.tensor(weights(model) + step * flat(direction, model), dtype=torch.float32)
    torch.nn.utils.vector_to_parameters(place, moved.parameters())
    with torch.no_grad():
        return float(cross_entropy(moved(data[0]).double(), data[1]))


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def gradient_of(model, data):
    found = torch.autograd.grad(cross_entropy(model(data[0]), data[1]), list(model.parameters()))
    return torch.cat([part.flatten() for part in found]).numpy().astype(float)


def check_losses(surface, model, data, steps=(-1.0, 1.0)):
    """The losses of a curve are those of a plain loop along its own direction."""
    for step in steps:
        at = int(np.abs(surface.x - step).argmin())
        assert surface.metric()[at] == pytest.approx(loss_at(model, data, surface.directions["x"], step), rel=1e-5)


def test_the_gradient_is_that_of_a_plain_loop_at_the_length_of_the_weights(problem):
    model, data, _ = problem
    before = weights(model)
    surface = compute_surface(model, data=data, x=(-1, 1, 3), curve=True, along="gradient", **FAST)
    direction = flat(surface.directions["x"], model)
    assert cosine(direction, gradient_of(model, data)) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(direction) == pytest.approx(np.linalg.norm(before), rel=1e-5)
    check_losses(surface, model, data)
    np.testing.assert_array_equal(weights(model), before)
    assert surface.provenance["directions"][0] == {"along": "gradient"}


def test_eigenvectors_are_those_of_the_dense_hessian_of_the_weights(problem):
    model, data, _ = problem
    surface = compute_surface(model, data=data, x=(-1, 1, 3), y=(-1, 1, 3), along=["eigenvector:2", "eigenvector:1"], **FAST)
    parts = [p for p in model.parameters() if p.ndim > 1]
    sizes = [p.numel() for p in parts]

    def loss(numbers):
        first, last = numbers.split(sizes)
        hidden = torch.tanh(data[0].double() @ first.reshape(6, 4).T + model[0].bias.detach().double())
        return cross_entropy(hidden @ last.reshape(3, 6).T + model[2].bias.detach().double(), data[1])

    center = torch.cat([p.detach().flatten() for p in parts]).double()
    values, vectors = torch.linalg.eigh(torch.autograd.functional.hessian(loss, center))
    order = values.abs().argsort(descending=True)
    for axis, place in (("x", order[1]), ("y", order[0])):
        found = surface.directions[axis]
        mine = np.concatenate([np.asarray(found[name]).ravel() for name in ("0.weight", "2.weight")])
        assert abs(cosine(mine, vectors[:, place].numpy())) > 0.999
        assert np.linalg.norm(mine) == pytest.approx(float(center.norm()), rel=1e-5)


def test_along_the_worst_direction_the_loss_rises_more_than_along_others_of_the_same_filters(problem):
    model, data, _ = problem
    surface = compute_surface(model, data=data, x=(-0.5, 0.5, 3), curve=True, along="worst:0.5", **FAST)
    worst = surface.directions["x"]
    for name, weight in model.named_parameters():
        wanted = np.linalg.norm(weight.detach().numpy(), axis=1) if weight.ndim > 1 else 0.0
        got = np.linalg.norm(worst[name], axis=1) if weight.ndim > 1 else np.abs(worst[name]).max()
        np.testing.assert_allclose(got, wanted, rtol=1e-4)
    reached = loss_at(model, data, worst, 0.5)
    assert surface.metric()[-1] == pytest.approx(reached, rel=1e-5)
    others = []
    for seed in range(20):
        other = compute_surface(model, data=data, x=(-0.5, 0.5, 3), curve=True, seed=seed, **FAST)
        others += [other.metric()[0], other.metric()[-1]]
    assert reached > max(others)


def test_task_vectors_and_differences_lead_where_they_say(problem, tmp_path):
    model, data, _ = problem
    torch.manual_seed(5)
    states = {name: {key: torch.randn_like(part) for key, part in model.state_dict().items()} for name in ("base", "other")}
    for name, state in states.items():
        torch.save(state, tmp_path / f"{name}.pt")
    base, other = (f"{tmp_path}/{name}.pt" for name in states)
    ways = [f"task:{base}", f"delta:{base},{other}", f"to:{other}"]
    surface = compute_surface(model, data=data, x=(-1, 1, 3), y=(0, 1, 2), z=(0, 1, 2), along=ways, **FAST)
    vectors = {name: np.concatenate([part.numpy().ravel() for part in state.values()]) for name, state in states.items()}
    center = weights(model)
    for axis, expected in (
        ("x", center - vectors["base"]), ("y", vectors["other"] - vectors["base"]), ("z", vectors["other"] - center)
    ):  # fmt: skip
        np.testing.assert_allclose(flat(surface.directions[axis], model), expected, atol=1e-6)
    model.load_state_dict(states["base"])
    with torch.no_grad():
        expected = float(cross_entropy(model(data[0]).double(), data[1]))
    assert surface.metric()[0, 0, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["Adam", "SGD"])
def test_the_momentum_is_the_optimizers(kind, problem, tmp_path):
    model, data, adam = problem
    optimizer = adam
    if kind == "SGD":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    key = {"Adam": "exp_avg", "SGD": "momentum_buffer"}[kind]
    torch.save({"epoch": 3, "optim": optimizer.state_dict()}, tmp_path / "o.pt")
    surface = compute_surface(model, data=data, x=(-1, 1, 3), curve=True, along=f"momentum:{tmp_path}/o.pt", **FAST)
    expected = np.concatenate([optimizer.state[p][key].numpy().ravel() for p in model.parameters()])
    assert cosine(flat(surface.directions["x"], model), expected) == pytest.approx(1, abs=1e-5)
    check_losses(surface, model, data)


def test_principal_components_are_those_of_the_run(problem, tmp_path):
    model, data, _ = problem
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "run").mkdir()
    for number in range(6):
        row = weights(model) + rng.normal(size=51) * (6 - number) / 3
        rows.append(row)
        torch.nn.utils.vector_to_parameters(torch.tensor(row, dtype=torch.float32), model.parameters())
        torch.save(model.state_dict(), tmp_path / "run" / f"epoch_{number}.pt")
    way = f"pca:{tmp_path}/run"
    surface = compute_surface(model, data=data, x=(-1, 1, 3), y=(-1, 1, 3), along=[way, way], **FAST)
    centered = np.array(rows) - np.mean(rows, axis=0)
    components = np.linalg.svd(centered, full_matrices=False)[2]
    for axis, component in zip("xy", components, strict=False):
        assert abs(cosine(flat(surface.directions[axis], model), component)) == pytest.approx(1, abs=1e-4)


def test_only_what_moves_is_in_a_direction(problem):
    model, data, _ = problem
    for way in ("gradient", "worst", "eigenvector"):
        surface = compute_surface(model, data=data, x=(-1, 1, 3), curve=True, along=way, move="2.weight", **FAST)
        assert [name for name, part in surface.directions["x"].items() if np.any(part)] == ["2.weight"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"along": "gradients"}, "there are random, gradient"),
        ({"along": "worst:0"}, "along worst:0"),
        ({"along": "eigenvector:1.5"}, "eigenvector:K"),
        ({"along": "eigenvector:40000"}, "top must lie between"),
        ({"along": "delta:a.pt"}, "delta:FROM,TO"),
        ({"along": "momentum"}, "momentum:FILE"),
        ({"along": "gradient", "x_to": "a.pt"}, "along and x_to both say"),
        ({"along": ["gradient"] * 4}, "for x, y and z"),
        ({"along": ["gradient"] * 3}, "more axes than there are"),
    ],
)
def test_what_cannot_be_an_axis_is_said_in_one_line(options, words, problem):
    model, data, _ = problem
    with pytest.raises(InputError, match=words):
        compute_surface(model, data=data, x=(-1, 1, 3), **options, **FAST)


def test_planes_without_a_random_direction_are_not_repeated(problem, tmp_path):
    model, data, _ = problem
    options = {"x": (-1, 1, 3), "path": tmp_path / "e.h5", "repeats": 2, **FAST}
    with pytest.raises(InputError, match="here none is random"):
        compute_ensemble(model, "cross_entropy", data, along=["gradient", "eigenvector:1"], **options)
    compute_ensemble(model, "cross_entropy", data, along="gradient", **options)
    members = [read_surface(path, directions=True) for path in sorted(tmp_path.glob("e_*.h5"))]
    assert len(members) == 2
    assert np.array_equal(members[0].directions["x"]["0.weight"], members[1].directions["x"]["0.weight"])
    assert not np.array_equal(members[0].directions["y"]["0.weight"], members[1].directions["y"]["0.weight"])


def test_states_that_do_not_fit_are_refused(problem, tmp_path):
    model, data, _ = problem
    groups = torch.optim.SGD([{"params": [model[0].weight]}, {"params": [model[2].weight]}], lr=0.1, momentum=0.9)
    other = torch.optim.Adam(nn.Linear(3, 3).parameters())
    cases = {"no optimizer's state_dict": {"a": 1}, "in 2 groups": groups.state_dict(), "of the model's 4": other.state_dict()}
    for words, content in cases.items():
        torch.save(content, tmp_path / "o.pt")
        with pytest.raises(InputError, match=words):
            compute_surface(model, data=data, x=(-1, 1, 3), along=f"momentum:{tmp_path}/o.pt", **FAST)


def test_the_command_resumes_and_refuses_another_way(trained, tmp_path):
    command = ["compute", "--weights", trained / "final.pt", "--x=-0.1:0.1:3", "--samples", "30", "-o", tmp_path / "s.h5"]
    command += ["--along", "gradient", "--along", "random", "--precision", "fp32"]
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert "x along the gradient, y random" in done.stderr
    surface = read_surface(tmp_path / "s.h5", directions=True)
    assert surface.shape == (3, 3) and surface.provenance["directions"][0]["along"] == "gradient"
    assert call(*command).returncode == 0

    other = call(*[part if part != "gradient" else "worst" for part in command])
    assert other.returncode == 2 and "directions.x.along is gradient there, worst now" in other.stderr


def test_pictures_say_what_their_axes_run_along(monkeypatch, tmp_path):
    ways = ["gradient", "eigenvector:2", "delta:/tmp/a.pt,b.pt"]
    facts = [{"along": "gradient"}, {"along": "eigenvector", "number": 2}, {"along": "delta", "from": "1", "to": "2"}]
    provenance = {"directions": facts, "options": {"along": ways}}
    assert [way_in_words(provenance, axis) for axis in "xyz"] == ["the gradient", "Hessian eigenvector 2", "a.pt to b.pt"]
    line = {"directions": [{"to": "1", "type": "states"}], "options": {"along": ["to:runs/b.pt"]}}
    assert way_in_words(line, "x") == "the line to b.pt"
    odd = (
        {"directions": 3},
        {"directions": [7]},
        {"directions": [{"along": []}], "options": {"along": 4}},
        {"directions": [{}]},
    )
    assert {way_in_words(each, "x") for each in odd} == {""}
    found, before = [], Figure.savefig

    def saved(figure, *given, **more):
        found.extend(text for axis in figure.axes for text in (axis.get_xlabel(), axis.get_ylabel()))
        return before(figure, *given, **more)

    monkeypatch.setattr(Figure, "savefig", saved)
    x = np.linspace(-1, 1, 5)
    values = np.add.outer(x**2, x**2) + 0.1
    surface = Surface(x=x, y=x, metrics={"train_loss": values}, status=np.full((5, 5), DONE, np.uint8), provenance=provenance)
    render([surface], tmp_path / "contours.png", style="contour")
    assert found[:2] == ["step along the gradient", "step along Hessian eigenvector 2"]
    curve = Surface(x=x, y=None, metrics={"train_loss": values[0]}, status=np.full(5, DONE, np.uint8), provenance=provenance)
    render([curve], tmp_path / "curve.png")
    assert "step along the gradient" in found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["mpi", "torch"])
def test_ranks_take_the_directions_of_rank_0(engine, trained, tmp_path):
    command = ["compute", "--weights", trained / "final.pt", "--x=-0.1:0.1:3", "--samples", "30", "--precision", "fp32"]
    command += ["--along", "worst:0.05", "--along", "gradient"]
    assert call(*command, "-o", tmp_path / "one.h5").returncode == 0
    done = on_ranks(*command, "-o", tmp_path / "many.h5", ranks=3, engine=engine)
    assert done.returncode == 0, done.stderr
    one, many = (read_surface(tmp_path / name) for name in ("one.h5", "many.h5"))
    np.testing.assert_allclose(many.metric(), one.metric(), rtol=1e-4)
