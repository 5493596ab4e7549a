"""The sample data, the figures that the README gives of them, and that a demo repeats them."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import BIN, loss_of_a_sample, run

from paraloss import examples
from paraloss.analysis.numbers import basin_area, convex_share, roughness
from paraloss.compute import load_data
from paraloss.errors import InputError
from paraloss.surface import read_directions, read_surface

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize(("data", "words"), [("", "basin"), ("cifar10_", "Basin")])
def test_the_figures_in_the_readme_are_those_of_the_sample_surfaces(data, words):
    with_, without = (examples.surface(f"{data}{name}") for name in ("resnet56", "resnet56_noshort"))
    basins, convex = ([f"{100 * f(s):.0f}" for s in (with_, without)] for f in (basin_area, lambda s: convex_share(s.metric())))
    rough = [f"{roughness(s):.3f}" for s in (with_, without)]
    text = re.sub(r"\s+", " ", README.read_text())
    numbers = f"{words} {basins[0]} and {basins[1]} % of the plot, convex {convex[0]} and {convex[1]} %, "
    assert f"{numbers}roughness {rough[0]} and {rough[1]}" in text
    if data:
        errors = [100 - surface.provenance["trained"]["test_acc"] for surface in (with_, without)]
        assert f"test errors of {errors[0]:.1f} and {errors[1]:.1f} %" in text
        assert basin_area(with_) > basin_area(without) and roughness(with_) < roughness(without)


@pytest.mark.slow
def test_the_demo_on_two_ranks_gives_the_values_of_the_sample_surfaces(tmp_path):
    done = run("demo", "-o", "d", "--grid", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("resnet56", "resnet56_noshort"):
        here, there = read_surface(tmp_path / "d" / f"{name}.h5"), examples.surface(name)
        np.testing.assert_allclose(here.metrics["train_loss"], there.metrics["train_loss"][::25, ::25], rtol=1e-4)


@pytest.mark.slow
def test_a_sample_network_and_its_surface_belong_together(tmp_path):
    """The corners on two threads; three points away from the center, by a plain pass over the samples."""
    surface = examples.surface("resnet56")
    command = [str(BIN / "paraloss"), "compute", "--weights", str(examples.checkpoint("resnet56")), "--x=-0.5:0.5:2"]
    command += ["--y=-0.5:0.5:2", "--samples", "256", "--precision", "fp32", "-o", "corners.h5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    corners = read_surface(tmp_path / "corners.h5").metrics["train_loss"]
    np.testing.assert_allclose(corners, surface.metrics["train_loss"][::50, ::50], rtol=1e-4)
    split, directions = load_data("digits")["train"].subset(256), read_directions(tmp_path / "corners.h5")
    for row, column in ((0, 0), (13, 40), (50, 25)):
        loss = loss_of_a_sample("resnet56", directions, (surface.x[column], surface.y[row]), split)
        assert surface.metrics["train_loss"][row, column] == pytest.approx(loss, rel=1e-4)


def test_an_unknown_sample_is_refused():
    there = "cifar10_resnet56, cifar10_resnet56_noshort, resnet56, resnet56_noshort"
    with pytest.raises(InputError, match=f"no sample network 'resnet18'; there are {there}"):
        examples.surface("resnet18")
