"""The stages of ``benchmarks/gpu.py``: ``python benchmarks/gpu_stages.py STAGE DEVICE IMAGES RESULTS`` runs one."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
DEVICE, IMAGES, RESULTS = (sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])) if len(sys.argv) > 4 else ("cpu", 32, Path())
ON_CPU = DEVICE == "cpu"
TYPES = ("fp32",) if ON_CPU else ("fp16", "bf16", "tf32", "fp32")


def add(kind: str, **facts: object) -> None:
    """Write one result, at once."""
    with RESULTS.open("a") as file:
        file.write(json.dumps({"kind": kind, **facts}) + "\n")


def known(kind: str) -> list[dict]:
    """What stages before this one found."""
    return [fact for fact in map(json.loads, RESULTS.read_text().splitlines()) if fact.get("kind") == kind]


def environment() -> None:
    if not ON_CPU and not torch.cuda.is_available():
        driver = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "none"
        sys.exit(f"no CUDA GPU: torch {torch.__version__} is built for CUDA {torch.version.cuda}, driver {driver}")
    facts = {"torch": torch.__version__, "python": platform.python_version(), "cpus": len(os.sched_getaffinity(0))}
    card = platform.processor() or platform.machine()
    if not ON_CPU:
        card = torch.cuda.get_device_name(DEVICE)
        smi = output_of("nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,memory.total",
                        "--format=csv,noheader")  # fmt: skip
        facts |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version(), "driver, clocks, power, memory": smi}
    add("environment", date=date.today().isoformat(), card=card, **facts)


def output_of(*command: str) -> str:
    """What ``command`` prints within 20 s; all that it started ends then."""
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
    except OSError:
        return ""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=20)[0].strip()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return ""


class _Recorder:
    """Writes the outcome of each test."""

    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]
        if report.when == "call" or report.outcome != "passed":
            if report.when == "teardown" and report.outcome == "skipped":
                return
            why = "" if report.outcome == "passed" else " ".join(str(report.longrepr).split()[-40:])[:300]
            add("test", name=report.nodeid.partition("::")[2], outcome_of_test=report.outcome, why=why)


def tests() -> None:
    run_tests("not compiled")


def run_tests(chosen: str) -> None:
    import pytest

    if ON_CPU:
        os.environ["PARALOSS_TEST_DEVICE"] = "cpu"
        chosen = f"({chosen}) and fp32 and (graph or fused) or weights"
    given = ["tests/gpu", "-q", "-k", chosen, "--tb=short", "-p", "no:cacheprovider"]
    code = pytest.main(given, plugins=[_Recorder()])
    if code:
        sys.exit(f"tests/gpu: pytest ended with {code!r}")


def limits() -> None:
    from limits import copy_bandwidth, gemm_rate

    from paraloss.compute.forward.precision import LOW, arithmetic

    bandwidth = copy_bandwidth(DEVICE, 2**26 if ON_CPU else 2**30)
    add("limit", name="copy", value=bandwidth, text=f"{bandwidth / 1e9:.0f} GB/s")
    for name in TYPES:
        with arithmetic(torch.device(DEVICE), name, False):
            rate = gemm_rate(LOW.get(name, torch.float32), DEVICE, 0.3 if ON_CPU else 1.5, (256,) if ON_CPU else None)
        add("limit", name=f"products, {name}", precision=name, value=rate, text=f"{rate / 1e12:.3g} TFLOP/s")


def exact() -> None:
    """The losses at the checked points in float64: all images on the device, a few on the CPU to check that."""
    from gpu_case import CHECKED, float64_loss, make_case

    model, split, directions = make_case(IMAGES)
    few = split.rows(slice(0, min(256, IMAGES)))
    on_cpu = float64_loss(model, directions, CHECKED[0], few, "cpu", 64)
    here = float64_loss(model, directions, CHECKED[0], few, DEVICE, 64)
    off = abs(here / on_cpu - 1)
    if not off < 1e-7:
        sys.exit(f"float64 on {DEVICE} differs from float64 on the CPU by {off:.1e}")
    losses = [float64_loss(model, directions, point, split, DEVICE) for point in CHECKED]
    text = f"Plain float64 on {DEVICE} differs from float64 on the CPU by {off:.0e} over {len(few)} images. "
    add("exact", losses=losses, text=text + "Errors below are from it, over all images, at two moved points.")


def speed() -> None:
    for precision in TYPES:  # the batch sizes under the way that is meant to be the fastest
        measure(precision, "graph", (8, 16, 32) if ON_CPU else (4096, 1024, 2048, 512, 8192, 256))
    for precision in TYPES:
        for way in ("fused", "eager"):
            measure(precision, way, (16,) if ON_CPU else (1024, 4096))


def compile_() -> None:
    for precision in ("fp32",) if ON_CPU else ("fp16", "bf16", "fp32"):
        measure(precision, "compiled", (16,) if ON_CPU else (2048,))
    if not ON_CPU:
        run_tests("compiled")


def measure(precision: str, way: str, sizes: tuple[int, ...]) -> None:
    """Time points of ResNet-56 at a few batch sizes, and compare the losses that were timed with float64's."""
    from gpu_case import CHECKED, CRITERION, POINTS, WAYS, make_case, numbers_moved
    from limits import convolution_work

    from paraloss.compute import Evaluator
    from paraloss.errors import ParalossError

    model, split, directions = make_case(IMAGES)
    sample = split.normalize(split.inputs[:1])
    work, numbers = convolution_work(model, sample), numbers_moved(model, sample)
    kind = WAYS.get(way, Evaluator)
    try:
        evaluator = kind(model, CRITERION, {"train": split}, directions, DEVICE, sizes[0], precision)
    except ParalossError as error:
        print(precision, way, error)
        return
    references = known("exact")
    for size in sizes:
        with contextlib.suppress(torch.OutOfMemoryError):
            reset_peak()
            evaluator.use_batch_size(min(size, IMAGES))
            note = "" if way != "compiled" or evaluator.compile() else "not compiled"
            for point in POINTS[:3]:
                evaluator(point)
            losses, times = [], []
            for round_ in range(2 if ON_CPU else 6):
                began = time.perf_counter()
                losses.append(evaluator(CHECKED[round_ % 2])[0])
                times.append(time.perf_counter() - began)
            seconds = statistics.median(times)
            if way in ("graph", "compiled") and not evaluator.points.recorded:
                note = f"{note} not recorded: {evaluator.points.why_not}".strip()
            add("speed", precision=precision, way=way, batch=evaluator.batch_size, ms=f"{1000 * seconds:.1f}",
                images_per_s=f"{IMAGES / seconds:.0f}", minutes=f"{2601 * seconds / 60:.1f}",
                **shares(precision, IMAGES * work, IMAGES * numbers, seconds),
                error=worst(losses, references[-1]["losses"]) if references else "–",
                memory=f"{peak() / 1e9:.2f}", note=note)  # fmt: skip


def shares(precision: str, work: float, numbers: float, seconds: float) -> dict[str, str]:
    """Shares of the time that the traffic at the copy bandwidth, and the products at the product rate, would take."""
    from gpu_case import BYTES

    rates = {fact["name"]: fact["value"] for fact in known("limit")}
    traffic, rate = rates.get("copy"), rates.get(f"products, {precision}")
    return {
        "of_traffic": f"{100 * numbers * BYTES[precision] / traffic / seconds:.0f} %" if traffic else "–",
        "of_rate": f"{100 * work / rate / seconds:.0f} %" if rate else "–",
    }


def worst(losses: list[float], references: list[float]) -> str:
    return f"{max(abs(loss / references[k % 2] - 1) for k, loss in enumerate(losses)):.1e}"


def reset_peak() -> None:
    if not ON_CPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> float:
    """Largest memory taken so far: of tensors on the GPU, of the process on a CPU."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if ON_CPU else torch.cuda.max_memory_allocated()


def profile() -> None:
    """The kernels of one point that take longest."""
    from gpu_case import CRITERION, POINTS, Fused, make_case
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    model, split, directions = make_case(IMAGES)
    precision = "fp32" if ON_CPU else "bf16"
    evaluator = Fused(model, CRITERION, {"train": split}, directions, DEVICE, 16 if ON_CPU else 2048, precision)
    for point in POINTS[:3]:
        evaluator(point)
    kinds = [ProfilerActivity.CPU] if ON_CPU else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profiler(activities=kinds) as found:
        evaluator(POINTS[3])
    attribute = "self_cpu_time_total" if ON_CPU else "self_device_time_total"
    events = [event for event in found.key_averages() if ON_CPU or str(event.device_type).endswith("CUDA")]
    whole = sum(getattr(event, attribute) for event in events)
    for event in sorted(events, key=lambda event: -getattr(event, attribute))[:15]:
        spent = getattr(event, attribute)
        add("kernel", name=event.key[:90], calls=event.count, ms=f"{spent / 1000:.2f}", share=f"{100 * spent / whole:.0f} %")


def surface() -> None:
    """A surface with the defaults, as a user computes it."""
    from gpu_case import make_case

    from paraloss.compute import compute_surface

    logging_on()
    model, split, _ = make_case(IMAGES)
    steps = 3 if ON_CPU else 21
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        given = {"x": (-1, 1, steps), "y": (-1, 1, steps), "device": DEVICE, "path": Path(folder) / "s.h5"}
        found = compute_surface(model, "cross_entropy", {"train": split}, **given)
        seconds = time.perf_counter() - began
    facts = {name: found.provenance.get(name) for name in ("device", "evaluated", "tuning")}
    text = f"A surface of {steps}×{steps} points on {IMAGES} images with the defaults: {seconds:.1f} s in all, {facts}"
    add("surface", seconds=seconds, text=text)


def ranks() -> None:
    """Two ranks on one device, killed and resumed, against one rank that was left alone."""
    import numpy as np

    from paraloss.compute.forward.precision import rounding
    from paraloss.surface import read_surface

    mpiexec = Path(sys.executable).with_name("mpiexec")
    found = str(mpiexec) if mpiexec.exists() else shutil.which("mpiexec")
    if found is None:
        add("ranks", text="Two ranks: skipped, mpiexec is not installed")
        return
    openmpi = any(name in output_of(found, "--version") for name in ("Open MPI", "OpenRTE", "PRRTE"))
    launcher = [found, *(["--allow-run-as-root", "--oversubscribe"] if openmpi else []), "-n", "2"]
    seen = output_of(*launcher, sys.executable, "-c", "from mpi4py import MPI; print(MPI.COMM_WORLD.size)").split()
    if seen != ["2", "2"]:
        add("ranks", text=f"Two ranks: skipped, {found} and mpi4py do not work together (two ranks see {seen or 'nothing'})")
        return
    with tempfile.TemporaryDirectory() as folder:
        alone, shared = Path(folder) / "alone.h5", Path(folder) / "shared.h5"
        job = [sys.executable, str(Path(__file__)), "job", DEVICE, str(IMAGES)]
        complete([*job, str(alone)], "one rank")
        kept = killed_at([*launcher, *job, str(shared)], shared, Path(folder) / "copy.h5")
        complete([*launcher, *job, str(shared)], "two ranks")
        one, two = (read_surface(path).metrics["train_loss"] for path in (alone, shared))
    same = int((one == two).sum())
    off = float(np.nanmax(np.abs(one / two - 1)))
    text = (
        f"Two ranks on one device, killed after {kept} of {one.size} points and resumed: {same} of {one.size} losses are "
        f"those of one rank to the bit, the largest difference is {off:.1e}"
    )
    add("ranks", text=text, same=same, of=one.size, off=off)
    if not off < rounding("fp32"):
        sys.exit("two ranks and one differ")


def complete(command: list[str], what: str) -> None:
    """Run ``command`` to its end; a failure ends this stage with the command's last word."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    if done.returncode:
        errors = [line.strip() for line in done.stderr.splitlines() if "Error" in line or "error" in line]
        sys.exit(f"{what}: exit code {done.returncode}: {(errors or ['no message'])[0]}")


def killed_at(command: list[str], path: Path, copy: Path) -> int:
    """Kill ``command`` once its file holds a few points; the number of those."""
    from paraloss.errors import ParalossError
    from paraloss.surface import PENDING, read_surface

    process = subprocess.Popen(command, start_new_session=True)
    kept = 0
    while process.poll() is None and kept < 3:
        time.sleep(0.05)
        with contextlib.suppress(OSError, KeyError, ValueError, ParalossError):  # half-written just now
            shutil.copy(path, copy)
            kept = int((read_surface(copy).status != PENDING).sum())
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return kept


def job() -> None:
    """A surface of a ResNet-20 into the file RESULTS."""
    path = Path(sys.argv[4])
    from gpu_case import make_case

    from paraloss.compute import compute_surface

    model, split, _ = make_case(min(IMAGES, 10_000), "resnet20")
    given = {"x": (-1, 1, 4 if ON_CPU else 15), "y": (-1, 1, 4 if ON_CPU else 15), "path": path, "device": DEVICE}
    compute_surface(model, "cross_entropy", {"train": split}, precision="fp32", batch_size=1024, **given)


def logging_on() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    STAGE = {"compile": "compile_"}.get(sys.argv[1], sys.argv[1])
    globals()[STAGE]()
