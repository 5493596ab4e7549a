"""Files of every format that would run a program, through every verb that reads them: ``python traps.py``.

A trap has sprung where the file ``ran`` appears, or where Python's audit hook sees a program started, a module of the trap
imported, or a file opened that only the trap names.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from children import in_child
from damaged_files import Tally, warm_up

WEIGHTS = {"0.weight": (3, 4), "0.bias": (3,)}
OWN = ["--model", "mine.py:model", "--data", "mine.py:data", "--precision", "fp32"]
CHECKPOINTS = {
    "info": ["info", "TRAP"],
    "histogram": ["histogram", "TRAP", "out.png"],
    "compute": ["compute", "--weights", "TRAP", *OWN, "--x=-1:1:2", "-o", "out.h5"],
    "compute by its record": ["compute", "--weights", "TRAP", "--x=-1:1:2", "-o", "out.h5"],
    "compute towards it": ["compute", "--weights", "w.pt", "--x-to", "TRAP", *OWN, "--x=-1:1:2", "-o", "out.h5"],
    "hessian": ["hessian", "--weights", "TRAP", *OWN, "--top", "1", "-o", "out.h5"],
    "project": ["project", "w.pt", "TRAP", "w.pt", *OWN, "--points", "3", "-o", "out.h5"],
}
SURFACES = {
    "info": ["info", "TRAP"],
    "repair": ["info", "TRAP", "--repair"],
    "convert": ["convert", "TRAP", "out.vts"],
    "analyze": ["analyze", "TRAP"],
    "page": ["render", "TRAP", "out.html"],
    "picture": ["render", "TRAP", "out.png", "--style", "filled"],
    "directions": ["compute", "--weights", "w.pt", *OWN, "--directions", "TRAP", "--x=-1:1:2", "-o", "out.h5"],
    "resume": ["compute", "--weights", "w.pt", *OWN, "--x=-1:1:2", "-o", "TRAP"],
    "replace": ["convert", "s.h5", "TRAP"],
}
DATA = {
    "compute": ["compute", "--weights", "w.pt", *OWN[:2], "--data", "npz:TRAP", "--x=-1:1:2", "-o", "out.h5"],
    "train": ["train", *OWN[:2], "--data", "npz:TRAP", "--epochs", "1", "-o", "out"],
}


class Bomb:
    """Unpickled without restriction, it runs a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def state() -> dict[str, Any]:
    import torch

    return {name: torch.ones(shape) for name, shape in WEIGHTS.items()}


def _torch_saved(content: Any, zipped: bool = True) -> Callable[[Path], None]:
    import torch

    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=zipped)


def _safetensors(path: Path) -> None:
    record = {"paraloss": json.dumps({"model": "evil.py:build"}), "model": "evil.py:build", "format": "evil.py:build"}
    header = json.dumps({"__metadata__": record, "0.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
                         "0.bias": {"dtype": "F32", "shape": [3], "data_offsets": [48, 60]}}).encode()  # fmt: skip
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(60))


def _index(names: list[str]) -> Callable[[Path], None]:
    table = {"weight_map": dict(zip(WEIGHTS, names, strict=True))}
    return lambda path: path.write_text(json.dumps(table))


def checkpoint_traps() -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Name -> (file name, function that writes it)."""
    evil = {"model": "evil.py:build", "data": "evil.py:build", "loss": "evil.py:build", "step": "evil.py:build"}
    system = {"model": "os:system", "model_args": {"command": "touch ran"}, "data": "os:system", "loss": "os:system"}
    traps: dict[str, tuple[str, Callable[[Path], None]]] = {
        "pickle within": ("t.pt", _torch_saved({"state_dict": state(), "more": Bomb()})),
        "pickle alone": ("t.pt", _torch_saved(Bomb())),
        "legacy pickle": ("t.t7", _torch_saved({"state_dict": state(), "more": Bomb()}, zipped=False)),
        "legacy tar": ("t.tar", _torch_saved({"state_dict": state(), "more": Bomb()}, zipped=False)),
        "Lightning": ("t.ckpt", _torch_saved({"state_dict": state(), "hyper_parameters": Bomb()})),
        "bare pickle": ("t.bin", lambda path: path.write_bytes(pickle.dumps(Bomb()))),
        "record of a file": ("t.pt", _torch_saved({"state_dict": state(), "paraloss": evil})),
        "record of a call": ("t.pt", _torch_saved({"state_dict": state(), "paraloss": system})),
        "safetensors metadata": ("t.safetensors", _safetensors),
        "index to a path": ("t.safetensors.index.json", _index(["../secret.safetensors", "/secret.safetensors"])),
        "index to pickles": ("t.bin.index.json", _index(["bomb.bin", "bomb.bin"])),
        "distributed": ("t", lambda path: (path.mkdir(), (path / ".metadata").write_bytes(pickle.dumps(Bomb())))),  # type: ignore[func-returns-value,dict-item]
        "auto_map": ("t", _pretrained),
    }
    return traps


def _pretrained(path: Path) -> None:
    path.mkdir()
    auto = {"AutoModel": "evil.Build", "AutoConfig": "evil.Build"}
    (path / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": auto, "architectures": ["Build"]}))
    (path / "evil.py").write_text("open('ran', 'w')")
    import torch

    torch.save({"state_dict": state(), "more": Bomb()}, path / "pytorch_model.bin")


def surface_traps(sound: Path) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Name -> (file name, function that writes it)."""

    def changed(work: Callable[[h5py.File], None]) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            shutil.copy(sound, path)
            with h5py.File(path, "r+") as file:
                work(file)

        return write

    def provenance(file: h5py.File) -> None:
        facts = {"model": "evil.py:build", "command": "$(touch ran)", "checkpoint": "`touch ran`", "data": "os:system",
                 "criterion": {"loss": "evil.py:build"}, "options": {"metrics": "evil.py:build"}}  # fmt: skip
        file.attrs["provenance"] = json.dumps(facts)

    def opaque(file: h5py.File) -> None:
        file["metrics_pickled"] = np.void(pickle.dumps(Bomb()))
        file.attrs["provenance"] = np.void(pickle.dumps(Bomb()))

    def filtered(file: h5py.File) -> None:
        del file["train_loss"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((5, 7))
        plist.set_filter(32000 + 13, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((5, 7))
        h5py.h5d.create(file.id, b"train_loss", h5py.h5t.IEEE_F64LE, space, plist)

    def external(file: h5py.File) -> None:
        del file["train_loss"]
        file["train_loss"] = h5py.ExternalLink("secret.h5", "/x")
        file["directions/x"] = h5py.ExternalLink("secret.h5", "/x")

    def stored_elsewhere(file: h5py.File) -> None:
        del file["train_loss"]
        file.create_dataset("train_loss", (5, 7), "f8", external=[("secret.raw", 0, 280)])

    def virtual(file: h5py.File) -> None:
        del file["train_loss"]
        layout = h5py.VirtualLayout((5, 7), "f8")
        layout[:] = h5py.VirtualSource("secret.h5", "x", (5, 7))
        file.create_virtual_dataset("train_loss", layout)

    def names(file: h5py.File) -> None:
        file.copy("train_loss", "$(touch ran)_loss")
        file.copy("train_loss", "__import__('os').system('touch ran')_loss")
        file.copy("train_loss", "evil.py:build_loss")

    traps = {work.__name__: work for work in (provenance, opaque, filtered, external, stored_elsewhere, virtual, names)}
    found: dict[str, tuple[str, Callable[[Path], None]]] = {name: ("t.h5", changed(work)) for name, work in traps.items()}
    found["pickle as .h5"] = ("t.h5", lambda path: path.write_bytes(pickle.dumps(Bomb())))
    found["pickle as .vts"] = ("t.vts", lambda path: path.write_bytes(pickle.dumps(Bomb())))
    found["Python as .vtp"] = ("t.vtp", lambda path: path.write_text("open('ran', 'w')"))  # type: ignore[dict-item]
    return found


def data_traps() -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Name -> (file name, function that writes it)."""

    def objects(path: Path) -> None:
        np.savez(path, inputs=np.array([Bomb()], dtype=object), targets=np.array([0]))

    def pickled_member(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inputs.npy", pickle.dumps(Bomb()))
            archive.writestr("../../targets.npy", pickle.dumps(Bomb()))

    return {
        "object array": ("t.npz", objects), "pickled member": ("t.npz", pickled_member),
        "bare pickle": ("t.npz", lambda path: path.write_bytes(pickle.dumps(Bomb()))),
    }  # fmt: skip


def _watched(words: list[str]) -> Callable[[], None]:
    """The command, with an audit hook that ends the process with code 77 when a trap has sprung."""
    from paraloss.cli import main

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        programs = event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.forkpty")
        if event == "subprocess.Popen" and list(arguments[1])[:3] == [sys.executable, "-m", "paraloss.surface.repair"]:
            return  # repair reads in a process of its own, because HDF5 may never return
        code = event == "import" and str(arguments[0]).partition(".")[0] == "evil"
        secret = event == "open" and ("secret" in str(arguments[0]) or str(arguments[0]).endswith("evil.py"))
        if programs or code or secret:
            sys.stderr.write(f"\nSPRUNG: {event} {arguments!r}\n"[:300])
            sys.stderr.flush()
            os._exit(77)

    def work() -> None:
        sys.addaudithook(hook)
        main(words)

    return work


def everything() -> dict[str, Tally]:
    """Set every trap before every verb of its kind; what became of them by kind."""
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "case"
        folder.mkdir()
        from helpers import surface_of

        surface = surface_of(lambda x, y: x**2 + 2 * y**2 + 0.1, 7, 5)
        for name in ("s.h5", "small.h5"):
            surface.save(folder / name)
        warm_up(folder)
        with h5py.File(folder / "secret.h5", "w") as file:
            file["x"] = np.ones((5, 7))
        (folder / "secret.raw").write_bytes(bytes(280))
        (folder / "bomb.bin").write_bytes(pickle.dumps(Bomb()))
        _safetensors(folder / "secret.safetensors")
        (folder / "evil.py").write_text("open('ran', 'w')\ndef build(*a, **k): open('ran', 'w')\n")
        groups = {
            "checkpoints": (checkpoint_traps(), CHECKPOINTS),
            "surfaces and grids": (surface_traps(folder / "s.h5"), SURFACES),
            "data": (data_traps(), DATA),
        }
        inputs = {path.name for path in folder.iterdir()}
        for group, (traps, verbs) in groups.items():
            tally = tallies.setdefault(group, Tally())
            for trap, (name, write) in traps.items():
                for verb, words in verbs.items():
                    write(folder / name)
                    outcome = in_child(_watched([word.replace("TRAP", name) for word in words]), folder, 60)
                    sprung = outcome.code == 77 or (folder / "ran").exists()
                    harm = f"sprung: {outcome.said[-300:]}" if sprung else outcome.harm()
                    tally.count(outcome, f"{trap}, {verb}: {harm}" if harm else "")
                    for left in [left for left in folder.iterdir() if left.name not in inputs]:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return tallies


def show(tallies: dict[str, Tally]) -> int:
    """Print a line a kind of file; how many traps have sprung or came to other harm."""
    print(f"{'traps in':20}{'tried':>7}{'read':>7}{'refused':>9}{'sprung or harmed':>18}")
    for kind, tally in tallies.items():
        print(f"{kind:20}{tally.cases:7}{tally.done:7}{tally.refused:9}{len(tally.harmed):18}")
        for line in tally.harmed:
            print(f"    {line}")
    total, harmed = sum(tally.cases for tally in tallies.values()), sum(len(tally.harmed) for tally in tallies.values())
    print(f"{total} traps; {harmed} sprang or came to harm")
    return harmed


if __name__ == "__main__":
    sys.exit(bool(show(everything())))
