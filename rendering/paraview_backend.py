"""ParaView as a drawing engine: runs ``state_files/render.py`` in pvbatch, with a display or without."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from paraloss import processes
from paraloss.converters.composition import Composition
from paraloss.converters.composition_json import to_json
from paraloss.errors import MissingPackage
from paraloss.surface import Surface, write_surface

RENDER_SCRIPT = next(
    (
        path
        for root in (Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent.parent.parent)
        if (path := root / "state_files" / "render.py").is_file()
    ),
    Path("state_files/render.py"),
)


def can_draw() -> bool:
    """Whether pvbatch can draw here: on a display, real or virtual, or from ParaView 6.0 on without one."""
    return bool(shutil.which("pvbatch")) and bool(os.environ.get("DISPLAY") or shutil.which("xvfb-run") or _needs_no_display())


def paraview_command(program: str) -> list[str]:
    """The words that start a program of ParaView without a window: pvbatch, pvpython or pvserver.

    Where there is no display, ParaView 6.0 and later draw through EGL; earlier ones need a virtual display.

    Raises:
        MissingPackage: neither a display nor xvfb-run, and ParaView needs one.
    """
    if os.environ.get("DISPLAY"):
        return [program]
    if _needs_no_display():
        return [program, "--opengl-window-backend", "EGL"]
    if not shutil.which("xvfb-run"):
        raise MissingPackage(
            "ParaView before 6.0 needs a display and there is none: apt install xvfb, or use --backend pyvista"
        )
    # -a alone takes the first free number, and two that start at once take the same: begin at a number of this process's own.
    # Without -noreset the server starts over when its last client leaves, and a client that comes just then is lost.
    server = "-noreset -screen 0 1280x1024x24"
    return ["xvfb-run", "-a", "-n", str(100 + os.getpid() % 30_000), "-s", server, program]


def _needs_no_display() -> bool:
    return _version_of(shutil.which("pvbatch") or "") >= (6, 0)


@cache
def _version_of(program: str) -> tuple[int, ...]:
    """(major, minor) of a program of ParaView; empty where it does not run."""
    try:
        done = processes.run([program, "--version"], capture=True, env=paraview_environment())
    except OSError:
        return ()
    found = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    return tuple(map(int, found.groups())) if found else ()


def paraview_environment() -> dict[str, str]:
    """The environment for ParaView's own Python: without this process's virtual environment."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")}


def paraview_cells(surfaces: Sequence[Surface], composition: Composition) -> list[np.ndarray | None]:
    """(height, width, 3 or 4) uint8 for each surface of a row, drawn by pvbatch.

    Raises:
        MissingPackage: pvbatch or a display is missing, or it failed; the message holds its last line.
    """
    with tempfile.TemporaryDirectory(prefix="paraloss-") as folder:
        picture = Path(folder) / "picture.png"
        _pvbatch(surfaces, composition, picture)
        if not picture.exists():
            raise MissingPackage("pvbatch ended without a picture and without a message")
        return _cut(picture, composition)


def paraview_turn(surfaces: Sequence[Surface], composition: Composition, frames: int) -> Iterator[list[np.ndarray | None]]:
    """The cells of each frame of one turn around the surfaces; raises as ``paraview_cells``."""
    with tempfile.TemporaryDirectory(prefix="paraloss-") as folder:
        _pvbatch(surfaces, composition, Path(folder) / "frame.png", ["--orbit", str(frames)])
        for picture in sorted(Path(folder).glob("frame_*.png")):
            yield _cut(picture, composition)


def _cut(picture: Path, composition: Composition) -> list[np.ndarray | None]:
    from matplotlib.image import imread

    whole, width = (imread(picture) * 255).round().astype(np.uint8), composition.layout.cell[0]
    return [whole[:, k * width : (k + 1) * width] for k in range(composition.layout.columns)]


def _pvbatch(surfaces: Sequence[Surface], composition: Composition, picture: Path, extra: Sequence[str] = ()) -> None:
    """Run ``state_files/render.py`` on the composition as JSON; the surfaces' files lie beside the picture meanwhile."""
    if not shutil.which("pvbatch"):
        raise MissingPackage("pvbatch is not on the PATH: install ParaView (Debian: apt install paraview), or use pyvista")
    files = []
    for number, surface in enumerate(surfaces):
        files.append(str(write_surface(replace(surface, directions={}), picture.with_name(f"{number}.h5"))))
    layout, cell = composition.layout, composition.layout.cell
    cells = replace(layout, size=(cell[0] * layout.columns, cell[1]), top=0, right=0)
    # Titles, scale and legend are drawn around the cells by this process, as for pyvista.
    panels = tuple(replace(p, paths=tuple(replace(path, label="") for path in p.paths)) for p in composition.panels)
    picture_alone = replace(composition.picture, scalar_bar=False)
    inner = replace(composition, layout=cells, picture=picture_alone, panels=panels, axes=None)
    written = picture.with_name("composition.json")
    written.write_text(to_json(inner), encoding="utf-8")
    command = [*paraview_command("pvbatch"), str(RENDER_SCRIPT), *files, "-o", str(picture)]
    command += ["--composition", str(written), *extra]
    # xvfb-run keeps its files in TMPDIR: they lie in this folder, and go with it however the drawing ends.
    done = processes.run(command, capture=True, env={**paraview_environment(), "TMPDIR": str(picture.parent)})
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise MissingPackage(f"pvbatch could not draw ({lines[-1] if lines else 'no message'})")
