"""Every figure of Li et al. 2018, and more, on small real data: python docs/gallery/make.py [FIGURE …]

Trains, computes and draws with the command line that users have; checkpoints and surfaces are kept in runs/gallery, and a
second run re-uses them. Writes the pictures, numbers.json and README.md beside this file. About 13 minutes on two cores.

The figure cifar10 takes the sample networks, and trains one of them again for its path: one to two hours on two cores. It is
made only where it is named.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from paraloss import examples
from paraloss.analysis.numbers import basin_area, convex_share, draw_dependence, persistent_minima, roughness, second_difference
from paraloss.compute import load_checkpoint
from paraloss.surface import read_surface

HERE = Path(__file__).resolve().parent
WORK = Path("runs/gallery")
NUMBERS = HERE / "numbers.json"  # of the last run of each figure
PLANE = ["--x=-1:1:21", "--y=-1:1:21", "--samples", "128"]


def paraloss(*arguments: object, ranks: int = 1) -> None:
    """One of our commands, as a user would type it."""
    beside = Path(sys.executable).parent / "mpiexec"
    launcher = [str(beside), "-n", str(ranks)] if ranks > 1 and beside.exists() else []
    print("$ paraloss", *arguments, flush=True)
    subprocess.run([*launcher, sys.executable, "-m", "paraloss", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def train(name: str, *arguments: object) -> Path:
    """The final checkpoint of a run called ``name``."""
    paraloss("train", *arguments, "-o", WORK / name)
    return WORK / name / "final.pt"


def compute(name: str, weights: Path, *arguments: object, ranks: int = 2) -> Path:
    """The surface file called ``name``."""
    path = WORK / f"{name}.h5"
    paraloss("compute", "--weights", weights, *arguments, "-o", path, ranks=ranks)
    return path


def network(name: str, epochs: int = 20) -> Path:
    lr = 0.01 if name == "resnet56_noshort" else 0.05  # deep nets without shortcuts need a lower rate (Li et al. 2018)
    return train(name, "--model", name, "--lr", lr, "--batch-size", 64, "--epochs", epochs)


def note(figure: str, **numbers: float) -> None:
    """Keep numbers for README.md."""
    known = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    known[figure] = {key: float(value) for key, value in numbers.items()}
    NUMBERS.write_text(json.dumps(known, indent=1) + "\n")


def shortcuts() -> None:
    """Figure 1: the same depth with and without shortcuts."""
    files = []
    for name in ("resnet56", "resnet56_noshort"):
        files.append(compute(name, network(name), "--x=-0.5:0.5:31", "--y=-0.5:0.5:31", "--samples", 192))
    paraloss("render", *files, HERE / "shortcuts.png", "--backend", "pyvista", "--contours", 14)
    with_, without = (read_surface(file) for file in files)
    note(
        "shortcuts", second_with=second_difference(with_.metric()), second_without=second_difference(without.metric()),
        convex_with=convex_share(with_.metric()), convex_without=convex_share(without.metric()),
        basin_with=basin_area(with_), basin_without=basin_area(without),
    )  # fmt: skip


def interpolation() -> None:
    """Goodfellow et al. 2015: from the initial to the final weights, and between two solutions."""
    final = network("resnet20")
    other = train("resnet20_b", "--model", "resnet20", "--lr", 0.05, "--batch-size", 64, "--epochs", 20, "--seed", 1)
    start = WORK / "resnet20" / "epoch_000.pt"
    lines = [
        compute("line_start", start, "--x-to", final, "--x=-0.1:1.3:43", "--splits", "train,test", "--samples", 300),
        compute("line_between", final, "--x-to", other, "--x=-0.3:1.3:49", "--splits", "train,test", "--samples", 300),
        compute(
            "line_recomputed", final, "--x-to", other, "--x=-0.3:1.3:49", "--splits", "train,test", "--samples", 300,
            "--bn", "recompute",
        ),
    ]  # fmt: skip
    labels = ["initial → final", "solution A → B", "A → B, batch norm recomputed"]
    paraloss("render", *lines, HERE / "interpolation.png", *(part for label in labels for part in ("--label", label)))
    start_line, between, recomputed = (read_surface(file) for file in lines)
    inside = (start_line.x >= 0) & (start_line.x <= 1)
    losses = start_line.metrics["train_loss"][inside]
    note(
        "interpolation", rises=float((np.diff(losses) > 1e-3).mean()), barrier=between.metrics["train_loss"].max(),
        barrier_recomputed=recomputed.metrics["train_loss"].max(),
    )  # fmt: skip


def batch_size() -> None:
    """Figures 2 and 3: VGG-9 trained with small and large batches, with and without weight decay."""
    numbers: dict[str, float] = {}
    for decay, title in (("0", "no weight decay"), ("5e-3", "weight decay 0.005")):
        runs = {}
        for kind, size, lr in (("small", 16, 0.02), ("large", 512, 0.1)):
            name = f"vgg9_{kind}_{decay}"
            runs[kind] = train(
                name, "--model", "vgg9", "--batch-size", size, "--lr", lr, "--weight-decay", decay, "--epochs", 10
            )
        tag = "decay" if decay != "0" else "plain"
        line = compute(
            f"vgg9_line_{tag}", runs["small"], "--x-to", runs["large"], "--x=-0.5:1.5:41", "--splits", "train,test",
            "--samples", 300,
        )  # fmt: skip
        paraloss("render", line, HERE / f"batch_line_{tag}.png", "--label", f"small batch (0) to large batch (1), {title}")
        labels = ["--label", "small batch", "--label", "large batch"]
        paraloss("histogram", runs["small"], runs["large"], HERE / f"batch_weights_{tag}.png", *labels)
        curves = [
            compute(
                f"vgg9_curve_{kind}_{tag}", runs[kind], "--curve", "--x=-1:1:31", "--splits", "train,test", "--samples", 300
            )
            for kind in runs
        ]
        paraloss("render", *curves, HERE / f"batch_curves_{tag}.png", *labels)
        planes = [compute(f"vgg9_plane_{kind}_{tag}", runs[kind], *PLANE) for kind in runs]
        paraloss("render", *planes, HERE / f"batch_planes_{tag}.png", "--style", "contour", *labels)
        for kind in runs:
            state, record = load_checkpoint(runs[kind])
            squares = sum(float(t.double().square().sum()) for t in state.values() if t.ndim > 1)
            numbers[f"norm_{kind}_{tag}"] = squares**0.5
            numbers[f"test_acc_{kind}_{tag}"] = float(record["test_acc"])
        for kind, plane in zip(runs, planes, strict=True):
            numbers[f"basin_{kind}_{tag}"] = basin_area(read_surface(plane))
    note("batch_size", **numbers)


def repeats() -> None:
    """Ten filter-normalized planes of one network: does the picture depend on the draw?"""
    final = network("resnet20")
    paraloss(
        "compute",
        "--weights",
        final,
        "--curve",
        "--x=-1:1:31",
        "--samples",
        256,
        "--repeats",
        10,
        "-o",
        WORK / "ten.h5",
        ranks=2,
    )
    files = sorted(WORK.glob("ten_seed*.h5"))
    labels = [part for file in files for part in ("--label", file.stem.removeprefix("ten_"))]
    paraloss("render", *files, HERE / "ten_curves.png", "--metric", "train_loss", *labels)
    note("repeats", dependence=draw_dependence([read_surface(file).metric() for file in files]))


def depth_and_width() -> None:
    """Figures 5 and 6: contours over depth, surfaces over width, with and without shortcuts."""
    numbers, files, labels = {}, [], []
    grid = ["--backend", "pyvista", "--columns", 3, "--contours", 10]
    for end, title in (("", "with shortcuts"), ("_noshort", "without")):
        for depth in (20, 32, 56):
            name = f"resnet{depth}{end}"
            final = network(name)
            files.append(compute(f"depth_{name}", final, "--x=-0.5:0.5:21", "--y=-0.5:0.5:21", "--samples", 128))
            labels += ["--label", f"ResNet-{depth} {title}"]
            surface = read_surface(files[-1])
            numbers[f"convex_{depth}{end}"] = convex_share(surface.metric())
            numbers[f"basin_{depth}{end}"] = basin_area(surface)
    paraloss("render", *files, HERE / "depth.png", *grid, "--zmax", 10, *labels)
    paraloss("render", *files, HERE / "depth_contours.png", "--style", "filled", "--columns", 3, *labels)
    wide, labels = [], []
    for end, title in (("", "with"), ("_noshort", "without")):
        for width in (1, 2, 4):
            name = f"resnet20{end}"
            arguments = ["--model", name, "--model-arg", f"width={width}", "--lr", 0.05, "--batch-size", 64, "--epochs", 6]
            final = train(f"wide_{name}_{width}", *arguments)
            wide.append(compute(f"wide_{name}_{width}", final, "--x=-1:1:17", "--y=-1:1:17", "--samples", 64))
            labels += ["--label", f"ResNet-20, width ×{width}, {title} shortcuts"]
            numbers[f"basin_width_{width}{end}"] = basin_area(read_surface(wide[-1]))
    paraloss("render", *wide, HERE / "width.png", *grid, "--smooth", 2, *labels)
    note("depth_and_width", **numbers)


def curvature() -> None:
    """Figure 7: the ratio of the Hessian's smallest and largest eigenvalue over the plane; the spectrum at the center."""
    numbers, files = {}, []
    for name in ("resnet20", "resnet20_noshort"):
        final = network(name)
        plane = ["--x=-0.5:0.5:7", "--y=-0.5:0.5:7", "--samples", 32, "--metrics", "loss,acc,hessian"]
        files.append(compute(f"curvature_{name}", final, *plane))
        numbers[f"ratio_{name}"] = float(np.nanmedian(read_surface(files[-1]).metrics["eig_ratio"]))
    paraloss("render", *files, HERE / "curvature.png", "--style", "heat", "--metric", "eig_ratio")
    paraloss("hessian", "--weights", WORK / "resnet20" / "final.pt", "--samples", 128, "-o", HERE / "spectrum.png")
    note("curvature", **numbers)


def trajectory() -> None:
    """Figure 9: the optimizer's path in the plane of its first two principal components."""
    train("mlp", "--model", "mlp", "--lr", 0.05, "--batch-size", 32, "--epochs", 20)
    path = WORK / "path.h5"
    paraloss("project", WORK / "mlp", "--points", 41, "-o", path, ranks=2)
    paraloss("render", path, HERE / "trajectory.png", "--style", "contour")
    paraloss("render", path, HERE / "trajectory_lit.png", "--backend", "pyvista", "--contours", 14, "--axes")
    shares = read_surface(path).provenance["explained_variance_ratio"]
    note("trajectory", first=shares[0], both=sum(shares))


def autoencoder() -> None:
    """The seed's L2 and FLL2: an autoencoder under two criteria, from two views."""
    example = "examples/autoencoder.py"
    final = train(
        "autoencoder", "--model", f"{example}:autoencoder", "--data", f"{example}:images", "--loss", "mse", "--lr", 1,
        "--weight-decay", 0, "--batch-size", 32, "--epochs", 40,
    )  # fmt: skip
    plane = ["--x=-1:1:41", "--y=-1:1:41"]
    files = [compute("l2", final, *plane), compute("focal", final, *plane, "--loss", f"{example}:focal")]
    for view in ("paper", "front"):
        paraloss(
            "render", *files, HERE / f"autoencoder_{view}.png", "--view", view, "--backend", "pyvista", "--log-offset", 0.001,
            "--label", "L2", "--label", "focal frequency loss",
        )  # fmt: skip


def volume() -> None:
    """Three directions: shells of equal loss, and a fog of it."""
    final = train("mlp", "--model", "mlp", "--lr", 0.05, "--batch-size", 32, "--epochs", 20)
    file = compute("volume", final, "--x=-1:1:25", "--y=-1:1:25", "--z=-1:1:25", "--samples", 256)
    paraloss("render", file, HERE / "volume_iso.png", "--label", "shells of equal loss")
    paraloss("render", file, HERE / "volume_fog.png", "--style", "fog", "--label", "fog")


def looks() -> None:
    """Every look on four real surfaces, and what may be drawn on them."""
    from PIL import Image

    surfaces = [WORK / f"{name}.h5" for name in ("resnet56", "resnet56_noshort", "path", "l2")]
    tiles = []
    for look in ("paper", "dark", "flat", "clay"):
        for surface in surfaces:
            tile = WORK / f"look_{look}_{surface.stem}.png"
            paraloss("render", surface, tile, "--look", look, "--size", "1200x800", "--backend", "pyvista", "--label", look)
            tiles.append(Image.open(tile).convert("RGB").resize((600, 400), Image.Resampling.LANCZOS))
    sheet = Image.new("RGB", (2400, 1600))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (600 * (number % 4), 400 * (number // 4)))
    sheet.save(HERE / "looks.png")
    rough = WORK / "resnet56_noshort.h5"
    extras = ["--axes", "--floor", "--contours", 14, "--minimum", "--backend", "pyvista"]
    paraloss("render", rough, HERE / "everything.png", *extras)
    paraloss("render", WORK / "resnet56.h5", rough, HERE / "overlay.png", "--overlay", "--backend", "pyvista", "--axes")
    paraloss("render", rough, WORK / "resnet56.h5", HERE / "difference.png", "--difference", "--backend", "pyvista")
    note("looks", minima_with=len(persistent_minima(read_surface(surfaces[0]).metric())),
         minima_without=len(persistent_minima(read_surface(rough).metric())))  # fmt: skip


def cifar10() -> None:
    """Figures 1, 5, 9 and Goodfellow's line on the data of the paper, of the sample networks and of the run of one of them."""
    numbers: dict[str, float] = {}
    planes, curves = [], []
    labels = ["--label", "with shortcuts", "--label", "without"]
    for name in ("resnet56", "resnet56_noshort"):
        final = examples.checkpoint(f"cifar10_{name}")
        plane = ["--x=-1:1:51", "--y=-1:1:51", "--samples", 256, "--precision", "fp32"]
        planes.append(compute(f"cifar10_{name}", final, *plane))
        curves.append(compute(f"cifar10_{name}_curve", final, "--curve", "--x=-1:1:51", "--samples", 1000))
        surface = read_surface(planes[-1])
        numbers |= {
            f"error_{name}": 100 - surface.provenance["trained"]["test_acc"],
            f"basin_{name}": basin_area(surface),
            f"convex_{name}": convex_share(surface.metric()),
            f"rough_{name}": roughness(surface),
        }
    paraloss("render", *planes, HERE / "cifar10.png", "--backend", "pyvista", "--contours", 14)
    paraloss("render", *planes, HERE / "cifar10_contours.png", "--style", "contour", "--zmax", 10, *labels)
    paraloss("render", *curves, HERE / "cifar10_curves.png", "--metric", "train_loss", *labels)
    recipe = [*examples.CIFAR10_RECIPE, "--epochs", examples.CIFAR10_EPOCHS]
    final = train("cifar10_run", "--model", "resnet56", *recipe)
    path = WORK / "cifar10_path.h5"
    paraloss("project", final.parent, "--points", 21, "--samples", 256, "-o", path, ranks=2)
    paraloss("render", path, HERE / "cifar10_trajectory.png", "--style", "contour")
    shares = read_surface(path).provenance["explained_variance_ratio"]
    splits = ["--splits", "train,test", "--samples", 500]
    line = compute("cifar10_line", final.parent / "epoch_000.pt", "--x-to", final, "--x=0:1:31", *splits)
    paraloss("render", line, HERE / "cifar10_line.png", "--label", "from initial (0) to final weights (1)")
    inside = read_surface(line).metrics["train_loss"]
    note("cifar10", **numbers, first=shares[0], both=sum(shares), rises=float((np.diff(inside) > 1e-3).mean()))


FIGURES = (
    shortcuts, interpolation, batch_size, repeats, depth_and_width, curvature, trajectory, autoencoder, volume, looks,
)  # fmt: skip


def main() -> None:
    """Make all figures, or those named."""
    os.chdir(HERE.parents[1])
    WORK.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if unknown := set(sys.argv[1:]) - {figure.__name__ for figure in (*FIGURES, cifar10)}:
        sys.exit(f"gallery: no figure {', '.join(unknown)}")
    for figure in (*FIGURES, cifar10):
        if figure.__name__ in sys.argv[1:] or (len(sys.argv) == 1 and figure is not cifar10):
            start = time.monotonic()
            figure()
            print(f"== {figure.__name__}: {time.monotonic() - start:.0f} s", flush=True)
    print(f"the gallery took {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    write_readme()


def write_readme() -> None:
    """README.md from README.in.md, with the numbers of the last runs in the places of {figure.number}."""
    text = (HERE / "README.in.md").read_text()
    for figure, numbers in json.loads(NUMBERS.read_text()).items():
        for name, value in numbers.items():
            text = text.replace(f"{{{figure}.{name}}}", f"{value:.3g}").replace(f"{{{figure}.{name}%}}", f"{100 * value:.0f} %")
    if left := re.findall(r"\{(\w+)\.\w+%?\}", text):
        sys.exit(f"gallery: README.md not written; these have never been made here: {', '.join(sorted(set(left)))}")
    (HERE / "README.md").write_text(text)


if __name__ == "__main__":
    main()
