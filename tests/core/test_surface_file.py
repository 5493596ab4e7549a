"""The HDF5 format: round trips, resuming, and files that lie."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from helpers import surface_of
from hypothesis import given, settings
from hypothesis import strategies as st

from paraloss.errors import ShapeMismatch, SurfaceFileError
from paraloss.surface import (
    DONE,
    NOT_FINITE,
    PENDING,
    Surface,
    SurfaceWriter,
    check_fingerprint,
    read_directions,
    read_outline,
    read_surface,
    read_window,
    write_surface,
)


def empty(nx=4, ny=3, names=("train_loss", "train_acc")):
    return Surface(
        x=np.linspace(-1, 1, nx),
        y=np.linspace(0, 1, ny),
        metrics={name: np.full((ny, nx), np.nan) for name in names},
        status=np.zeros((ny, nx), np.uint8),
        provenance={"model": "tiny"},
        directions={"x": {"a.weight": np.arange(6.0, dtype=np.float32).reshape(2, 3), "odd/name": np.ones(2, np.float32)}},
    )


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_surface_comes_back_as_it_was_written(tmp_path_factory, nx, ny, seed):
    path = tmp_path_factory.mktemp("s") / "s.h5"
    noise = np.random.default_rng(seed)
    surface = surface_of(lambda x, y: noise.normal(size=x.shape), nx, ny)
    write_surface(surface, path)
    back = read_surface(path)
    np.testing.assert_array_equal(back.x, surface.x)
    np.testing.assert_array_equal(back.y, surface.y)
    np.testing.assert_array_equal(back.metrics["train_loss"], surface.metrics["train_loss"])
    np.testing.assert_array_equal(back.status, surface.status)


def test_rows_are_y_and_columns_are_x_in_the_file(tmp_path):
    write_surface(surface_of(lambda x, y: x + 10 * y, nx=7, ny=4), tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["train_loss"].shape == (4, 7)
        assert file["train_loss"][0, 6] == pytest.approx(1 + 10 * -1)
        assert file.attrs["format"] == b"paraloss-surface"
        assert file.attrs["format_version"] == 1


def test_a_curve_has_no_ycoordinates(tmp_path):
    curve = Surface(np.linspace(0, 1, 5), None, {"train_loss": np.arange(5.0)}, np.ones(5, np.uint8))
    curve.save(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5") as file:
        assert "ycoordinates" not in file
    assert read_surface(tmp_path / "c.h5").shape == (5,)


def test_added_points_land_where_they_belong_and_the_rest_stays_pending(tmp_path):
    with SurfaceWriter(tmp_path / "s.h5", empty(), {"a": 1}) as writer:
        writer.add(5, [1.5, 90.0])  # row 1, column 1
        writer.add(11, [float("inf"), 10.0])
    surface = read_surface(tmp_path / "s.h5", directions=True)
    assert surface.metrics["train_loss"][1, 1] == 1.5
    assert surface.metrics["train_acc"][1, 1] == 90.0
    assert surface.status[1, 1] == DONE
    assert surface.status[2, 3] == NOT_FINITE
    assert (surface.status == PENDING).sum() == 10
    np.testing.assert_array_equal(surface.directions["x"]["a.weight"], np.arange(6.0).reshape(2, 3))
    assert set(read_directions(tmp_path / "s.h5")["x"]) == {"a.weight", "odd/name"}


def test_a_resumed_writer_knows_what_is_left(tmp_path):
    with SurfaceWriter(tmp_path / "s.h5", empty(), {"a": 1}) as writer:
        writer.add(0, [1.0, 2.0])
    with SurfaceWriter(tmp_path / "s.h5", empty(), {"a": 1}) as writer:
        assert writer.pending().tolist() == list(range(1, 12))


def test_a_done_point_whose_value_was_lost_counts_as_pending(tmp_path):
    with SurfaceWriter(tmp_path / "s.h5", empty(), {}) as writer:
        writer.add(3, [1.0, 2.0])
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["train_loss"][0, 3] = np.nan
    write = SurfaceWriter.__new__(SurfaceWriter)
    write._file, write.names = h5py.File(tmp_path / "s.h5", "r"), ["train_loss", "train_acc"]
    assert 3 in write.pending()
    write._file.close()


def test_other_settings_are_refused_and_named(tmp_path):
    SurfaceWriter(tmp_path / "s.h5", empty(), {"seed": 1, "criterion": "mse"}).close()
    with pytest.raises(SurfaceFileError, match=r"seed is 1 there, 2 now") as caught:
        check_fingerprint(tmp_path / "s.h5", {"seed": 2, "criterion": "mse"})
    assert "criterion" not in str(caught.value)


def test_a_writer_killed_at_any_moment_leaves_a_file_that_opens(tmp_path):
    path = tmp_path / "s.h5"
    script = (
        "import numpy as np, sys\n"
        "from paraloss.surface import Surface\n"
        "from paraloss.surface import SurfaceWriter\n"
        "SurfaceWriter.flush_every_s = 0.0\n"
        "nan = np.full((300, 300), np.nan)\n"
        "s = Surface(np.arange(300.), np.arange(300.), {'train_loss': nan}, np.zeros((300, 300), np.uint8))\n"
        f"w = SurfaceWriter({str(path)!r}, s, {{}} or {{'k': 1}})\n"
        "print('go', flush=True)\n"
        "for i in range(90000): w.add(i, [float(i)])\n"
    )
    for attempt in range(5):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.05 + 0.1 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        surface = read_surface(path)
        done = np.flatnonzero(surface.status)
        assert 0 < len(done) < 90000
        np.testing.assert_array_equal(surface.metrics["train_loss"].ravel()[done], done.astype(float))


def test_a_full_surface_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    class Broken(dict):
        def items(self):
            raise RuntimeError("no")

    surface = surface_of(lambda x, y: x)
    broken = Surface(surface.x, surface.y, surface.metrics, surface.status, directions=Broken())
    with pytest.raises(RuntimeError):
        write_surface(broken, tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def test_metrics_that_do_not_fit_the_coordinates_are_refused():
    with pytest.raises(ShapeMismatch, match="train_loss"):
        Surface(np.arange(3.0), np.arange(2.0), {"train_loss": np.zeros((3, 2))}, np.zeros((2, 3), np.uint8))


def _text_file(path):
    path.write_text("hello")


def _other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["a"] = [1]


def _cut_short(path):
    write_surface(surface_of(lambda x, y: x, 50, 50), path)
    path.write_bytes(path.read_bytes()[:9000])


def _wrong_shape(path):
    write_surface(surface_of(lambda x, y: x), path)
    with h5py.File(path, "r+") as file:
        del file["train_loss"]
        file["train_loss"] = np.zeros((2, 2))


def _newer_format(path):
    write_surface(surface_of(lambda x, y: x), path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99


def _claims_a_trillion_points(path):
    write_surface(surface_of(lambda x, y: x), path)
    with h5py.File(path, "r+") as file:
        del file["xcoordinates"]
        file.create_dataset("xcoordinates", shape=(10**12,), dtype="f8", chunks=(1000,))


def _links_elsewhere(path):
    write_surface(surface_of(lambda x, y: x), path)
    with h5py.File(path, "r+") as file:
        del file["train_loss"], file["xcoordinates"]
        file["xcoordinates"] = h5py.ExternalLink("/etc/other.h5", "/x")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_text_file, "not an HDF5 file"),
        (_other_hdf5, "not a surface file"),
        (_cut_short, "cut short"),
        (_wrong_shape, "the coordinates say"),
        (_newer_format, "format 99"),
        (_claims_a_trillion_points, "damaged"),
        (_links_elsewhere, "links to other files"),
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "folder"),
    ],
)
def test_a_bad_file_gets_one_clear_line(tmp_path, make, told):
    path = tmp_path / "bad.h5"
    make(path)
    with pytest.raises(SurfaceFileError, match=told) as caught:
        read_surface(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_growing_file_is_drawn_on_its_finest_complete_sub_grid(tmp_path):
    from paraloss.compute.schedule.visit_order import coarse_to_fine

    surface = surface_of(lambda x, y: x + 10 * y, nx=51, ny=41)
    status = np.zeros(surface.shape, np.uint8)
    status.ravel()[coarse_to_fine(surface.shape)[: int(0.07 * status.size)]] = 1
    values = np.where(status == 1, surface.metric(), np.nan)
    growing = Surface(surface.x, surface.y, {"train_loss": values}, status)
    shown = growing.drawable()
    assert shown.shape == (11, 13)  # every fourth point, through the middle
    assert np.isfinite(shown.metric()).all()
    np.testing.assert_allclose(shown.metric(), shown.x + 10 * shown.y[:, None])
    write_surface(growing, tmp_path / "s.h5")
    outline = read_outline(tmp_path / "s.h5")
    assert outline.stride == 4
    window = read_window(tmp_path / "s.h5", (2, 5, 1, 3), None, outline.stride)
    np.testing.assert_array_equal(window.x, shown.x[2:6])
    np.testing.assert_array_equal(window.metric(), shown.metric()[1:4, 2:6])


def test_holes_that_no_sub_grid_avoids_are_left_as_holes():
    surface = surface_of(lambda x, y: x + y, nx=19, ny=19)
    surface.status[9, 9] = 0
    assert surface.drawable().shape == (19, 19)
    surface.status[4:15, 4:15] = 0
    assert surface.drawable().shape == (19, 19)


def test_a_surface_of_ones_own_needs_no_status(tmp_path):
    x, y = np.linspace(-1, 1, 3), np.linspace(0, 1, 2)
    own = Surface(x, y, {"train_loss": np.array([[1.0, 2.0, np.inf], [4.0, 5.0, 6.0]]), "train_acc": np.full((2, 3), 50.0)})
    assert own.status.tolist() == [[1, 1, 2], [1, 1, 1]]
    assert own.status.dtype == np.uint8
    assert read_surface(own.save(tmp_path / "own.h5")).is_complete
    with pytest.raises(ShapeMismatch, match="train_loss"):
        Surface(x, y, {"train_loss": np.ones((3, 2))})


def test_whether_a_surface_is_complete_is_found_a_few_rows_at_a_time(tmp_path, monkeypatch):
    from paraloss.surface import reader

    whole = surface_of(lambda x, y: x + y, 7, 11)
    asked = []
    read = h5py.Dataset.__getitem__

    def count(dataset, rows, **more):
        values = read(dataset, rows, **more)
        if dataset.name == "/status":
            asked.append(values.size)
        return values

    monkeypatch.setattr(reader, "_ROWS_OF", 15)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", count)
    outline = read_outline(whole.save(tmp_path / "whole.h5"))
    assert outline.is_complete
    assert outline.stride == 1
    assert max(asked) == 14  # two rows
    status = whole.status.copy()
    status[10, 6] = PENDING
    assert not read_outline(Surface(whole.x, whole.y, whole.metrics, status).save(tmp_path / "part.h5")).is_complete
