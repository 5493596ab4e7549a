"""The film of docs/paraview.md: xvfb-run -a -s "-screen 0 1280x800x24" python docs/live_film.py [FILM.webp]

Starts a surface of 51×51 points on two ranks, opens it in ParaView's window as soon as there is a file, touches nothing, and
photographs the screen every few seconds until the job is done. Needs ParaView and xvfb, and about five minutes on two cores.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageGrab

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE.parent / "core" / "examples" / "resnet56_noshort.pt"
PROGRAMS = Path(sys.executable).parent
EVERY, SIZE, SECONDS = 3.0, (800, 500), 1.0
"""Seconds between photographs, size of a frame, and how long it stays in the film; the last one stays three times as long."""
VIEW = np.s_[210:725, 420:1230]
"""Where the surface is drawn in the window: photographs that show it unchanged are left out."""


def film(folder: Path) -> list[np.ndarray]:
    """Photographs of the window while the job runs, and three after it."""
    surface = folder / "live.h5"
    compute = ["compute", "--weights", WEIGHTS, "--x=-1:1:51", "--samples", "400", "--precision", "fp32", "-o", surface]
    job = subprocess.Popen(
        ["nice", PROGRAMS / "mpiexec", "-n", "2", PROGRAMS / "paraloss", *compute], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while not surface.exists():
        time.sleep(0.5)
        assert job.poll() is None, "the job ended before there was a file"
    window = subprocess.Popen(
        [PROGRAMS / "paraloss", "paraview", surface], env={**os.environ, "HOME": str(folder)}, start_new_session=True
    )
    photographs, after = [], 0
    try:
        while after < 3:
            after += job.poll() is not None
            time.sleep(EVERY)
            photographs.append(np.asarray(ImageGrab.grab(xdisplay=os.environ["DISPLAY"]).convert("RGB")))
    finally:
        os.killpg(window.pid, signal.SIGKILL)
    assert job.returncode == 0
    return photographs


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "images" / "paraview-live.webp"
    with tempfile.TemporaryDirectory() as folder:
        photographs = film(Path(folder))
    chosen: list[np.ndarray] = []
    for picture in photographs:
        drawn = (picture[VIEW] > 250).mean() > 0.1  # the window is there, and has drawn
        if drawn and not (chosen and np.array_equal(chosen[-1][VIEW], picture[VIEW])):
            chosen.append(picture)
    frames = [Image.fromarray(picture).resize(SIZE, Image.Resampling.LANCZOS) for picture in chosen]
    length = [int(1000 * SECONDS)] * (len(frames) - 1) + [int(3000 * SECONDS)]
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=length, loop=0, quality=80, method=6)
    print(f"{target}: {len(frames)} of {len(photographs)} photographs, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
