"""Figure 1 of Li et al. 2018 on the data of the paper, CIFAR-10: python docs/figure1.py [-o FOLDER] [--x=-1:1:51] [--train] …

Fetches the images, computes the surfaces and curves of ResNet-56 with and without shortcuts with the command line that
users have, draws them in ParaView and with pyvista, and prints the numbers beside those of the paper. Each step goes on where
it was stopped. Other options are those of ``paraloss figure``, as in --samples 1000; without --samples each point stands for
all 50,000 images, to within --rtol 0.01.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from paraloss import examples
from paraloss.analysis.numbers import basin_area, convex_share, roughness
from paraloss.compute import load_data
from paraloss.errors import InputError
from paraloss.surface import read_surface

NETWORKS = {"resnet56": 5.89, "resnet56_noshort": 13.31}  # test error in % of Li et al. 2018, figure 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/figure1"))
    parser.add_argument("--x", default="-1:1:51", help="steps along both axes as FIRST:LAST:NUMBER (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="MPI ranks (default: %(default)s)")
    parser.add_argument("--train", action="store_true", help="train both networks instead of taking the samples: hours")
    parser.add_argument(
        "--epochs", type=int, default=examples.CIFAR10_EPOCHS, help="epochs of training, with --train (default: %(default)s)"
    )
    options, others = parser.parse_known_args()
    folder: Path = options.output

    try:
        load_data("cifar10")
    except InputError:
        paraloss("data", "cifar10")
    weights = [_trained(name, folder, options.epochs) if options.train else _sample(name) for name in NETWORKS]
    if not {"--samples", "--rtol"} & {part.partition("=")[0] for part in others}:
        others += ["--rtol", "0.01"]
    paraloss("figure", "--weights", *weights, f"--x={options.x}", *others, "-o", folder, ranks=options.ranks)
    files = [folder / f"{_name(path)}.h5" for path in weights]
    _print_table(files)
    paraloss("render", *files, folder / "figure1.png", "--backend", "paraview", "--contours", 14)


def _sample(name: str) -> Path:
    return examples.checkpoint(f"cifar10_{name}")


def _trained(name: str, folder: Path, epochs: int) -> Path:
    paraloss("train", "--model", name, *examples.CIFAR10_RECIPE, "--epochs", epochs, "-o", folder / name)
    return folder / name / "final.pt"


def _name(weights: Path) -> str:
    """The name that ``paraloss figure`` gives the files of a checkpoint."""
    return f"{weights.parent.name}_final" if weights.stem == "final" else weights.stem


def _print_table(files: list[Path]) -> None:
    print(f"\n{'':22} {'test error':>11} {'the paper':>10} {'loss':>8} {'basin':>7} {'convex':>8} {'roughness':>10}")
    for (name, paper), file in zip(NETWORKS.items(), files, strict=True):
        surface = read_surface(file)
        error = 100 - surface.provenance["trained"]["test_acc"]
        loss = surface.metric()[surface.center] if surface.center else float("nan")
        print(
            f"{name:22} {error:9.2f} % {paper:8.2f} % {loss:8.4f} {100 * basin_area(surface):5.1f} % "
            f"{100 * convex_share(surface.metric()):6.1f} % {roughness(surface):10.4f}"
        )
    print("the paper: 300 epochs (Li et al. 2018, figure 5)")
    print("basin: share of the plot, joined to the center, where the loss is at most 1 above the checkpoint's")
    print("convex: share of points with no direction of negative curvature in the plane")
    print("roughness: mean height of ln(loss + 0.1) above the highest bowl below it, 0 for any bowl")


def paraloss(*arguments: object, ranks: int = 1) -> None:
    """One of our commands, as a user would type it."""
    beside = Path(sys.executable).parent / "mpiexec"
    launcher = [str(beside), "-n", str(ranks)] if ranks > 1 and beside.exists() else []
    print("$ paraloss", *arguments, flush=True)
    done = subprocess.run([*launcher, sys.executable, "-m", "paraloss", *map(str, arguments)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
