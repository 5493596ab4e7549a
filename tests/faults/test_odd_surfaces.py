"""Every verb on surfaces that are legal and strange: a result, or one line and exit code 2; never a traceback."""

import numpy as np
import pytest

from paraloss.cli import main
from paraloss.surface import DONE, NOT_FINITE, PENDING, Surface

FORMATS = [".vts", ".vtp", ".vti", ".hdf", ".vtkhdf", ".glb", ".usda", ".ply", ".stl", ".npz", ".csv", ".pvd", ".h5"]


def odd(values, axes, pending=None, **more):
    values = np.asarray(values, float)
    status = np.where(np.isfinite(values), DONE, NOT_FINITE).astype(np.uint8)
    if pending is not None:
        values, status = np.where(pending, np.nan, values), np.where(pending, PENDING, status).astype(np.uint8)
    metrics = {"train_loss": values, "train_acc": np.where(np.isfinite(values), 50.0, np.nan)}
    x, y, z = (*axes, None, None)[:3]
    return Surface(x, y, metrics, status, more.get("provenance", {}), trajectory=more.get("trajectory"), z=z)


def surfaces():
    x, y, z = np.linspace(-1, 1, 9), np.linspace(0, 2, 7), np.linspace(-1, 1, 5)
    a, b = np.meshgrid(x, y)
    scattered = np.random.default_rng(0).random(a.shape) > 0.5
    deep = x**2 + y[:, None] ** 2 + z[:, None, None] ** 2
    path = np.array([0.5, 0.2, np.nan, 9.0, 0.0])
    names = ("x", "y", "loss", "step", "residual")
    strange = {"model": {"a": 1}, "trained": None, "directions": "x", "samples": 3, "explained_variance_ratio": "no"}
    return {
        "nothing finite": odd(a * np.nan, (x, y)),
        "nothing evaluated": odd(a, (x, y), np.ones(a.shape, bool)),
        "flat": odd(0 * a + 3, (x, y)),
        "zero": odd(0 * a, (x, y)),
        "negative": odd(a - 5, (x, y)),
        "both signs": odd(a * b, (x, y)),
        "three hundred decades": odd(10.0 ** (150 * a + b), (x, y)),
        "partly infinite": odd(np.where(a > 0.5, np.inf, a**2 + b), (x, y)),
        "one finite point": odd(np.where((a == 0) & (b == 0), 1, np.nan), (x, y)),
        "holes": odd(a**2 + b, (x, y), scattered),
        "two by two": odd([[1, 2], [3, 4]], (x[:2], y[:2])),
        "tiny losses": odd(1e-12 * (a**2 + b**2), (x, y)),
        "a curve": odd(x**2, (x,)),
        "a curve of nothing": odd(x * np.nan, (x,)),
        "a volume": odd(deep, (x, y, z)),
        "a volume of nothing": odd(deep * np.nan, (x, y, z)),
        "a broken path": odd(a**2 + b**2, (x, y), trajectory=dict.fromkeys(names, path)),
        "a path of one": odd(a**2 + b**2, (x, y), trajectory=dict.fromkeys(names, path[:1])),
        "strange facts": odd(a**2 + b**2, (x, y), provenance=strange),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", surfaces())
def test_every_verb_ends_well_on(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PARALOSS_TRACEBACK", "1")  # a fault of ours is raised, not told
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    surfaces()[name].save("s.h5")
    commands = [["convert", "s.h5", f"o{ending}"] for ending in FORMATS]
    commands += [["convert", "s.h5", "l.vtp", "--li2018"], ["convert", "s.h5", "o.vts", "--smooth", "3", "--zmax", "1"]]
    commands += [["info", "s.h5"], ["analyze", "s.h5"], ["analyze", "s.h5", "--critical-points", "c.vtp", "--basins", "b.vts"]]
    extras: list[list[str]] = [[], ["--axes", "--floor", "--contours", "5", "--minimum"], ["--look", "dark", "--zmax", "0.5"]]
    extras += [["--no-log", "--smooth", "2"], ["--color-by", "train_acc"]]
    extras += [["--style", style] for style in ("contour", "filled", "heat")]
    commands += [["render", "s.h5", "p.png", "--backend", "pyvista", "--size", "200x150", *extra] for extra in extras]
    pair = ["render", "s.h5", "s.h5", "p.png", "--backend", "pyvista", "--size", "200x150"]
    commands += [[*pair, "--difference"], [*pair, "--overlay"], ["render", "s.h5", "p.html"], ["render", "s.h5", "p.svg"]]
    movie = ["render", "s.h5", "p.gif", "--frames", "2", "--size", "100x100", "--movie"]
    commands += [[*movie, "orbit"], [*movie, "walk"]]
    for command in commands:
        code = 0
        try:
            main(command)
        except SystemExit as end:
            code = end.code or 0
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("paraloss: ")]
        assert (code, len(told)) in ((0, 0), (2, 1)), (command, told)
    assert not list(tmp_path.glob(".*")), "a temporary file was left"
