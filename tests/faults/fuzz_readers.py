"""Read damaged files until told otherwise: python fuzz_readers.py SEED CASES FOLDER. Prints a tally as JSON.

A process of its own: a crash in a C library, or memory without end, shows as its exit code or its tally.
"""

import argparse
import json
import pickle
import resource
import sys
import warnings
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import torch

from paraloss.compute import load_checkpoint, load_data
from paraloss.compute.directions.files import load_directions
from paraloss.converters import open_surface, to_structured_grid
from paraloss.errors import ParalossError
from paraloss.surface import Surface, read_directions, read_outline, read_window
from paraloss.surface.hdf5 import write_text
from paraloss.surface.repair import repair


def originals(folder: Path) -> dict[str, bytes]:
    """Sound files of every kind that is read."""
    x, y = np.linspace(-1, 1, 9), np.linspace(0, 1, 6)
    loss = 1 + np.add.outer(y**2, x**2)
    directions = {axis: {"0.weight": np.ones((3, 4), np.float32), "0.bias": np.zeros(3, np.float32)} for axis in "xy"}
    path = {name: np.arange(4.0) for name in ("x", "y", "loss", "step", "residual")}
    surface = Surface(
        x, y, {"train_loss": loss, "train_acc": loss}, np.ones(loss.shape, np.uint8), {"model": "m"}, directions, path
    )
    surface.save(folder / "surface.h5")
    with h5py.File(folder / "theirs.h5", "w") as file:
        file["dir_file"], file["xcoordinates"], file["ycoordinates"] = "d", x, y
        file["train_loss"] = file["train_acc"] = loss.ravel().reshape(9, 6)
    with h5py.File(folder / "directions.h5", "w") as file:
        for axis in ("xdirection", "ydirection"):
            file[f"{axis}/0"], file[f"{axis}/1"] = np.ones((3, 4), np.float32), np.zeros(3, np.float32)
    state = {"0.weight": torch.ones(3, 4), "0.bias": torch.zeros(3)}
    torch.save({"state_dict": state}, folder / "checkpoint.pt")
    torch.save(state, folder / "checkpoint.t7", _use_new_zipfile_serialization=False)
    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "curve": np.arange(3.0), "model": state}
    torch.save(beside, folder / "checkpoint.ckpt")  # read with stand-ins
    torch.save(beside, folder / "checkpoint.tar", _use_new_zipfile_serialization=False)
    header = json.dumps({"w": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}).encode()
    (folder / "checkpoint.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(48))
    np.savez(folder / "data.npz", inputs=np.zeros((5, 4), np.float32), targets=np.arange(5) % 3)
    with h5py.File(folder / "surface.h5", "r+") as file:
        write_text(file, "created", "2026-01-01T00:00:00+00:00")  # the same bytes in every run
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def damaged(content: bytes, dice: np.random.Generator) -> bytes:
    """The content cut short, with bits flipped, bytes overwritten, a part repeated, or numbers made huge."""
    data = bytearray(content)
    kind = dice.integers(5)
    if kind == 0:
        return bytes(data[: dice.integers(len(data))])
    for _ in range(int(dice.integers(1, 12))):
        place = int(dice.integers(len(data)))
        if kind == 1:
            data[place] ^= 1 << int(dice.integers(8))
        elif kind == 2:
            data[place : place + 8] = dice.bytes(len(data[place : place + 8]))
        elif kind == 3:
            data[place : place + 8] = b"\xff" * len(data[place : place + 8])
        else:
            other = int(dice.integers(len(data)))
            data[place : place + 64] = data[other : other + len(data[place : place + 64])]
    return bytes(data)


def read(path: Path, kind: str, model: torch.nn.Module) -> None:
    if kind in ("surface.h5", "theirs.h5"):
        surface = open_surface(path)
        to_structured_grid(surface.drawable())
        if kind == "surface.h5":
            outline = read_outline(path)
            read_window(path, (0, min(2, len(outline.x) - 1), 0, min(2, len(outline.y) - 1)))
            read_directions(path)
    elif kind == "directions.h5":
        load_directions(path, model)
    elif kind.startswith("checkpoint"):
        load_checkpoint(path)
    else:
        load_data(f"npz:{path}")


def main() -> None:
    seed, cases, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dice, tally = np.random.default_rng(seed), Counter()
    warnings.simplefilter("ignore")
    sound = originals(folder)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    escaped = []
    for case in range(cases):
        kind = sorted(sound)[case % len(sound)]
        path = folder / f"case{Path(kind).suffix}"
        path.write_bytes(damaged(sound[kind], dice))
        (folder / "last").write_text(f"{case} {kind}")
        try:
            read(path, kind, model)
            tally["read"] += 1
        except ParalossError:
            tally["refused"] += 1
        except Exception as error:
            escaped.append(f"{case} {kind}: {type(error).__name__}: {error}"[:200])
        if kind == "surface.h5" and case % 8 == 0:
            try:
                repair(path)
                tally["mended or sound"] += 1
            except ParalossError:
                tally["beyond repair"] += 1
            except Exception as error:
                escaped.append(f"{case} repair: {type(error).__name__}: {error}"[:200])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"cases": cases, **tally, "escaped": escaped, "memory_mb": round(grown)}))


if __name__ == "__main__":
    assert pickle  # torch's legacy reader needs it loaded before memory is measured
    main()
