"""Small files like those that did harm when ``make attack`` found them."""

import struct
import zipfile

import h5py
import numpy as np
import pytest
from helpers import surface_of

from paraloss.compute import load_checkpoint, load_data
from paraloss.converters import convert, open_surface, to_structured_grid
from paraloss.converters.grid_file import check_grid_file
from paraloss.errors import InputError


def test_a_cut_header_within_an_npz_is_refused(tmp_path):
    text = b"{'descr': '<f4', 'shape': (5, 4".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        for name in ("inputs", "targets"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(80))
    with pytest.raises(InputError, match=r"d\.npz"):
        load_data(f"npz:{tmp_path / 'd.npz'}")


@pytest.mark.parametrize("kind", ["M8[ns]", "S3"])
def test_dates_and_texts_are_no_samples(tmp_path, kind):
    np.savez(tmp_path / "d.npz", inputs=np.zeros(4).astype(kind), targets=np.arange(4))
    with pytest.raises(InputError, match="holds no numbers"):
        load_data(f"npz:{tmp_path / 'd.npz'}")


def test_samples_of_the_other_byte_order_are_the_same_numbers(tmp_path):
    np.savez(tmp_path / "d.npz", inputs=np.arange(8, dtype=">f4").reshape(4, 2), targets=np.arange(4, dtype=">i8"))
    found = load_data(f"npz:{tmp_path / 'd.npz'}")["train"]
    assert found.inputs.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]] and found.targets.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["?", ">f8", "f2", "i1"])
def test_coordinates_of_any_number_type_are_drawn(tmp_path, kind):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["xcoordinates"], file["ycoordinates"] = np.array([0, 1]).astype(kind), np.array([0.0, 1.0, 2.0])
        file["train_loss"] = np.ones(6).reshape(2, 3)
    assert to_structured_grid(open_surface(tmp_path / "s.h5")).GetNumberOfPoints() == 6


@pytest.mark.parametrize("side", [float("inf"), 3.5, "3", None, -1])
def test_a_side_that_is_no_whole_number_is_refused(tmp_path, side):
    import json

    header = json.dumps({"w": {"dtype": "F32", "shape": [side, 4], "data_offsets": [0, 48]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(48))
    with pytest.raises(InputError, match=r"w\.safetensors"):
        load_checkpoint(tmp_path / "w.safetensors")


DAMAGE = {
    b'offset="0"': b'offset="1"',  # the head of the blocks is read from within other numbers: vtk crashed
    b'"UInt32"': b'"UInt64"',
    b"0 6 0 4 0 0": b"0 9 0 9 0 0",
    b"<StructuredGrid": b"<!ENTITY a b>  <StructuredGrid",
    b'NumberOfComponents="3"': b'NumberOfComponents="9"',
}


@pytest.mark.parametrize("compress", ["none", "lz4", "zlib"])
@pytest.mark.parametrize("before", DAMAGE)
def test_a_grid_that_lies_about_its_sizes_is_refused_before_vtk_reads_it(tmp_path, before, compress):
    surface_of(lambda x, y: x**2 + y**2 + 0.1, 7, 5).save(tmp_path / "s.h5")
    path = convert(tmp_path / "s.h5", tmp_path / "s.vts", compress=compress)
    check_grid_file(path)
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, DAMAGE[before]))
    with pytest.raises(InputError, match=r"s\.vts"):
        check_grid_file(path)


@pytest.mark.parametrize("compress", ["none", "lz4", "zlib"])
def test_a_grid_cut_anywhere_in_its_data_is_refused(tmp_path, compress):
    surface_of(lambda x, y: x**2 + y**2 + 0.1, 7, 5).save(tmp_path / "s.h5")
    path = convert(tmp_path / "s.h5", tmp_path / "s.vts", compress=compress)
    content = path.read_bytes()
    end = content.rindex(b"</AppendedData>")
    start = content.index(b'encoding="raw">')
    for length in (*range(start + 20, end - 4, 97), end - 4):  # a line break and two blanks follow the data
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"s\.vts"):
            check_grid_file(path)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("inputs.npy", b"no array")
        archive.writestr("targets.npy", b"no array")
    with pytest.raises(InputError, match=r"d\.npz"):
        load_data(f"npz:{tmp_path / 'd.npz'}")
