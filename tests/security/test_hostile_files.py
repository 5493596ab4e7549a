"""Files from elsewhere: links out of them, escapes in names, formulas, and sizes that are a lie or a trap."""

import csv
import json
import os
import zipfile

import h5py
import numpy as np
import pytest
import torch
from helpers import call, surface_of

from paraloss.compute.directions.files import load_directions
from paraloss.compute.inputs.models import MODELS
from paraloss.converters import open_surface
from paraloss.errors import ParalossError, SurfaceFileError
from paraloss.surface import Surface, SurfaceWriter, read_directions, read_outline, read_surface
from paraloss.surface.summary import MOST_VALUES, read_summary

ESCAPE = "\x1b]0;owned\x07\x1b[31m"


@pytest.fixture
def folder(tmp_path):
    """A surface with directions and a trajectory, a file of secrets, and a pipe that hangs whoever opens it."""
    values = {"x": {"fc.weight": np.ones((2, 3))}, "y": {"fc.weight": np.ones((2, 3))}}
    plain = surface_of(lambda x, y: x**2 + y**2, nx=5)
    path = {"x": np.zeros(3), "y": np.zeros(3), "loss": np.ones(3)}
    runs = {"a": path, "b": path}
    Surface(plain.x, plain.y, plain.metrics, plain.status, {}, values, path, trajectories=runs).save(tmp_path / "s.h5")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["trajectory/x"] = file["trajectory/y"] = np.arange(3.0)
        file["directions/x/fc.weight"] = file["x/fc.weight"] = np.ones((2, 3))
        file["values"] = np.ones((5, 5))
        file["axis"] = np.arange(5.0)
    os.mkfifo(tmp_path / "pipe.h5")
    return tmp_path


LINKS = {
    "trajectory": "/trajectory",
    "directions": "/directions",
    "directions/x": "/x",
    "directions/x/fc.weight": "/x/fc.weight",
    "trajectory/x": "/trajectory/x",
    "trajectories": "/trajectory",
    "trajectories/1": "/trajectory",
    "trajectories/1/x": "/trajectory/x",
    "xcoordinates": "/axis",
    "ycoordinates": "/axis",
    "status": "/values",
    "ranges": "/trajectory",
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["external", "pipe", "soft"])
def test_no_component_of_a_path_leads_out_of_the_file(folder, name, kind):
    with h5py.File(folder / "s.h5", "r+") as file:
        del file[name]
        if kind == "soft":
            file["other/place"] = np.arange(5.0)
            file[name] = h5py.SoftLink("/other/place")
        else:
            file[name] = h5py.ExternalLink("secret.h5" if kind == "external" else "pipe.h5", LINKS[name])
    if name.startswith("directions"):
        readers = [read_directions, lambda path: read_surface(path, directions=True)]
    else:
        readers = [read_outline] if name == "ranges" else [read_surface, read_outline, open_surface]
    for read in readers:
        with pytest.raises(SurfaceFileError, match="links to other files"):
            read(folder / "s.h5")


@pytest.mark.parametrize("target", ["secret.h5", "pipe.h5"])
def test_linked_metrics_are_not_read_and_never_written(folder, target):
    with h5py.File(folder / "s.h5", "r+") as file:
        del file["train_loss"]
        file["train_loss"] = h5py.ExternalLink(target, "/values")
        file.attrs["fingerprint"] = '{"seed": 1}'
    assert "train_loss" not in read_surface(folder / "s.h5").metrics
    before = (folder / "secret.h5").read_bytes()
    with pytest.raises(SurfaceFileError):
        SurfaceWriter(folder / "s.h5", surface_of(lambda x, y: x, nx=5), {"seed": 1})
    assert (folder / "secret.h5").read_bytes() == before


@pytest.mark.parametrize("target", ["secret.h5", "pipe.h5"])
def test_li_et_als_files_are_held_to_the_same(folder, target):
    with h5py.File(folder / "directions.h5", "w") as file:
        file["xdirection"] = h5py.ExternalLink(target, "/x")
    with pytest.raises(SurfaceFileError, match="links to other files"):
        load_directions(folder / "directions.h5", torch.nn.Linear(3, 2))
    with h5py.File(folder / "li.h5", "w") as file:
        file["xcoordinates"] = np.arange(5.0)
        file["ycoordinates"] = h5py.ExternalLink(target, "/axis")
        file["train_loss"] = np.ones(25)
    with pytest.raises(ParalossError):
        open_surface(folder / "li.h5")


def test_names_out_of_files_do_not_steer_the_terminal(tmp_path):
    plain = surface_of(lambda x, y: x**2, nx=5)
    facts = {"model": ESCAPE, "criterion": {ESCAPE: ESCAPE}, "trained": {}}
    Surface(plain.x, plain.y, {f"{ESCAPE}_loss": plain.metric()}, plain.status, facts).save(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["format_note"] = ESCAPE
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.attrs["format"] = ESCAPE
    state = {"state_dict": {ESCAPE: torch.ones(2)}, "paraloss": {ESCAPE: ESCAPE}}
    torch.save(state, tmp_path / "w.pt")
    commands = [["info", "s.h5"], ["info", "bad.h5"], ["info", "w.pt"], ["analyze", "s.h5"], ["render", "s.h5", "p.svg"]]
    commands += [["render", "s.h5", "p.png", "--metric", "none"], ["compute", "--weights", "w.pt", "--data", "digits"]]
    for command in commands:
        done = call(*command, cwd=tmp_path)
        assert "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout + done.stderr, command
    assert "\x1b" not in (tmp_path / "p.svg").read_text()


def test_a_spreadsheet_takes_no_name_for_a_formula(tmp_path):
    plain = surface_of(lambda x, y: x - 1, nx=3, ny=3)
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", " =1", "a\n=1"]
    Surface(plain.x, plain.y, dict.fromkeys(names, plain.metric()), plain.status).save(tmp_path / "s.h5")
    assert call("convert", "s.h5", "s.csv", cwd=tmp_path).returncode == 0
    with (tmp_path / "s.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert sorted(head[3:]) == sorted(["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "' =1", "a\\n=1"])
    assert float(rows[0][3]) == -2.0  # numbers stay numbers


def test_json_has_no_number_that_does_not_exist(tmp_path):
    plain = surface_of(lambda x, y: x**2 + y**2, nx=5)
    values = plain.metric().copy()
    values[2, 2] = np.inf
    status = plain.status.copy()
    status[2, 2] = 2
    Surface(plain.x, plain.y, {"train_loss": values}, status).save(tmp_path / "s.h5")

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    done = call("analyze", "s.h5", "--json", cwd=tmp_path)
    numbers = json.loads(done.stdout, parse_constant=refuse)["surfaces"]["s.h5"]
    assert numbers["center"] is None and numbers["minimum"] == 0.25


def heavy(path, side):
    """A small compressed file of side x side points."""
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "paraloss-surface", 1
        file["xcoordinates"] = file["ycoordinates"] = np.linspace(-1, 1, side)
        for name, kind in (("train_loss", "f8"), ("status", "u1")):
            data = file.create_dataset(name, (side, side), kind, chunks=(64, side), compression="gzip", fillvalue=1)
            data[:] = 1


def test_info_reads_a_sample_of_a_heavy_file_and_others_refuse_it_with_its_size(tmp_path, monkeypatch):
    heavy(tmp_path / "s.h5", 2500)
    found = read_summary(tmp_path / "s.h5")
    assert found.points == 2500**2 and MOST_VALUES - 2500 < found.counted <= MOST_VALUES
    assert found.status == {1: found.counted} and found.ranges == {"train_loss": (1.0, 1.0)}
    shown = call("info", "s.h5", cwd=tmp_path)
    assert shown.returncode == 0 and f"of {2500**2:,} points were read" in shown.stdout
    monkeypatch.setenv("PARALOSS_MAX_SIZE", "10M")
    done = call("analyze", "s.h5", cwd=tmp_path)
    assert done.returncode == 2 and "53.6 MiB" in done.stderr and "PARALOSS_MAX_SIZE" in done.stderr
    assert call("info", "s.h5", cwd=tmp_path).returncode == 0


def test_info_counts_small_files_of_both_kinds_in_full(tmp_path):
    values = np.arange(12.0)
    values[5] = -1
    with h5py.File(tmp_path / "li.h5", "w") as file:
        file["xcoordinates"], file["ycoordinates"] = np.arange(4.0), np.arange(3.0)
        file["train_loss"] = values.reshape(4, 3)
    found = read_summary(tmp_path / "li.h5")
    assert (found.points, found.counted, found.status) == (12, 12, {0: 1, 1: 11})
    assert found.ranges["train_loss"] == (0.0, 11.0)
    assert "11 of 12 evaluated" in call("info", "li.h5", cwd=tmp_path).stdout


def bombs(folder):
    """Three files of a few kilobytes that fill 8 MiB each: compressed weights, repeated weights, compressed data."""
    model = MODELS["mlp"]((1, 8, 8), 10)
    torch.save({**model.state_dict(), "big": torch.zeros(2**21)}, folder / "plain.pt")
    with zipfile.ZipFile(folder / "plain.pt") as old, zipfile.ZipFile(folder / "packed.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    torch.save({"state_dict": {"big": torch.zeros(1).expand(2**21)}}, folder / "repeated.pt")
    np.savez_compressed(folder / "data.npz", inputs=np.zeros((2**15, 64), np.float32), targets=np.zeros(2**15, int))
    torch.save(model.state_dict(), folder / "w.pt")


def test_small_files_that_fill_the_memory_are_refused_with_the_number_and_a_way_around(tmp_path, monkeypatch):
    bombs(tmp_path)
    commands = [["info", "packed.pt"], ["histogram", "repeated.pt", "h.png"]]
    commands += [["compute", "--weights", "w.pt", "--model", "mlp", "--data", "npz:data.npz", "--curve", "--x=-1:1:3"]]
    monkeypatch.setenv("PARALOSS_MAX_SIZE", "1M")
    for command in commands:
        done = call(*command, cwd=tmp_path)
        assert done.returncode == 2 and "MiB" in done.stderr and "PARALOSS_MAX_SIZE=1G" in done.stderr, done.stderr
    assert call("info", "plain.pt", cwd=tmp_path).returncode == 0  # as large, but all there
    monkeypatch.setenv("PARALOSS_MAX_SIZE", "1G")
    assert call("histogram", "packed.pt", "h.png", cwd=tmp_path).returncode == 0
