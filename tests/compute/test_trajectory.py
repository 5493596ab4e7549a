"""Trajectories against scikit-learn's PCA, formulas, and paths that are known by construction."""

import h5py
import numpy as np
import pytest
import torch
from helpers import call
from sklearn.decomposition import PCA

from paraloss import read_surface
from paraloss.compute import Evaluator, apply_checkpoint, load_checkpoint, load_criterion, load_model
from paraloss.compute.directions.files import load_directions
from paraloss.compute.directions.principal import principal_plane, project_onto
from paraloss.compute.trajectory import axes_around
from paraloss.errors import InputError


def flat(state, model):
    return np.concatenate([state[name].double().numpy().ravel() for name, _ in model.named_parameters()])


def saved(model, vectors, folder):
    """Checkpoints whose parameters are the rows of ``vectors``."""
    paths = []
    for step, vector in enumerate(vectors):
        torch.nn.utils.vector_to_parameters(torch.as_tensor(vector, dtype=torch.float64), model.parameters())
        paths.append(folder / f"epoch_{step:03d}.pt")
        torch.save(model.state_dict(), paths[-1])
    return paths


@pytest.fixture
def model():
    torch.manual_seed(0)
    return load_model("mlp", (1, 8, 8), 10, {"width": 8}).double()


def test_principal_components_are_scikit_learns(model, tmp_path):
    rng = np.random.default_rng(0)
    size = sum(p.numel() for p in model.parameters())
    vectors = np.cumsum(rng.normal(size=(9, size)) * np.linspace(3, 1, 9)[:, None], axis=0)
    paths = saved(model, vectors, tmp_path)
    found = principal_plane(model, paths)
    expected = PCA(2).fit(vectors - vectors[-1])
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_, rtol=1e-8)
    for direction, component in zip(found.directions, expected.components_, strict=True):
        mine = np.concatenate([direction[name].numpy().ravel() for name, _ in model.named_parameters()])
        assert abs(mine @ component) == pytest.approx(1, abs=1e-8)
    rows = vectors - vectors[-1]
    basis = np.stack([np.concatenate([d[n].numpy().ravel() for n, _ in model.named_parameters()]) for d in found.directions])
    np.testing.assert_allclose(np.stack([found.x, found.y], axis=1), rows @ basis.T, atol=1e-8)
    np.testing.assert_allclose(found.residual, np.linalg.norm(rows - (rows @ basis.T) @ basis, axis=1), atol=1e-6)


def test_a_path_in_a_plane_comes_back_exactly_and_another_reports_its_distance(model, tmp_path):
    rng = np.random.default_rng(1)
    center, a, b, off = rng.normal(size=(4, sum(p.numel() for p in model.parameters())))
    off -= a * (off @ a) / (a @ a)
    b -= a * (b @ a) / (a @ a)
    off -= b * (off @ b) / (b @ b)
    steps = np.array([(0.3, 0.7), (-1.0, 0.2), (0.5, 0.5), (0.0, 0.0)])
    paths = saved(model, [center + x * a + y * b for x, y in steps], tmp_path)
    named = []
    for vector in (a, b):
        torch.nn.utils.vector_to_parameters(torch.as_tensor(vector), model.parameters())
        named.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    found = project_onto(model, paths, (named[0], named[1]))
    np.testing.assert_allclose(np.stack([found.x, found.y], axis=1), steps, atol=1e-10)
    assert (found.residual < 1e-6 * np.linalg.norm(a)).all()
    lengths = project_onto(model, paths, (named[0], named[1]), "cos")
    np.testing.assert_allclose(lengths.x, steps[:, 0] * np.linalg.norm(a), rtol=1e-9, atol=1e-9)
    paths = saved(model, [center + 2.0 * off, center + a, center], tmp_path)
    found = project_onto(model, paths, (named[0], named[1]))
    assert found.residual[0] == pytest.approx(2 * np.linalg.norm(off), rel=1e-9)
    assert found.residual[1] == 0


def test_a_plane_needs_a_path_that_spans_it(model, tmp_path):
    size = sum(p.numel() for p in model.parameters())
    on_a_line = saved(model, [np.full(size, k) for k in (3.0, 2.0, 1.0)], tmp_path)
    with pytest.raises(InputError, match="one line"):
        principal_plane(model, on_a_line)
    with pytest.raises(InputError, match="three checkpoints"):
        principal_plane(model, on_a_line[:2])
    same = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    with pytest.raises(InputError, match="collinear"):
        project_onto(model, on_a_line, (same, same))
    other = load_model("mlp", (1, 8, 8), 10, {"width": 9})
    with pytest.raises(InputError, match="another model"):
        principal_plane(other, on_a_line)


def test_axes_hold_the_path_and_the_last_checkpoint_lies_on_a_step(model, tmp_path):
    vectors = np.random.default_rng(2).normal(size=(6, sum(p.numel() for p in model.parameters())))
    found = principal_plane(model, saved(model, vectors, tmp_path))
    for steps, values in zip(axes_around(found, 21, 0.2), (found.x, found.y), strict=True):
        assert steps[0] < values.min() and values.max() < steps[-1]
        assert 0.0 in steps


@pytest.mark.slow
def test_project_on_the_command_line_gives_the_path_its_own_losses_and_the_surface(trained, digits, tmp_path):
    done = call("project", trained, "--points", "5", "--precision", "fp32", "-o", tmp_path / "p.h5")
    assert done.returncode == 0, done.stderr
    assert "explained variance" in done.stderr
    surface = read_surface(tmp_path / "p.h5", directions=True)
    assert surface.is_complete and surface.shape == (5, 5)
    path = surface.trajectory
    assert len(path["x"]) == 3 and path["x"][-1] == pytest.approx(0, abs=1e-9)
    model = load_model("resnet20", (1, 8, 8), 10)
    apply_checkpoint(model, load_checkpoint(trained / "epoch_001.pt")[0], "epoch_001.pt")
    own = Evaluator(model, load_criterion("cross_entropy")[1], {"train": digits["train"]}, [])([])[0]
    assert path["loss"][1] == pytest.approx(own, rel=1e-9)
    assert path["loss"][-1] == pytest.approx(surface.at(0.0, 0.0)["train_loss"], rel=1e-6)
    # The same plane again from the file's own directions.
    again = call(
        "compute", "--weights", trained / "epoch_002.pt", "--directions", tmp_path / "p.h5", "--x=-1:1:3", "--y=-1:1:3",
        "--precision", "fp32", "-o", tmp_path / "again.h5",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert read_surface(tmp_path / "again.h5").at(0, 0)["train_loss"] == pytest.approx(path["loss"][-1], rel=1e-6)
    onto = call("project", trained, "--onto", tmp_path / "p.h5", "--points", "3", "-o", tmp_path / "onto.h5")
    assert onto.returncode == 0, onto.stderr
    np.testing.assert_allclose(read_surface(tmp_path / "onto.h5").trajectory["x"], path["x"], atol=1e-6)
    for name in ("p.pdf", "p.svg"):
        assert call("render", tmp_path / "p.h5", tmp_path / name).returncode == 0


def test_li_et_als_direction_files_go_by_number_not_by_text(tmp_path):
    torch.manual_seed(0)
    model = load_model("resnet20", (1, 8, 8), 10)
    expected = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for axis in ("xdirection", "ydirection"):
            for number, tensor in enumerate(expected.values()):
                file[f"{axis}/{number}"] = tensor.numpy()
    for direction in load_directions(tmp_path / "d.h5", model):
        assert list(direction) == list(expected)
        assert all(torch.equal(direction[name], expected[name]) for name in expected)
    with pytest.raises(InputError, match="tensors, the model has"):
        load_directions(tmp_path / "d.h5", load_model("mlp", (1, 8, 8), 10))
