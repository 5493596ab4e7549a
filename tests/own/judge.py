"""The judge of every test here: a plain loop over the user's own code, at the center and at three displaced points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paraloss.compute import compute_surface
from paraloss.surface import Surface, read_surface

POINTS = ((0.0, 0.0), (0.5, -1.0), (-0.5, 1.0), (0.5, 1.0))
AXES = {"x": (-0.5, 0.5, 3), "y": (-1.0, 1.0, 3)}


def displaced(model: nn.Module, surface: Surface, point: Sequence[float]) -> nn.Module:
    """A copy of the model at theta* + x * delta + y * eta, in evaluation mode, moved by hand."""
    moved = copy.deepcopy(model).eval()
    tensors = {**dict(moved.named_parameters()), **dict(moved.named_buffers())}
    with torch.no_grad():
        for step, direction in zip(point, (surface.directions["x"], surface.directions["y"]), strict=True):
            for name, part in direction.items():
                tensors[name] += step * torch.as_tensor(part).to(tensors[name].dtype)
    return moved


def assert_right(surface: Surface, model: nn.Module, loop: Callable[[nn.Module], dict[str, float]], rel: float = 1e-5) -> None:
    """Every metric that the user's own loop gives equals the surface's, at all of ``POINTS``."""
    for point in POINTS:
        found = surface.at(*point)
        for name, value in loop(displaced(model, surface, point)).items():
            assert found[name] == pytest.approx(value, rel=rel), f"{name} at {point}"


def surface_of(model: nn.Module, loss: Any, data: Any, **options: Any) -> Surface:
    """A small surface in this process; ``loss`` is None with a step."""
    options = {**AXES, "precision": "fp32", "progress": False, **options}
    return compute_surface(model, "cross_entropy" if loss is None else loss, data, **options)


def surface_on_ranks(file: str, folder: Path, *options: str, model: nn.Module, ranks: int = 2) -> Surface:
    """The same from the command line, on two ranks; ``file`` defines model, data and loss or step."""
    from standing import on_ranks  # not where the command line loads the tests' own file

    torch.save(model.state_dict(), folder / "weights.pt")
    precision = [] if any(option.startswith("--precision") for option in options) else ["--precision=fp32"]
    done = on_ranks(
        "compute", "--weights", folder / "weights.pt", "--model", f"{file}:build", "--data", f"{file}:data",
        "--x=-0.5:0.5:3", "--y=-1:1:3", *precision, *options, "-o", folder / "s.h5", ranks=ranks,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return read_surface(folder / "s.h5", directions=True)
