"""The scenes that are drawn with every version of ParaView, on one rank and on two, and their likeness."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import image
from skimage.metrics import structural_similarity

from paraloss import Surface, convert

HOUSE = Path(__file__).resolve().parent.parent
STATES = HOUSE / "state_files"
RENDER = STATES / "render.py"
SIZE = "800x450"
MARKS = ("--minimum", "--trajectory")


@dataclass(frozen=True)
class Scene:
    """A picture that ``state_files/render.py`` draws: its title, files and options."""

    title: str
    files: tuple[str, ...]
    options: tuple[str, ...] = ()
    on_two_ranks: bool = True


SCENES = {
    "lit": Scene("a surface, lit", ("a.h5",)),
    "vts": Scene("a .vts", ("a.vts",)),
    "extras": Scene("contours, minimum, path, from the front", ("a.h5",), (*MARKS, "--contours", "9", "--view", "front")),
    "dark": Scene("dark, with contours, viridis", ("a.h5",), ("--look", "dark", "--contours", "12", "--color-map", "viridis")),
    "runs": Scene("several paths, a color each", ("runs.h5",), ("--trajectory",)),
    "unfinished": Scene("a surface that is being computed", ("unfinished.h5",)),
    "side_by_side": Scene("side by side", ("a.h5", "b.h5"), ("--state", "side_by_side")),
    "trajectory": Scene("a path colored by step", ("a.h5",), ("--state", "trajectory")),
    "series": Scene("a time series", ("a.h5", "b.h5"), ("--state", "training_time_series")),
    "volume": Scene("a volume, in shells", ("volume.vti",), ("--state", "volume")),
    **{
        f"{name}_pvsm": Scene(f"{name}.pvsm", files, ("--state", str(STATES / f"{name}.pvsm")), on_two_ranks=False)
        for name, files in (
            ("lit_surface", ("a.h5",)),
            ("side_by_side", ("a.h5", "b.h5")),
            ("contours", ("a.h5",)),
            ("trajectory", ("a.h5",)),
            ("training_time_series", ("a.h5", "b.h5")),
        )
    },
}  # fmt: skip


def draw_scenes(folder: Path, environment: Mapping[str, str]) -> None:
    """Draw every scene into ``folder`` as NAME.png, and on two ranks as NAME_2.png."""
    _write_samples(folder)
    for name, scene in SCENES.items():
        for ranks in (1, 2) if scene.on_two_ranks else (1,):
            target = folder / (f"{name}.png" if ranks == 1 else f"{name}_2.png")
            target.unlink(missing_ok=True)
            files = [str(folder / file) for file in scene.files]
            _draw([*files, "-o", str(target), "--size", SIZE, *scene.options], ranks, target, environment)


def _draw(arguments: list[str], ranks: int, target: Path, environment: Mapping[str, str]) -> None:
    launcher = []
    if ranks > 1:  # the MPI of pvbatch, not that of this Python's environment; a rank that waits leaves its core to others
        launcher = [str(_beside("pvbatch", "mpirun", environment)), "--mca", "mpi_yield_when_idle", "1"]
        launcher += ["--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    display = ["xvfb-run", "-a", "-n", str(5000 + os.getpid() % 20_000), "-s", "-noreset -screen 0 1280x1024x24"]
    command = [*display, *launcher, "pvbatch", str(RENDER), *arguments]
    outside = {key: value for key, value in environment.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    with target.with_suffix(".log").open("w") as log:
        done = subprocess.run(["timeout", "600", *command], stdout=log, stderr=log, env=outside, check=False)
    if done.returncode or not target.exists():
        print(f"{target}: not drawn; see {log.name}", flush=True)


def _beside(program: str, other: str, environment: Mapping[str, str]) -> Path:
    """``other`` in the folder of the PATH where ``program`` is."""
    folder = next(f for f in environment["PATH"].split(":") if (Path(f) / program).exists())
    return Path(folder) / other


def likeness(picture: Path, other: Path) -> float:
    """Structural similarity of two pictures, 1 for equal ones; 0 where one is missing or of another size."""
    if not (picture.exists() and other.exists()):
        return 0.0
    one, two = (image.imread(path)[..., :3] for path in (picture, other))
    return float(structural_similarity(one, two, channel_axis=-1, data_range=1.0)) if one.shape == two.shape else 0.0


def _write_samples(folder: Path) -> None:
    """Surfaces of formulas: with a path, with two, one half done, and a volume."""
    x, y = np.linspace(-1, 1, 61), np.linspace(-0.8, 0.8, 49)
    a, b = np.meshgrid(x, y)
    turn = np.linspace(0, 4, 25)

    def loss(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.asarray(0.05 + 3 * p**2 + 7 * (q + 0.1) ** 2 + 0.6 * np.sin(7 * p) ** 2 * np.cos(6 * q) ** 2)

    def path(phase: float) -> dict[str, np.ndarray]:
        px, py = 0.85 * np.exp(-turn) * np.cos(turn + phase), -0.1 + 0.65 * np.exp(-turn) * np.sin(turn + phase)
        return {"x": px, "y": py, "loss": loss(px, py) + 0.1, "step": np.arange(25.0), "residual": turn}

    plain = Surface(x, y, {"train_loss": loss(a, b), "train_acc": 100 - 5 * loss(a, b)})
    plain.with_paths({"": path(0)}).save(folder / "a.h5")
    Surface(x, y, {"train_loss": 2 * loss(b, a) + 0.2}).save(folder / "b.h5")
    plain.with_paths({"SGD": path(0), "Adam": path(2.5)}).save(folder / "runs.h5")
    done = a + b < 0.5
    values = {name: np.where(done, array, np.nan) for name, array in plain.metrics.items()}
    Surface(x, y, values, done.astype(np.uint8)).save(folder / "unfinished.h5")
    convert(folder / "a.h5", folder / "a.vts")
    axis = np.linspace(-1, 1, 33)
    w, v, u = np.meshgrid(axis, axis, axis, indexing="ij")
    cube = 0.1 + 4 * (u**2 + 0.5 * v**2 + w**2) + 0.5 * np.sin(4 * u) ** 2
    Surface(axis, axis, {"train_loss": cube}, z=axis).save(folder / "volume.h5")
    convert(folder / "volume.h5", folder / "volume.vti")
