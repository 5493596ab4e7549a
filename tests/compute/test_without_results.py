"""Surfaces without a finite value, or without any: said in a line, and no file of nothing is left."""

import numpy as np
import pytest
import torch
from helpers import call
from torch import nn

from paraloss.compute import compute_surface
from paraloss.errors import InputError, ParalossError
from paraloss.surface import read_surface

OPTIONS = {"x": (-1, 1, 3), "curve": True, "precision": "fp32", "progress": False}


class Once(torch.autograd.Function):
    """The square, without a second derivative."""

    @staticmethod
    def forward(context, value):
        context.save_for_backward(value)
        return value * value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        (value,) = context.saved_tensors
        return 2 * value * gradient


def once(outputs, targets):
    return Once.apply(outputs[:, 0] - targets)


def lost(outputs, targets):
    return torch.where(outputs[:, 0] < torch.inf, torch.nan, outputs[:, 0])


def lost_there(outputs, targets):
    """Only where the model is not at its center, where it gives 1."""
    return torch.where((outputs[:, 0] - 1).abs() < 1e-3, outputs[:, 0], torch.nan)


def build():
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 0.5)
    return model


def data():
    return torch.ones(4, 2), torch.zeros(4)


def test_a_job_that_can_evaluate_no_point_leaves_no_file(tmp_path):
    path = tmp_path / "s.h5"
    with pytest.raises(InputError, match="has no second derivative"):
        compute_surface(build(), once, data(), metrics="loss,hessian", path=path, **OPTIONS)
    assert list(tmp_path.iterdir()) == []
    compute_surface(build(), once, data(), path=path, **OPTIONS)
    kept = path.read_bytes()
    with pytest.raises(ParalossError, match="other settings"):
        compute_surface(build(), once, data(), metrics="loss,hessian", path=path, **OPTIONS)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("linked", [False, True])
def test_what_was_overwritten_returns_where_no_point_can_be_evaluated(tmp_path, linked):
    real, path = tmp_path / "real.h5", tmp_path / "s.h5"
    if linked:
        path.symlink_to(real)
    compute_surface(build(), once, data(), path=path, **OPTIONS)
    kept = path.read_bytes()
    with pytest.raises(InputError, match="has no second derivative"):
        compute_surface(build(), once, data(), metrics="loss,hessian", path=path, overwrite=True, **OPTIONS)
    assert path.read_bytes() == kept and path.is_symlink() is linked
    assert sorted(file.name for file in tmp_path.iterdir()) == (["real.h5", "s.h5"] if linked else ["s.h5"])


@pytest.mark.parametrize(("error", "kept"), [(MemoryError("out of luck"), False), (KeyboardInterrupt(), True)])
@pytest.mark.parametrize("before", [False, True])
def test_an_error_at_the_first_point_leaves_what_was_there_and_an_interruption_what_is_gone_on_with(
    tmp_path, error, kept, before
):
    path, calls = tmp_path / "s.h5", []
    if before:
        compute_surface(build(), once, data(), path=path, **OPTIONS)
    old = path.read_bytes() if before else b""

    def ends(outputs, targets):
        if path.exists() and (not before or path.read_bytes() != old):  # what comes before only tries the loss out
            calls.append(1)
            raise error
        return once(outputs, targets)

    with pytest.raises((ParalossError, KeyboardInterrupt)):
        compute_surface(build(), ends, data(), path=path, overwrite=before, **OPTIONS)
    assert calls
    if before:
        assert path.read_bytes() == old
    else:
        assert [file.name for file in tmp_path.iterdir()] == (["s.h5"] if kept else [])
        assert not kept or not read_surface(path).status.any()


def test_a_file_that_somebody_else_put_there_meanwhile_stays(tmp_path):
    path = tmp_path / "s.h5"

    def replaced(outputs, targets):
        if path.exists():
            (tmp_path / "other").write_text("another's")
            (tmp_path / "other").replace(path)
        return once(outputs, targets)

    with pytest.raises(InputError, match="has no second derivative"):
        compute_surface(build(), replaced, data(), metrics="loss,hessian", path=path, **OPTIONS)
    assert path.read_text() == "another's"


def test_losses_that_are_not_finite_are_told_and_not_drawn(tmp_path):
    torch.save(build().state_dict(), tmp_path / "m.pt")
    own = (
        "--weights",
        tmp_path / "m.pt",
        "--model",
        f"{__file__}:build",
        "--data",
        f"{__file__}:data",
        "--curve",
        "--x=-1:1:3",
    )
    done = call("compute", *own, "--loss", f"{__file__}:lost", "-o", tmp_path / "lost.h5")
    assert done.returncode == 0 and "3 of 3 points are not finite, the checkpoint's own too" in done.stderr
    done = call("render", tmp_path / "lost.h5", tmp_path / "lost.png")
    assert done.returncode == 2 and "no loss of a curve is finite" in done.stderr and not (tmp_path / "lost.png").exists()
    done = call("compute", *own, "--loss", f"{__file__}:lost_there", "-o", tmp_path / "part.h5")
    assert done.returncode == 0 and "not finite" not in done.stderr
    assert np.isfinite(read_surface(tmp_path / "part.h5").metrics["train_loss"]).tolist() == [False, True, False]
