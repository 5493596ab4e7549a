"""The rules of files, marks, unpacking and locking: what may be replaced, what is refused unopened, nothing half-written."""

import os
import re
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from paraloss.errors import InputError
from paraloss.files import check_input, check_output, files_in, replacing
from paraloss.locking import locked
from paraloss.marks import made_for, mark
from paraloss.unpacking import check_archive, check_size

CHECKS = (check_input, check_output)


def special_files(folder):
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket"))  # a socket's path may have 107 bytes
    (folder / "folder").mkdir()
    return {
        "/dev/null": "a device",
        folder / "pipe": "a named pipe",
        folder / "socket": "a socket",
        folder / "folder": "a folder",
    }


def write_half(path, error):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_devices_pipes_sockets_and_folders_are_refused_unopened_also_through_links(tmp_path):
    for number, (path, kind) in enumerate(special_files(tmp_path).items()):
        link = tmp_path / f"link{number}"
        link.symlink_to(path)
        for check in CHECKS:
            for name in (path, link):
                with pytest.raises(InputError, match=kind):
                    check(name)
        with pytest.raises(InputError, match=kind), replacing(link) as temporary:
            temporary.write_text("never")
        assert link.is_symlink()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_names_that_no_file_can_have_are_refused(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for name in (loop, tmp_path / ("x" * 300), f"{tmp_path}/a\0b"):
        for check in CHECKS:
            with pytest.raises(InputError):
                check(name)


def test_a_result_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(RuntimeError):
        write_half(path, RuntimeError())
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["result.txt"]


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path):
    path = tmp_path / ("ü" * 120 + ".txt")
    with replacing(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    path = tmp_path / "result.txt"
    with pytest.raises(InputError, match="No space left"):
        write_half(path, OSError(28, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_links_are_written_through_to_a_file_in_its_own_folder(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "real.txt").write_text("old")
    (here / "link.txt").symlink_to(there / "real.txt")
    (here / "dangling.txt").symlink_to(there / "fresh.txt")
    for name in ("link.txt", "dangling.txt"):
        with replacing(here / name) as temporary:
            assert temporary.parent == there
            temporary.write_text("new")
        assert (here / name).is_symlink()
        assert (here / name).read_text() == "new"
    assert sorted(one.name for one in there.iterdir()) == ["fresh.txt", "real.txt"]


def test_an_output_is_never_an_input_whatever_its_name(tmp_path):
    source = tmp_path / "source.txt"
    source.write_text(mark("table"))
    (tmp_path / "link.txt").symlink_to(source)
    os.link(source, tmp_path / "hard.txt")
    for name in ("source.txt", "link.txt", "hard.txt", "../" + tmp_path.name + "/source.txt"):
        with pytest.raises(InputError, match="an input"):
            check_output(tmp_path / name, "table", [source], overwrite=True)


def test_a_file_among_the_data_is_an_input(tmp_path):
    (tmp_path / "batch").write_text("data")
    with pytest.raises(InputError, match="an input"):
        check_output(tmp_path / "batch", "surface", [tmp_path], overwrite=True)
    check_output(tmp_path / "other", "surface", [tmp_path])


def test_only_what_was_made_for_the_same_purpose_is_replaced_unasked(tmp_path):
    path = tmp_path / "x"
    for content, own in (("mine", False), (mark("picture"), True), (mark("histogram"), False), ("", False)):
        path.write_text(content)
        assert made_for(path, "picture") == own
        if own:
            check_output(path, "picture")
        else:
            with pytest.raises(InputError, match="overwrite"):
                check_output(path, "picture")
        check_output(path, "picture", overwrite=True)
        check_output(path)  # without a purpose the caller decides


def test_hdf5_is_recognized_by_its_attributes_and_tables_by_their_names(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["format"] = "paraloss-surface"
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["generator"] = mark("summary")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["dir_file"] = h5py.ExternalLink("a.h5", "/")
    (tmp_path / "d.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"damaged")
    found = [[made_for(tmp_path / f"{name}.h5", purpose) for name in "abcd"] for purpose in ("surface", "summary")]
    assert found == [[True, False, False, False], [False, True, False, False]]
    (tmp_path / "t.csv").write_text("x,y,status,train_loss\r\n0,0,1,2\r\n")
    (tmp_path / "u.csv").write_text("x,y,name\r\n0,0,a\r\n")
    assert made_for(tmp_path / "t.csv", "table") and not made_for(tmp_path / "u.csv", "table")


def test_the_files_that_names_stand_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data.npz", "code.py", "weights.pt"):
        (tmp_path / name).write_text("x")
    names = files_in("npz:data.npz", "code.py:build", tmp_path / "weights.pt", None, "resnet20", "digits", object())
    assert {name.name for name in names} == {"data.npz", "code.py", "weights.pt"}


def test_a_lock_belongs_to_the_file_and_not_to_its_name(tmp_path):
    target, link = tmp_path / "real.h5", tmp_path / "link.h5"
    link.symlink_to(target)
    with locked(link), pytest.raises(InputError, match="another job"), locked(target):
        pass
    with locked(target):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["link.h5"]


def test_sizes_are_checked_by_ratio_and_number(monkeypatch):
    check_size("x", 2**31, 2**31)  # large, but all there
    check_size("x", 2**29, 1)  # packs well, but is small
    with pytest.raises(InputError, match=r"x: it would unpack from 1 MiB to 2 GiB.*PARALOSS_MAX_SIZE=2G"):
        check_size("x", 2**31, 2**20)
    monkeypatch.setenv("PARALOSS_MAX_SIZE", "2G")
    check_size("x", 2**31, 2**20)
    monkeypatch.setenv("PARALOSS_MAX_SIZE", "much")
    with pytest.raises(InputError, match="number of bytes"):
        check_size("x", 2**31, 2**20)


def test_an_archive_that_unpacks_to_far_more_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("PARALOSS_MAX_SIZE", "1M")
    np.savez_compressed(tmp_path / "zeros.npz", inputs=np.zeros(2**20))
    with pytest.raises(InputError, match="8 MiB"):
        check_archive(tmp_path / "zeros.npz")
    np.savez_compressed(tmp_path / "noise.npz", inputs=np.random.default_rng(0).normal(size=2**18))
    check_archive(tmp_path / "noise.npz")
    (tmp_path / "text.npz").write_text("no archive")
    check_archive(tmp_path / "text.npz")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    check_archive(tmp_path / "empty.npz")


def test_what_a_killed_process_left_of_a_file_goes_when_the_file_is_written_next(tmp_path):
    host = re.sub(r"\W", "_", os.uname().nodename)[:60]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = f".a.{host}-{dead.pid}-0123ab.tmp.txt"
    stay = [
        f".a.{host}-{os.getpid()}-0123ab.tmp.txt",  # still being written
        f".a.elsewhere-{dead.pid}-0123ab.tmp.txt",  # nobody here knows
        f".b.{host}-{dead.pid}-0123ab.tmp.txt",  # of another file
        f".a.{host}-{dead.pid}-notes.txt",  # not one of these at all
    ]
    for name in [gone, *stay]:
        (tmp_path / name).touch()
    with replacing(tmp_path / "a.txt") as path:
        path.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*stay, "a.txt"])


@pytest.mark.parametrize("name", ["a.vtkhdf", "a.hdf", "a.h5", "a.npz", "a.csv"])
def test_a_converter_on_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, name):
    """Writers in converters: where bytes reach the file there is no room."""
    import errno

    from helpers import surface_of

    from paraloss.converters import convert

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    source = surface_of(lambda x, y: 0.1 + x**2 + y**2, 5, 5).save(tmp_path / "s.h5")
    monkeypatch.setattr(Path, "write_bytes", no_room)
    monkeypatch.setattr(Path, "open", no_room)
    monkeypatch.setattr(np, "savez_compressed", no_room)
    monkeypatch.setattr(np, "savez", no_room)
    with pytest.raises(InputError, match=rf"{name}: cannot be written \(.*No space"):
        convert(source, tmp_path / name)
    assert list(tmp_path.iterdir()) == [source]
