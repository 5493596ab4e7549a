"""Damaged and hostile files: an error of ours or a result, never a crash, a traceback or memory without end."""

import contextlib
import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import call, surface_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paraloss.analysis.smoothing import smoothed
from paraloss.cli.options import parse_size
from paraloss.compute.inputs.user_code import parse_arguments
from paraloss.compute.options.steps import steps_along
from paraloss.converters import GridOptions, height_map, open_surface, to_structured_grid
from paraloss.errors import ParalossError, SurfaceFileError
from paraloss.surface import Surface, read_outline, read_surface

FUZZ = Path(__file__).with_name("fuzz_readers.py")
CASES = int(os.environ.get("PARALOSS_FUZZ_CASES", "700"))


@pytest.mark.slow
def test_damaged_files_of_every_kind_are_read_or_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, str(FUZZ), "1", str(CASES), str(tmp_path)], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{(tmp_path / 'last').read_text()}: {done.stderr[-600:]}"
    tally = json.loads(done.stdout.splitlines()[-1])
    assert tally["escaped"] == []
    assert tally["refused"] > CASES / 10
    assert tally["memory_mb"] < 500


@pytest.mark.parametrize("shape", [(10**6, 10**6), (2**40,)])
def test_sizes_that_lie_are_refused_before_memory_is_taken(shape, tmp_path):
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "paraloss-surface", 1
        file.create_dataset("xcoordinates", shape=shape[-1:], dtype="f8", chunks=(1024,))
        if len(shape) == 2:
            file.create_dataset("ycoordinates", shape=shape[:1], dtype="f8", chunks=(1024,))
        for name in ("train_loss", "status"):
            file.create_dataset(name, shape=shape, dtype="f8", chunks=True)
    assert path.stat().st_size < 10**6
    program = f"""
import re
import paraloss.surface.reader as s, paraloss.converters as c
for read in (s.read_surface, s.read_outline, c.open_surface):
    try:
        read({str(path)!r})
    except s.SurfaceFileError as error:
        print(error)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert all("claims" in line for line in lines[:3])
    assert int(lines[3]) < 500 * 1024


def test_a_malicious_checkpoint_does_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'it_ran'}",)

    for name, save in (
        ("zip.pt", lambda path: torch.save({"state_dict": Attack()}, path)),
        ("old.t7", lambda path: torch.save({"state_dict": Attack()}, path, _use_new_zipfile_serialization=False)),
        ("bare.pkl", lambda path: path.write_bytes(pickle.dumps(Attack()))),
    ):
        save(tmp_path / name)
        done = call("compute", "--weights", tmp_path / name, "--model", "mlp", "-o", tmp_path / "s.h5")
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "it_ran").exists()


def test_links_out_of_a_surface_file_are_not_followed(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["numbers"] = np.arange(9.0).reshape(3, 3)
    (tmp_path / "raw").write_bytes(bytes(72))
    surface_of(lambda x, y: x + y + 3, 3, 3).save(tmp_path / "s.h5")
    for kind in ("external link", "soft link", "external storage", "virtual"):
        path = tmp_path / f"{kind.replace(' ', '_')}.h5"
        path.write_bytes((tmp_path / "s.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            del file["train_loss"]
            if kind == "external link":
                file["train_loss"] = h5py.ExternalLink(str(secret), "/numbers")
            elif kind == "soft link":
                file["train_loss"] = h5py.SoftLink("/status")
            elif kind == "external storage":
                file.create_dataset("train_loss", (3, 3), "f8", external=[(str(tmp_path / "raw"), 0, 72)])
            else:
                layout = h5py.VirtualLayout((3, 3), "f8")
                layout[:] = h5py.VirtualSource(str(secret), "numbers", (3, 3))
                file.create_virtual_dataset("train_loss", layout)
        try:
            found = read_surface(path)
        except SurfaceFileError:
            continue
        assert "train_loss" not in found.metrics, kind


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mit Leerzeichen", "größe_λ_损失", "quote'and\"more", "-dash", "%41 #hash"])
def test_names_with_spaces_and_other_letters_work_throughout(name, tmp_path, trained):
    folder = tmp_path / name
    folder.mkdir()
    surface, grid, picture = (folder / f"{name}{ending}" for ending in (".h5", ".vts", ".png"))
    weights = folder / "w.pt"
    weights.write_bytes((trained / "final.pt").read_bytes())
    for command in (
        ["compute", "--weights", weights, "--x=-1:1:4", "--y=-1:1:4", "--samples", "20", "-o", surface],
        ["convert", surface, "-o", grid],
        ["render", surface, "-o", picture, "--backend", "pyvista", "--size", "200x150"],
        ["info", surface],
    ):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 1000


numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30))
def test_any_text_for_an_axis_or_a_size_is_parsed_or_refused(text):
    for parse in (lambda: steps_along(text, "x"), lambda: parse_size(text), lambda: parse_arguments([text])):
        with contextlib.suppress(ParalossError):
            parse()


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers, max_size=6))
def test_steps_are_two_or_more_finite_increasing_numbers_or_refused(steps):
    sound = len(steps) >= 2 and np.isfinite(steps).all() and all(a < b for a, b in itertools.pairwise(steps))
    sound = sound and max(map(abs, steps)) <= 1e30  # beyond, float32 weights overflow
    try:
        assert steps_along(steps, "x").tolist() == [float(step) for step in steps]
        assert sound
    except ParalossError:
        assert not sound


def test_heights_of_the_largest_numbers_there_are_span_the_usual_height():
    most = np.finfo(float).max
    surface = Surface(np.arange(2.0), np.arange(2.0), {"train_loss": np.array([[-most, 0.0], [most / 2, most]])})
    heights = height_map(surface, GridOptions(log=False)).heights
    np.testing.assert_allclose(heights - heights[0, 0], 0.55 * np.array([[0, 0.5], [0.75, 1]]), atol=1e-6)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(2, 6), st.integers(2, 5), st.data(), st.sampled_from([None, True, False]),
    st.sampled_from([1e-6, 0.1, 10.0]), st.sampled_from([None, 0.5, 1e3]),
)  # fmt: skip
def test_any_values_make_a_grid_with_finite_points_or_an_error_of_ours(tmp_path, nx, ny, data, log, offset, zmax):
    values = np.array(data.draw(st.lists(numbers, min_size=nx * ny, max_size=nx * ny))).reshape(ny, nx)
    status = np.where(np.isfinite(values), 1, 2).astype(np.uint8)
    surface = Surface(np.arange(nx, dtype=float), np.arange(ny, dtype=float), {"train_loss": values}, status)
    path = surface.save(tmp_path / "s.h5")
    again = read_surface(path)
    np.testing.assert_array_equal(again.metric(), values)
    read_outline(path)
    options = GridOptions(log=log, log_offset=offset, zmax=zmax)
    try:
        heights = height_map(again, options)
        grid = to_structured_grid(again, options)
    except ParalossError:
        return
    with np.errstate(over="ignore"):
        assert np.isfinite(heights.heights).all() or np.abs(values[np.isfinite(values)]).max() > 1e150
    assert grid.GetNumberOfPoints() == nx * ny


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 8), st.integers(4, 7), st.integers(2, 4), st.integers(0, 2**31))
def test_smoothing_never_leaves_the_range_of_what_was_computed(nx, ny, factor, seed):
    values = np.random.default_rng(seed).lognormal(0, 3, (ny, nx))
    surface = Surface(np.arange(nx) * 1.0, np.arange(ny) * 1.0, {"train_loss": values}, np.ones((ny, nx), np.uint8))
    fine = smoothed(surface, factor).metric()
    assert fine.min() >= values.min() - 1e-9 * values.max() - 1e-9
    assert fine.max() <= values.max() * (1 + 1e-9)


def test_single_point_duplicate_and_unsorted_coordinates_of_a_file_are_survived(tmp_path):
    for x in ([0.0], [0.0, 0.0, 1.0], [1.0, -1.0, 0.5], [np.nan, 0, 1]):
        path = tmp_path / "s.h5"
        count = len(x)
        with h5py.File(path, "w") as file:
            file.attrs["format"], file.attrs["format_version"] = "paraloss-surface", 1
            file["xcoordinates"], file["ycoordinates"] = np.array(x), np.array([0.0, 1.0])
            file["train_loss"], file["status"] = np.ones((2, count)), np.ones((2, count), np.uint8)
        try:
            to_structured_grid(open_surface(path))
        except ParalossError:
            continue
