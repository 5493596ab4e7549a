"""The paper's figure on CIFAR-10, from the networks that travel with Paraloss; random images stand for the 60,000."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import call, loss_of_a_sample, needs_paraview, run, write_cifar_batches

from paraloss import examples, processes
from paraloss.compute import load_checkpoint, load_data
from paraloss.surface import read_directions, read_surface

HOUSE = Path(__file__).resolve().parents[2]
NETWORKS = ("cifar10_resnet56", "cifar10_resnet56_noshort")
RECIPE = ("recipe", "progressive", "precision", "epochs", "lr", "weight_decay", "batch_size", "seed")


@pytest.fixture
def with_images(tmp_path):
    """The environment in which ``--data cifar10`` finds 100 random images."""
    write_cifar_batches(tmp_path / "home" / "cifar10", 20)
    return {**os.environ, "PARALOSS_DATA": str(tmp_path / "home")}


@pytest.mark.slow
def test_the_demo_on_cifar10_computes_the_surfaces_of_its_sample_networks(with_images, tmp_path, monkeypatch):
    done = run(
        "demo", "--cifar10", "-o", "d", "--grid", "3", "--samples", "100", cwd=tmp_path, environment=with_images, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert "paraloss data" not in done.stderr  # the images are there
    assert (tmp_path / "d" / "figure1.png").stat().st_size > 10_000
    monkeypatch.setenv("PARALOSS_DATA", with_images["PARALOSS_DATA"])
    split = load_data("cifar10")["train"]
    for name in NETWORKS:
        surface, directions = (read(tmp_path / "d" / f"{name}.h5") for read in (read_surface, read_directions))
        for row, column in ((0, 0), (1, 2), (2, 1)):
            loss = loss_of_a_sample(name, directions, (surface.x[column], surface.y[row]), split)
            assert surface.metrics["train_loss"][row, column] == pytest.approx(loss, rel=1e-4)


def test_the_demo_fetches_missing_images_first_and_trains_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv("PARALOSS_DATA", str(tmp_path / "nowhere"))
    steps = []

    def record(command, **_options):
        words = list(map(str, command))
        steps.append(words[words.index("paraloss") + 1 :])
        return subprocess.CompletedProcess(command, 0 if steps[-1][0] == "data" else 3)

    monkeypatch.setattr(processes, "run", record)
    done = call("demo", "--cifar10", "--train", "--ranks", "1", "-o", "d", cwd=tmp_path)
    assert done.returncode == 2
    assert "the step 'paraloss train' failed with exit code 3" in done.stderr
    assert steps[0] == ["data", "cifar10"]
    expected = "--model resnet56 --data cifar10 --recipe cifar --progressive --precision auto --lr 0.05 --epochs 25"
    assert " ".join(steps[1]) == f"train {expected} -o d/cifar10_resnet56"


@pytest.mark.slow
@pytest.mark.paraview
def test_one_command_makes_every_part_of_figure_1_and_its_table(with_images, tmp_path):
    needs_paraview()
    out = tmp_path / "f"
    command = [sys.executable, str(HOUSE / "docs" / "figure1.py"), "-o", str(out), "--x=-1:1:5", "--samples", "50"]
    done = subprocess.run(command, env=with_images, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    parts = {"surfaces.png", "contours.pdf", "curves.pdf", "surfaces.html", "caption.txt", "figure1.png"}
    assert names == parts | {f"{name}{end}.h5" for name in NETWORKS for end in ("", "_curve")}
    for name, paper in (("resnet56", "5.89"), ("resnet56_noshort", "13.31")):
        error = 100 - load_checkpoint(examples.checkpoint(f"cifar10_{name}"))[1]["test_acc"]
        assert re.search(rf"^{name} +{error:.2f} % +{paper} % ", done.stdout, re.MULTILINE), done.stdout


def test_a_sample_of_the_real_figure_is_small_and_says_what_it_is():
    """What travels with every installation: at most 2 MB a network, 200 kB a surface, of the recipe that both share."""
    recipes = set()
    for name in NETWORKS:
        path = examples.checkpoint(name)
        assert path.stat().st_size <= 2_000_000
        assert path.with_suffix(".h5").stat().st_size <= 200_000
        record = load_checkpoint(path)[1]
        assert record["data"] == "cifar10"
        assert record["epoch"] == record["epochs"] >= 25
        assert record["train_acc"] > record["test_acc"]  # both are there once the training has ended
        recipes.add(tuple((key, record[key]) for key in RECIPE))
        surface = examples.surface(name)
        assert np.isfinite(surface.metrics["train_loss"]).all()
        assert surface.provenance["checkpoint_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(recipes) == 1
