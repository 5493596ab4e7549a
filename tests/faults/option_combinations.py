"""Options of every verb in random combinations, sound and unsound: ``python option_combinations.py [CASES] [SEED]``.

The options come from the command's own parser. A combination ends with exit code 0 and complete files, or with 2, one line,
and no new file. Whatever the inputs were, they are the same afterwards.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from xml.etree import ElementTree

import h5py
import numpy as np
from children import Outcome, command
from damaged_files import Tally, warm_up

WORDS = [
    "",
    "nonsense",
    "$x_1^$",
    "<b>x</b>",
    "x" * 5000,
    "\x1b[31m",
    "😀",
    "../up",
    "/dev/null",
    "a,,b",
    "-1",
    "a\nb",
    "%s{0}",
    "λ",
]
WHOLE = ["0", "-1", "2.5", "nan", "1e3", "", "9" * 30, "2000000000", "x", "0x10", "-2147483649", "1_0"]
REAL = ["nan", "inf", "-inf", "1e400", "-1", "0", "1e308", "1e-320", "x", "", "-1e-3", "1e30", "0.999999", "1e17"]
PATHS = [
    "missing.h5",
    ".",
    "/dev/null",
    "/dev/zero",
    "",
    "no/such/folder/s.h5",
    "w.pt",
    "x" * 300,
    "s.h5",
    "a\nb.h5",
    "garbage.h5",
]
STEPS = ["-1:1:3", "-1:1:2", "0:1:4", "-0.5:1.5:3"]
WRONG_STEPS = ["-1:1:2000000000", "1:-1:5", "0:0:3", "nan:1:3", "-1e308:1e308:5", "0:1", "::", "0:1e-320:3", "0:inf:3", "1:2:1"]
WRONG_STEPS += ["0:1:2.5", "", "a:b:c", "1:1.0000000000000001:9", "-1:1:99999999999999999999", "0:1:3:4"]
SOUND = {
    "model": ["mine.py:model"],
    "data": ["mine.py:data", "npz:data.npz"],
    "loss": ["cross_entropy", "softmax_mse"],
    "metrics": ["loss", "loss,acc", "acc", "loss,grad_norm", "hessian"],
    "splits": ["train", "test,train"],
    "x": STEPS,
    "y": STEPS,
    "z": STEPS[:2],
    "size": ["120x100", "200x150"],
    "style": ["contour", "filled", "heat"],
    "view": ["top", "front"],
    "look": ["dark", "flat", "clay"],
    "color-map": ["viridis", "gray"],
    "color-by": ["train_acc", "train_loss"],
    "metric": ["train_loss", "train_acc"],
    "move": ["0.*", "*weight", "trainable"],
    "device": ["cpu", "auto"],
    "label": ["a", "$\\alpha$", "b<c"],
    "weights": ["w.pt"],
    "x-to": ["v.pt"],
    "y-to": ["u.pt"],
    "z-to": ["v.pt"],
    "directions": ["d.h5"],
    "onto": ["d.h5"],
    "bins": ["20"],
    "samples": ["3", "5"],
    "batch-size": ["1", "4", "1000"],
    "points": ["3", "4"],
    "epochs": ["1", "2"],
    "top": ["1", "3"],
    "repeats": ["1", "2"],
    "frames": ["2", "3"],
    "smooth": ["1", "2", "3"],
    "seed": ["0", "7"],
    "contours": ["0", "5"],
    "split-data": ["1"],
    "columns": ["1", "2"],
    "weights-key": ["state_dict"],
    "model-arg": ["a=1"],
    "data-arg": ["b=x"],
    "level": ["1", "0.5"],
    "critical-points": ["out.vtp"],
    "basins": ["out.vts"],
    "port": ["0"],
    "step": ["mine.py:step"],
    "precision-bound": ["0.01"],
    "precision": ["fp32"],
    "movie": ["orbit"],
}
LONG = {"epochs", "repeats", "points", "point-timeout", "fps", "frames"}  # sound when large: nobody waits for them here
LEFT_OUT = {"output", "watch", "web", "browser", "install", "archive", "step", "progress"}
_OWN = "--model mine.py:model --data mine.py:data"
_SMALL = "--backend pyvista --size 120x100"
BASES = {
    "compute": [f"--weights w.pt {_OWN} --x=-1:1:3 -o out.h5"],
    "project": [f"w.pt v.pt u.pt {_OWN} --points 3 -o out.h5"],
    "hessian": [f"--weights w.pt {_OWN} --top 1 -o out{ending}" for ending in (".h5", ".png")],
    "train": [f"{_OWN} --epochs 1 -o out"],
    "convert": [
        *(f"s.h5 out.{ending}" for ending in ["vts", "vtp", "vtkhdf", "csv", "npz", "h5", "glb", "stl", "pvd", "ply", "usda"]),
        "v.h5 out.vti",
        "s.h5 p.h5 out.pvd",
    ],
    "render": [
        "s.h5 out.html", "s.h5 out.png --style filled", "s.h5 out.svg", "s.h5 p.h5 out.html", "c.h5 out.png",
        "s.h5 p.h5 out.pdf",
        f"s.h5 out.png {_SMALL}", f"v.h5 out.png {_SMALL}", "p.h5 out.gif --frames 2",
    ],
    "analyze": ["s.h5", "s.h5 p.h5", "s.h5 --json"],
    "histogram": ["w.pt out.png", "w.pt v.pt out.svg"],
    "info": ["s.h5", "w.pt", "", "garbage.h5"],
    "view": ["missing.h5", ""],
    "paraview": ["missing.h5", "s.h5"],
    "data": ["nonsense", "cifar10 --archive garbage.h5", "fashion-mnist --archive missing"],
    "demo": ["--ranks 1 --grid 1 -o s.h5"],
}  # fmt: skip
WEIGHTS = {"compute": 9, "project": 4, "hessian": 3, "train": 3, "convert": 4, "render": 5, "analyze": 2}
MINE = """
import torch
def model(a=0):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 3))
def data(b=""):
    torch.manual_seed(0)
    pair = lambda n: (torch.randn(n, 4), torch.arange(n) % 3)
    return {"train": pair(12), "test": pair(5)}
def step(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
"""


def prepare(folder: Path) -> None:
    """Write the sound files that the combinations name."""
    import torch
    from helpers import surface_of

    from paraloss.surface import Surface

    surface = surface_of(lambda x, y: x**2 + 2 * y**2 + 0.1, 7, 5)
    path = {name: np.linspace(0, 0.5, 4) for name in ("x", "y", "loss", "step", "residual")}
    both = {"train_loss": surface.metric(), "train_acc": 100 - surface.metric()}
    directions = {
        axis: {"0.weight": np.eye(3, 4, k, dtype=np.float32), "0.bias": np.zeros(3, np.float32)} for k, axis in enumerate("xy")
    }
    Surface(surface.x, surface.y, both, surface.status, {"model": "m"}).save(folder / "s.h5")
    Surface(surface.x, surface.y, both, surface.status, {}, trajectory=path).save(folder / "p.h5")
    Surface(surface.x, surface.y, both, surface.status, {}, directions).save(folder / "d.h5")
    Surface(surface.x, None, {"train_loss": surface.metric()[2]}, surface.status[2]).save(folder / "c.h5")
    cube = np.add.outer(np.arange(3.0), surface.metric())
    Surface(surface.x, surface.y, {"train_loss": cube}, np.ones(cube.shape, np.uint8), {}, z=np.arange(3.0)).save(
        folder / "v.h5"
    )
    for number, name in enumerate("wvu"):
        torch.manual_seed(number)
        state = {"0.weight": torch.randn(3, 4), "0.bias": torch.zeros(3)}
        torch.save({"state_dict": state}, folder / f"{name}.pt")
    np.savez(folder / "data.npz", inputs=np.ones((5, 4), np.float32), targets=np.arange(5) % 3)
    (folder / "garbage.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)))
    (folder / "small.h5").write_bytes((folder / "s.h5").read_bytes())


def options_of(verb: str) -> dict[str, tuple[str, Any]]:
    """Each option of a verb: its name, the word that sets it, and its type, from the command's own parser."""
    from paraloss.cli import app

    found = {}
    for argument in app[verb].assemble_argument_collection():
        name = argument.names[0] if argument.names else "*"
        if argument.parse and name.startswith("--") and name[2:] not in LEFT_OUT:
            found[name[2:]] = (name, argument.hint)
    return found


def combination(verb: str, dice: random.Random) -> list[str]:
    """A command: a sound base, and up to five options, one in six of them unsound."""
    words, options = dice.choice(BASES[verb]).split(), options_of(verb)
    for name in dice.sample(sorted(options), min(len(options), dice.choice([0, 1, 1, 2, 2, 3, 5]))):
        words += _setting(verb, name, *options[name], dice)
    if dice.random() < 0.03 and words:
        words.remove(dice.choice(words))
    return [verb, *words]


def _setting(verb: str, name: str, option: str, hint: Any, dice: random.Random) -> list[str]:
    kinds = get_args(hint) or (hint,)
    choices = [text for kind in (hint, *kinds) if get_origin(kind) is Literal for text in get_args(kind)]
    if bool in kinds:
        opposite = [] if name in ("overwrite", "train-mode", "json", "li2018", "difference", "repair") else [f"--no-{name}"]
        return [dice.choice([option, *opposite])]
    unsound = dice.random() < 1 / 6
    if not unsound:
        texts = (
            choices
            or SOUND.get(name)
            or (["2"] if int in kinds else ["0.5", "0.01", "1.5"] if float in kinds else ["nonsense"])
        )
    elif choices:
        texts = WORDS
    elif name in ("x", "y", "z"):
        texts = WRONG_STEPS
    elif int in kinds:
        texts = [text for text in WHOLE if name not in LONG or len(text) < 9]
    else:
        texts = REAL if float in kinds or list[float] in kinds else PATHS if Path in kinds else WORDS
    return [f"{option}={dice.choice(texts)}"]


def incomplete(path: Path) -> str:
    """Return what is wrong with a file that a command says it has written, or ""."""
    try:
        _open(path)
    except Exception as error:
        return f"{path.name} is not complete: {type(error).__name__}: {error}"[:200]
    return ""


def _open(path: Path) -> None:
    ending = path.suffix
    content = path.read_bytes()
    assert content, "empty"
    if path.name.startswith("."):
        assert ending == ".lock", "a temporary file"
    elif ending in (".h5", ".vtkhdf"):
        with h5py.File(path) as file:
            if file.attrs.get("format") == "paraloss-surface":
                assert (file["status"][()] > 0).all(), "points without a value"
    elif ending == ".pt":
        import torch

        torch.load(path, weights_only=True)
    elif ending in (".png", ".gif"):
        from PIL import Image

        Image.open(path).load()
    elif ending == ".npz":
        assert np.load(path).files
    elif ending in (".svg", ".pvd"):
        ElementTree.fromstring(content)
    elif ending in (".vts", ".vtp", ".vti"):
        assert b"</VTKFile>" in content[-400:], "no end"
    elif ending == ".html":
        assert b"</html>" in content[-50:], "no end"
    elif ending == ".pdf":
        assert b"%%EOF" in content[-20:], "no end"
    elif ending == ".json":
        json.loads(content)


@dataclass
class Inputs:
    """The sound files, put back before every case."""

    kept: Path
    sums: dict[str, str] = field(default_factory=dict)

    def restore(self, folder: Path) -> None:
        """Empty ``folder`` and copy the sound files into it."""
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in self.kept.iterdir():
            if path.is_file():
                shutil.copy(path, folder)
        self.sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    def changed(self, folder: Path) -> list[str]:
        """Names of the inputs that are not as they were."""
        now = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() if (folder / name).exists() else ""
            for name in self.sums
        }
        return [name for name, sum_ in self.sums.items() if now[name] != sum_]


def judged(outcome: Outcome, words: Sequence[str], folder: Path, inputs: Inputs) -> str:
    """Return what is wrong with the end of a combination, or ""."""
    harm = outcome.harm(memory_mb=1500)
    new = [
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name not in inputs.sums
    ]
    if harm:
        return harm
    if changed := [name for name in inputs.changed(folder) if not ("--overwrite" in words or "--repair" in words)]:
        return f"changed {', '.join(changed)}"
    if outcome.code == 2:
        lines = [line for line in outcome.said.splitlines() if line.startswith("paraloss: ")]
        left = [path.name for path in new if path.suffix != ".lock"]
        may_keep = any(word.startswith("--point-timeout") for word in words)  # what was finished until then
        return (
            f"left {left}: {lines[-1][:200]}"
            if left and not may_keep
            else ""
            if len(lines) == 1
            else f"{len(lines)} lines: {lines}"
        )
    return next(filter(None, (incomplete(path) for path in new)), "")


def everything(cases: int, seed: int = 1, report: int = 200) -> dict[str, Tally]:
    """Try so many combinations; what became of them by verb."""
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as place:
        kept, folder = Path(place) / "kept", Path(place) / "case"
        kept.mkdir(), folder.mkdir()
        prepare(kept)
        warm_up(kept)
        (kept / "mine.py").write_text(MINE)
        shutil.rmtree(kept / "__pycache__", ignore_errors=True)
        sys.modules.pop("mine", None)
        inputs = Inputs(kept)
        verbs = [verb for verb in BASES for _ in range(WEIGHTS.get(verb, 1))]
        for case in range(cases):
            dice = random.Random(f"{seed} {case}")
            words = combination(verbs[case % len(verbs)], dice)
            inputs.restore(folder)
            outcome = command(words, folder, seconds=120)
            tally = tallies.setdefault(words[0], Tally())
            harm = judged(outcome, words, folder, inputs)
            tally.count(outcome, f"case {case} ({' '.join(map(repr, words))[:400]}): {harm}" if harm else "")
            if harm:
                print("   ", tally.harmed[-1], flush=True)
            if report and (case + 1) % report == 0:
                print(f"    {case + 1} of {cases} combinations, {harmed(tallies)} came to harm", flush=True)
    return tallies


def harmed(tallies: dict[str, Tally]) -> int:
    """How many cases came to harm."""
    return sum(len(tally.harmed) for tally in tallies.values())


def show(tallies: dict[str, Tally]) -> int:
    """Print a line a verb; how many combinations came to harm."""
    print(f"{'verb':12}{'combinations':>13}{'exit 0':>8}{'exit 2':>8}{'harmed':>8}{'longest s':>11}")
    for verb, tally in sorted(tallies.items()):
        print(f"{verb:12}{tally.cases:13}{tally.done:8}{tally.refused:8}{len(tally.harmed):8}{tally.slowest_s:11.1f}")
    print(f"{sum(tally.cases for tally in tallies.values())} combinations of options; {harmed(tallies)} came to harm")
    return harmed(tallies)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]]
    sys.exit(bool(show(everything(*(numbers or [2_000])))))
