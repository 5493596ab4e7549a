"""What one GPU does, in one command and at most 8 minutes: ``make gpu``.

    python benchmarks/gpu.py [--device cuda] [--minutes 8] [--images 50000] [--only tests,speed] [--output gpu-report]

Each stage runs in a process of its own under a time limit; one that fails or takes too long does not stop the others. Every
result is a line of JSON in OUTPUT/results.jsonl, written at once; OUTPUT/report.md is the report, printed at the end; what a
stage prints is in OUTPUT/STAGE.log. ``--device cpu`` runs the same at small sizes, to show that the command itself works.

It needs torch, numpy, h5py, scikit-learn, filelock and pytest; with mpi4py and mpiexec also the stage with two ranks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_report import markdown

HERE = Path(__file__).resolve().parent
STAGES = {  # the longest time of each in seconds
    "environment": 60,
    "tests": 150,
    "limits": 40,
    "exact": 60,
    "speed": 160,
    "profile": 60,
    "surface": 90,
    "ranks": 90,
    "compile": 180,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together")
    parser.add_argument("--images", type=int, help="default: 50,000; 32 on a CPU")
    parser.add_argument("--only", default=",".join(STAGES), help="stages, with commas")
    parser.add_argument("--output", type=Path, default=Path("gpu-report"))
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(STAGES):
        parser.error(f"there is no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    images = options.images or (32 if options.device == "cpu" else 50_000)
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "results.jsonl"
    results.write_text("")
    until, failed = time.monotonic() + 60 * options.minutes, []
    for stage, limit in STAGES.items():
        if stage not in wanted:
            continue
        began = time.monotonic()
        outcome = run(stage, options.device, images, results, min(float(limit), until - began))
        add(results, {"stage": stage, "outcome": outcome, "seconds": round(time.monotonic() - began, 1)})
        print(f"{stage}: {outcome} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
        if outcome != "done":
            failed.append(stage)
            if stage == "environment":  # no such device: nothing else can run
                break
    report = markdown([json.loads(line) for line in results.read_text().splitlines()])
    (options.output / "report.md").write_text(report)
    print(report)
    sys.exit(1 if failed else 0)


def run(stage: str, device: str, images: int, results: Path, limit: float) -> str:
    """Run a stage and end all that it started; "done", or what went wrong in one line."""
    if limit < 5:
        return "no time was left"
    log = results.with_name(f"{stage}.log")
    command = [sys.executable, str(HERE / "gpu_stages.py"), stage, device, str(images), str(results.resolve())]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, cwd=HERE.parent)
        try:
            code = process.wait(timeout=limit)
            outcome = "done" if code == 0 else f"failed: {last_line(log)}"
        except subprocess.TimeoutExpired:
            outcome = f"stopped after {limit:.0f} s; what it had found is kept"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return outcome


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def add(results: Path, fact: dict[str, object]) -> None:
    with results.open("a") as file:
        file.write(json.dumps(fact) + "\n")


if __name__ == "__main__":
    main()
