"""The page of a large surface in Chromium without a GPU: processor time of all of its processes, by what is done.

python benchmarks/page_size.py [POINTS]
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from paraloss import Surface
from paraloss.rendering import write_page

TICKS = os.sysconf("SC_CLK_TCK")
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def used() -> float:
    """Seconds of processor time of the processes below this one."""
    stats = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        stats.append((int(head.split()[0]), int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS))
    family = {os.getpid()}
    while found := {pid for pid, parent, _ in stats if parent in family} - family:
        family |= found
    return sum(seconds for pid, _, seconds in stats if pid in family and pid != os.getpid())


def report(name: str, work: Callable[[], object], rounds: int = 1) -> None:
    began = used()
    for _ in range(rounds):
        work()
    print(f"{name:44} {(used() - began) / rounds:6.2f} s", flush=True)


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 2001
    axis = np.linspace(-1, 1, points)
    loss = 0.1 + 3 * axis[None, :] ** 2 + 5 * axis[:, None] ** 2 + np.sin(9 * axis)[None, :] ** 2
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path, began = Path(folder) / "s.html", time.process_time()
        write_page([Surface(axis, axis, {"train_loss": loss})], path, ["surface"])
        print(f"{points} x {points} points, {path.stat().st_size / 1e6:.0f} MB, written in {time.process_time() - began:.2f} s")
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(600_000)

        # Timers are stopped, so that what is timed comes when it is asked for; a pixel that is read ends the drawing.
        done = "clearTimeout(rest); gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); return drawn();"
        script = "() => { const drawn = () => document.body.dataset.points; WORK; paint(); DONE }"

        def run(work: str) -> None:
            counts.append(page.evaluate(script.replace("WORK", work).replace("DONE", done)))

        rest = "fine = fine || levelOf(surfaces[state.step], strides().resting); moving = false"
        counts: list[str] = []
        report("opened, first picture", lambda: page.goto(f"file://{path}") and run("draw()"))
        report("made ready at rest", lambda: run(rest))
        report("a frame at rest", lambda: run(rest), 3)
        report("a frame while turning", lambda: run("state.turn += 0.1; draw()"), 10)
        report("clip moved", lambda: run('$("clip").value = 0.6; $("clip").oninput({target: $("clip")})'))
        report("contours, at rest", lambda: run("state.contours = 12; refresh(); " + rest))
        report("a point picked", lambda: run("pick(640, 400)"))
        print("points drawn:", *dict.fromkeys(counts))
        browser.close()


if __name__ == "__main__":
    main()
