"""A large surface and a large volume in ParaView, software rendering: load, rotate, clip and contour, by file format.

python benchmarks/paraview_size.py [POINTS] [SIDE] [--ranks N]

Writes the files with ``paraloss`` into a temporary folder, runs itself in pvbatch on each, and prints one line per file.
``--ranks`` adds a parallel read of the .h5, with the peak memory of each rank.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent


def inside(file: str) -> None:
    """Run by pvbatch: the times of one file, as JSON."""
    sys.path.insert(0, str(HOUSE / "state_files"))
    from readers import load_plugin

    load_plugin()
    from paraview import simple

    simple._DisableFirstRenderCameraReset()
    view = simple.CreateView("RenderView")
    view.ViewSize = [1280, 720]
    times, began = {}, time.perf_counter()
    reader = simple.OpenDataFile(file)
    reader.UpdatePipeline()
    times["read"] = time.perf_counter() - began
    volume = file.endswith(".vti")
    shown = reader
    if volume:
        began = time.perf_counter()
        low, high = reader.PointData["log_train_loss"].GetRange()
        shown = simple.Contour(Input=reader, ContourBy=["POINTS", "log_train_loss"])
        shown.Isosurfaces = [low + (high - low) * k / 4 for k in (1, 2, 3)]
        shown.UpdatePipeline()
        times["contour"] = time.perf_counter() - began
    display = simple.Show(shown, view)
    display.Representation = "Surface"
    simple.ColorBy(display, ("POINTS", "log_train_loss"))
    simple.ResetCamera(view)
    began = time.perf_counter()
    simple.Render(view)
    times["first picture"] = time.perf_counter() - began
    camera = simple.GetActiveCamera()
    for name, draw in (("still", view.SMProxy.StillRender), ("moving", view.SMProxy.InteractiveRender)):
        draw()
        began, frames = time.perf_counter(), 0
        while frames < 5 or time.perf_counter() - began < 2:
            camera.Azimuth(7)
            draw()
            frames += 1
        times[f"{name}, frames/s"] = frames / (time.perf_counter() - began)
    began = time.perf_counter()
    clip = simple.Clip(Input=reader)
    clip.UpdatePipeline()
    times["clip"] = time.perf_counter() - began
    if not volume:
        began = time.perf_counter()
        lines = simple.Contour(Input=reader, ContourBy=["POINTS", "log_train_loss"])
        low, high = reader.PointData["log_train_loss"].GetRange()
        lines.Isosurfaces = [low + (high - low) * k / 11 for k in range(1, 11)]
        lines.UpdatePipeline()
        times["contour"] = time.perf_counter() - began
    lines = Path("/proc/self/status").read_text().splitlines()
    times["peak MB"] = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    print("TIMES" + json.dumps(times), flush=True)


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
import sys
sys.path.insert(0, {states!r})
from readers import load_plugin
load_plugin()
from paraview import simple
reader = simple.LossSurfaceReader(FileNames=[{file!r}])
reader.UpdatePipeline()
memory = simple.ProgrammableFilter(Input=reader)
memory.Script = '''
line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(self.GetInput().GetExtent(), line.split()[1], "kB", flush=True)
'''
memory.UpdatePipeline()
"""


def in_parallel(file: Path, ranks: int) -> None:
    """Print the part and the peak memory of each rank."""
    script = file.with_name("read.py")
    script.write_text(READ.format(states=str(HOUSE / "state_files"), file=str(file)))
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    kept["PYTHONPATH"] = str(HOUSE / "state_files" / "gui")
    launch = ["/usr/bin/mpirun", "--allow-run-as-root", "--oversubscribe", "-n", str(ranks), "pvbatch", str(script)]
    began = time.perf_counter()
    done = subprocess.run(["xvfb-run", "-a", *launch], capture_output=True, text=True, env=kept, check=False)
    print(f"{ranks} ranks, {time.perf_counter() - began:.1f} s with the start: extent and peak memory of each")
    print("\n".join(line for line in done.stdout.splitlines() if "kB" in line) or done.stderr[-800:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("points", nargs="?", type=int, default=2001)
    parser.add_argument("side", nargs="?", type=int, default=257)
    parser.add_argument("--ranks", type=int, default=0)
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
        files = [place / "s.h5", *(convert(place / "s.h5", place / f"s.{ending}") for ending in ("vts", "hdf"))]
        if given.side:
            axis = np.linspace(-1, 1, given.side)
            cube = 0.1 + axis[None, None] ** 2 + 3 * axis[None, :, None] ** 2 + 2 * axis[:, None, None] ** 2
            Surface(axis, axis, {"train_loss": cube}, z=axis).save(place / "v.h5")
            files.append(convert(place / "v.h5", place / "v.vti"))
        print(f"{given.points} × {given.points} points, {given.side}³ points; 1280 × 720 pixels, seconds")
        for file in files:
            times = pvbatch(file)
            print(f"{file.name:6} " + "  ".join(f"{name} {value:.3g}" for name, value in times.items()), flush=True)
        if given.ranks:
            in_parallel(files[0], given.ranks)


if __name__ == "__main__":
    main()
