"""One table of ratios, measured side by side in one run: ``make bench`` (about six minutes on 2 cores).

    python benchmarks/run.py [--seconds 6] [--peers PYTHON] [--only speed,ranks,overhead,sampling]

Every figure of a row was measured in turn with the row's baseline (A B A B …), so that a machine that slows down slows
both; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from limits import convolution_work, gemm_rate
from reference_loop import Images, losses

from paraloss.compute import Evaluator, Split, load_criterion, load_data, load_model, random_direction, train
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.evaluate.tuning import find_batch_size
from paraloss.compute.forward.precision import faster_precisions
from paraloss.compute.ranks.world import World

CRITERION = load_criterion("cross_entropy")[1]
POINTS = [(0.0, 0.0), (0.1, -0.05)]
MODELS = [("resnet20", 1024), ("resnet56", 512), ("vgg9", 512), ("mlp", 1437)]
BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each model and way of evaluating")
    parser.add_argument("--peers", help="a Python that has loss-landscapes and landscaper")
    parser.add_argument("--only", default="speed,ranks,overhead,sampling")
    options = parser.parse_args()
    print(f"### {date.today().isoformat()}: {_machine()}\n")
    for part in options.only.split(","):
        {"speed": speed, "ranks": ranks, "overhead": overhead, "sampling": sampling}[part](options)


def speed(options: argparse.Namespace) -> None:
    """Points a second in each precision against the reference's loop, and against the machine's own limit."""
    fast = [None, *faster_precisions(torch.device("cpu"))]
    limits = {"fp32": gemm_rate(torch.float32), "bf16": gemm_rate(torch.bfloat16)}
    print("Largest matrix-product rate: " + ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in limits.items()))
    print("\n| model, samples | way | images/s | × reference loop | share of GEMM | largest difference |\n" + "|---" * 6 + "|")
    for name, count in MODELS:
        model, split, data = _case(name, count)
        generator = torch.Generator().manual_seed(0)
        directions = [random_direction(model, generator) for _ in "xy"]
        ways = {"reference loop": lambda m=model, d=data, v=directions: losses(m, d, v, POINTS)}
        for precision in fast:
            evaluator = Evaluator(model, CRITERION, {"train": split}, directions, precision=precision or "fp32")
            find_batch_size(evaluator)
            ways[f"ours, {precision or 'fp32'}"] = lambda e=evaluator: [e(point)[0] for point in POINTS]
        results = {way: run() for way, run in ways.items()}
        times: dict[str, list[float]] = {way: [] for way in ways}
        until = time.perf_counter() + options.seconds * len(ways)
        while time.perf_counter() < until or len(times["reference loop"]) < 3:
            for way, run in ways.items():
                began = time.perf_counter()
                run()
                times[way].append((time.perf_counter() - began) / len(POINTS))
        work = convolution_work(model, split.normalize(split.inputs[:1]))
        base = statistics.median(times["reference loop"])
        for way, spent in times.items():
            seconds = statistics.median(spent)
            limit = limits["bf16" if "bf16" in way else "fp32"]
            off = max(abs(a / b - 1) for a, b in zip(results[way], results["reference loop"], strict=True))
            print(
                f"| {name}, {count} | {way} | {count / seconds:.0f} | {base / seconds:.2f} "
                f"| {100 * work * count / seconds / limit:.0f} % | {off:.1e} |",
                flush=True,
            )
        if options.peers:
            _peers(options.peers, name, model, split, count, base)


def ranks(options: argparse.Namespace) -> None:
    """Two ranks of one thread against one rank of two."""
    with tempfile.TemporaryDirectory() as folder:
        weights = _trained(Path(folder), "digits", "resnet20", 2)
        grid = ["--x=-1:1:15", "--y=-1:1:15", "--precision", "fp32", "--batch-size", "128"]
        command = [
            str(BIN / "paraloss"),
            "compute",
            "--weights",
            str(weights),
            "--model",
            "resnet20",
            "--data",
            "digits",
            *grid,
        ]
        rates: dict[str, list[float]] = {"1 rank × 2 threads": [], "2 ranks × 1 thread": []}
        for _ in range(3):
            for way in rates:
                launcher = [str(BIN / "mpiexec"), "-n", "2"] if way.startswith("2") else []
                environment = {**os.environ, "OMP_NUM_THREADS": "1" if launcher else "2"}
                output = Path(folder) / "s.h5"
                done = subprocess.run(
                    [*launcher, *command, "-o", str(output), "--overwrite"],
                    env=environment, capture_output=True, text=True, check=True,
                )  # fmt: skip
                rates[way].append(float(done.stderr.split(" points/s")[-2].split()[-1]))
        alone, both = (statistics.median(rates[way]) for way in rates)
        print(f"\nResNet-20, 1,437 digits: 2 ranks × 1 thread give {both / alone:.2f} × the points/s of 1 rank × 2 threads.")
        began = time.perf_counter()
        subprocess.run([*command, "-o", str(output)], capture_output=True, check=True)
        print(f"The same command on the finished file ends after {time.perf_counter() - began:.1f} s (start-up included).")


def overhead(options: argparse.Namespace) -> None:
    """What queue, file and progress cost when a point takes 20 ms."""
    script = Path(__file__).with_name("overhead.py")
    for number in (1, 2):
        launcher = [str(BIN / "mpiexec"), "-n", str(number)] if number > 1 else []
        done = subprocess.run([*launcher, sys.executable, str(script)], capture_output=True, text=True, check=True)
        print(done.stdout.strip())


def sampling(options: argparse.Namespace) -> None:
    """Sample evaluations saved against the error made, on 51×51 surfaces."""
    print("\n| data, model | rtol | fewer samples | exact value within ±2 errors | largest error |\n" + "|---" * 5 + "|")
    axis = np.linspace(-1, 1, 51)
    steps = np.stack([c.ravel() for c in np.meshgrid(axis, axis)], axis=1)
    for name in ("digits", "mnist5k"):
        with tempfile.TemporaryDirectory() as folder:
            weights = _trained(Path(folder), name, "mlp", 15)
            split = load_data(name)["train"]
            model = load_model("mlp", tuple(split.inputs.shape[1:]), 10)
            model.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
        generator = torch.Generator().manual_seed(123)
        directions = [random_direction(model, generator) for _ in "xy"]
        exact = Evaluator(model, CRITERION, {"train": split}, directions)
        truth = np.array([exact(point)[0] for point in steps])
        for rtol in (0.05, 0.02, 0.01, 0.005):
            evaluator = Evaluator(model, CRITERION, {"train": split}, directions)
            sampled = SampledEvaluator(evaluator, (51, 51), steps, rtol)
            results = sampled.prepare(World())
            values = np.array([results.get(index) or sampled(index) for index in range(len(steps))])
            saved = len(split) * len(steps) / values[:, 2].sum()
            error = np.abs(values[:, 0] - truth)
            inside = (error <= 2 * values[:, 1] + 1e-6 * truth).mean()
            print(f"| {name}, MLP | {rtol} | {saved:.1f}× | {100 * inside:.1f} % | {100 * (error / truth).max():.1f} % |")


def _case(name: str, count: int):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    if name == "mlp":
        split = load_data("digits")["train"]
        pixels, mean, deviation = split.inputs, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        model = load_model("mlp", (1, 8, 8), 10).eval()
        return model, split, Images(pixels, split.targets, mean, deviation)
    model = load_model(name, (3, 32, 32), 10)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    targets = torch.randint(0, 10, (count,))
    mean, deviation = (
        torch.tensor([125.3, 123.0, 113.9]).reshape(1, 3, 1, 1),
        torch.tensor([63.0, 62.1, 66.7]).reshape(1, 3, 1, 1),
    )
    split = Split(pixels, targets, (mean, deviation))
    with torch.no_grad():  # statistics of real activations
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = None
        model.train()(split.normalize(pixels[:256]))
    return model.eval(), split, Images(pixels, targets, mean, deviation)


def _peers(python: str, name: str, model: torch.nn.Module, split: Split, count: int, base: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model, Path(folder) / "model.pt")
        inputs = split.normalize(split.inputs)
        torch.save({"inputs": inputs, "targets": split.targets, "threads": torch.get_num_threads()}, Path(folder) / "data.pt")
        command = [python, str(Path(__file__).with_name("peers.py")), f"{folder}/model.pt", f"{folder}/data.pt", "3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        rates = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        rates = {"peers": f"did not run: {done.stderr.strip().splitlines()[-1:]}"}
    for peer, rate in rates.items():
        if isinstance(rate, float):
            print(f"| {name}, {count} | {peer} | {count * rate:.0f} | {base * rate:.2f} | – | – |", flush=True)
        else:
            print(f"| {name}, {count} | {peer} | {rate} | – | – | – |", flush=True)


def _trained(folder: Path, data: str, model: str, epochs: int) -> Path:
    torch.manual_seed(0)
    splits = load_data(data)
    network = load_model(model, tuple(splits["train"].inputs.shape[1:]), 10)
    return train(network, splits, folder / model, epochs=epochs, lr=0.05, progress=False)


def _machine() -> str:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    flags = Path("/proc/cpuinfo").read_text()
    units = next((unit for unit in ("amx_bf16", "avx512_bf16") if unit in flags), "no bf16 units")
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {units}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
