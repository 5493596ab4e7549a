"""A large surface and a large volume in ParaView, software rendering: load, rotate, clip and contour, by file format.

python benchmarks/paraview_size.py [POINTS] [SIDE] [--ranks N]

Writes the files with ``paraloss`` into a temporary folder, runs itself in pvbatch on each, and prints a line for each file:
seconds of processor time, all threads together, which other work on the machine hardly changes. A frame takes the time of its
main thread and the rest divided by the number of cores. ``--ranks`` adds a parallel read of the .h5, with the part, the time
and the peak memory of each rank; ``--only`` leaves all else out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).resolve().parent.parent


def inside(file: str) -> None:
    """Run by pvbatch: the processor times of one file, as JSON. ``FILE@4`` reads every 4th point."""
    sys.path.insert(0, str(HOUSE / "state_files"))
    from readers import load_plugin

    load_plugin()
    from paraview import simple

    simple._DisableFirstRenderCameraReset()
    view = simple.CreateView("RenderView")
    view.ViewSize = [1280, 720]
    clock = Clock()
    name, _, every = file.partition("@")
    reader = simple.OpenDataFile(name)
    if every:
        reader.ReadEvery = int(every)
    clock.time("read", reader.UpdatePipeline)
    clock.time("ranges", lambda: reader.GetDataInformation().GetPointDataInformation())
    low, high = reader.PointData["log_train_loss"].GetRange()
    volume = reader.GetDataInformation().GetDataSetTypeAsString() == "vtkImageData"
    shown = reader
    if volume:
        shown = simple.Contour(Input=reader, ContourBy=["POINTS", "log_train_loss"])
        shown.Isosurfaces = [low + (high - low) * k / 4 for k in (1, 2, 3)]
        clock.time("contour", shown.UpdatePipeline)
    display = simple.Show(shown, view)
    display.Representation = "Surface"
    simple.ColorBy(display, ("POINTS", "log_train_loss"))
    view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = [2.3, -3.4, 2.6], [0, 0, 0.42], [0, 0, 1]
    clock.time("first picture", lambda: simple.Render(view))
    _turn(clock, view)
    clock.time("clip", lambda: simple.Clip(Input=reader).UpdatePipeline())
    if not volume:
        lines = simple.Contour(Input=reader, ContourBy=["POINTS", "log_train_loss"])
        lines.Isosurfaces = [low + (high - low) * k / 11 for k in range(1, 11)]
        clock.time("contour", lines.UpdatePipeline)
    lines = Path("/proc/self/status").read_text().splitlines()
    clock.times["peak MB"] = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    print("TIMES" + json.dumps(clock.times), flush=True)


class Clock:
    """Processor times by name, in seconds."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], object], rounds: int = 1) -> None:
        """Time ``work``, the mean of ``rounds``; what the main thread takes of it is kept beside it."""
        all_threads, main = time.process_time(), time.thread_time()
        for _ in range(rounds):
            work()
        self.times[name] = (time.process_time() - all_threads) / rounds
        self.times[name + ", main thread"] = (time.thread_time() - main) / rounds


def _turn(clock: Clock, view: Any) -> None:
    """Frames of a camera that goes round: at rest, and while a mouse moves it."""

    def step(draw: Callable[[], object]) -> None:
        view.GetActiveCamera().Azimuth(7)
        draw()

    clock.time("frame at rest", lambda: step(view.SMProxy.StillRender), 2)
    clock.time("first moving frame", lambda: step(view.SMProxy.InteractiveRender))
    clock.time("moving frame", lambda: step(view.SMProxy.InteractiveRender), 8)


def pvbatch(file: Path) -> dict[str, float]:
    """The times of ``inside`` for a file."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    display = ["xvfb-run", "-a", "-s", "-noreset -screen 0 1280x1024x24"]
    command = [*display, "pvbatch", str(Path(__file__).resolve()), "--inside", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=kept, check=False)
    found = [line[5:] for line in done.stdout.splitlines() if line.startswith("TIMES")]
    if not found:
        sys.exit(f"{file.name}: pvbatch failed: {(done.stderr or done.stdout)[-800:]}")
    times: dict[str, float] = json.loads(found[0])
    return times


READ = """
import os, sys, time
from resource import RUSAGE_SELF, getrusage
sys.path.insert(0, {states!r})
from readers import load_plugin
load_plugin()
from paraview import simple
simple.UpdatePipeline(proxy=simple.Sphere())
reader = simple.LossSurfaceReader(FileNames=[{file!r}])
peak = lambda: getrusage(RUSAGE_SELF).ru_maxrss // 1024
before, began = peak(), time.process_time()
reader.UpdatePipeline()
grid = reader.GetClientSideObject().GetOutputDataObject(0)
line = "RANK extent %s, %.1f s, grid %.0f MB, process %d MB before, %d MB at most"
told = grid.GetExtent()[:4], time.process_time() - began, grid.GetActualMemorySize() / 1024, before, peak()
os.write(1, (line % told + chr(10)).encode())
"""


def in_parallel(file: Path, ranks: int) -> None:
    """Print what each rank reads, its processor time and its peak memory."""
    script = file.with_name("read.py")
    script.write_text(READ.format(states=str(HOUSE / "state_files"), file=str(file)))
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    kept |= {"PYTHONPATH": str(HOUSE / "state_files" / "gui"), "PARALOSS_TRACE": "1"}
    launch = ["/usr/bin/mpirun", "--allow-run-as-root", "--oversubscribe", "-x", "PARALOSS_TRACE", "-n", str(ranks)]
    command = ["xvfb-run", "-a", *launch, "pvbatch", "--symmetric", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=kept, check=False)
    print(f"{ranks} ranks, {file.stat().st_size / 1e6:.0f} MB")
    found = [line for line in done.stdout.splitlines() if line.startswith(("RANK", "paraloss: pid"))]
    print("\n".join(sorted(found)) or (done.stdout + done.stderr)[-800:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("points", nargs="?", type=int, default=2001)
    parser.add_argument("side", nargs="?", type=int, default=257)
    parser.add_argument("--ranks", type=int, default=0)
    parser.add_argument("--only", action="store_true", help="the parallel read alone")
    parser.add_argument("--inside")
    given = parser.parse_args()
    if given.inside:
        inside(given.inside)
        return
    import numpy as np

    from paraloss.converters import convert
    from paraloss.surface import Surface

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        x = np.linspace(-1, 1, given.points)
        loss = 0.1 + 3 * x[None, :] ** 2 + 5 * x[:, None] ** 2 + np.sin(9 * x)[None, :] ** 2
        Surface(x, x, {"train_loss": loss}).save(place / "s.h5")
        del loss
        if given.ranks:
            in_parallel(place / "s.h5", given.ranks)
        if given.only:
            return
        files = [place / "s.h5", Path(f"{place}/s.h5@4")]
        files += [convert(place / "s.h5", place / f"s.{ending}") for ending in ("vts", "vtp", "hdf")]
        if given.side:
            axis = np.linspace(-1, 1, given.side)
            cube = 0.1 + axis[None, None] ** 2 + 3 * axis[None, :, None] ** 2 + 2 * axis[:, None, None] ** 2
            Surface(axis, axis, {"train_loss": cube}, z=axis).save(place / "v.h5")
            files += [convert(place / "v.h5", place / f"v.{ending}") for ending in ("vti", "hdf")]
        print(f"{given.points} × {given.points} points, {given.side}³ points; 1280 × 720 pixels, seconds of processor time")
        for file in files:
            times = pvbatch(file)
            print(f"{file.name:6} " + "  ".join(f"{name} {value:.3g}" for name, value in times.items()), flush=True)


if __name__ == "__main__":
    main()
