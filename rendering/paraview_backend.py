"""ParaView as a drawing engine: runs ``state_files/render.py`` in pvbatch, under a virtual display where there is none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from paraloss import processes
from paraloss.converters import GridOptions
from paraloss.errors import InputError, MissingPackage
from paraloss.rendering.style import PictureStyle
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
    """Whether pvbatch is here, and a display, real or virtual."""
    return bool(shutil.which("pvbatch")) and bool(os.environ.get("DISPLAY") or shutil.which("xvfb-run"))


def display_launcher() -> list[str]:
    """What to put before a ParaView command: nothing with a display, ``xvfb-run`` without.

    Raises:
        MissingPackage: neither a display nor xvfb-run.
    """
    if os.environ.get("DISPLAY"):
        return []
    if not shutil.which("xvfb-run"):
        raise MissingPackage("ParaView needs a display and there is none: apt install xvfb, or use --backend pyvista")
    # -a alone takes the first free number, and two that start at once take the same: begin at one of our own.
    # Without -noreset the server starts over when its last client leaves, and a client that comes just then is lost.
    server = "-noreset -screen 0 1280x1024x24"
    return ["xvfb-run", "-a", "-n", str(100 + os.getpid() % 30_000), "-s", server]


def paraview_environment() -> dict[str, str]:
    """The environment for ParaView's own Python: without this process's virtual environment."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")}


def paraview_image(
    surfaces: Sequence[Surface],
    options: GridOptions,
    size: tuple[int, int],
    style: PictureStyle,
    transparent: bool,
    color_ends: tuple[float, float],
) -> np.ndarray:
    """(height, width, 3 or 4) uint8: the surfaces side by side, drawn by pvbatch.

    Raises:
        MissingPackage: pvbatch or a display is missing, or it failed; the message holds its last line.
        InputError: an option that ParaView's reader does not have.
    """
    from matplotlib.image import imread

    with tempfile.TemporaryDirectory(prefix="paraloss-") as folder:
        picture = Path(folder) / "picture.png"
        extra = ["--no-scalar-bar", f"--color-range={color_ends[0]!r}:{color_ends[1]!r}"]
        extra += ["--transparent"] if transparent else []
        _pvbatch(surfaces, options, size, style, picture, extra)
        if not picture.exists():
            raise MissingPackage("pvbatch ended without a picture and without a word")
        return (imread(picture) * 255).round().astype(np.uint8)


def paraview_orbit(
    surfaces: Sequence[Surface], options: GridOptions, size: tuple[int, int], style: PictureStyle, frames: int
) -> Iterator[np.ndarray]:
    """(height, width, 3) uint8 pictures of one turn around the surfaces, by pvbatch; raises as ``paraview_image``."""
    from matplotlib.image import imread

    if style.beyond_paraview:
        raise InputError(f"{', '.join(style.beyond_paraview)}: drawn by pyvista only; use --backend pyvista")
    with tempfile.TemporaryDirectory(prefix="paraloss-") as folder:
        extra = ["--orbit", str(frames), *([] if style.scalar_bar else ["--no-scalar-bar"])]
        _pvbatch(surfaces, options, size, style, Path(folder) / "frame.png", extra)
        for picture in sorted(Path(folder).glob("frame_*.png")):
            yield (imread(picture) * 255).round().astype(np.uint8)[..., :3]


def _pvbatch(
    surfaces: Sequence[Surface],
    options: GridOptions,
    size: tuple[int, int],
    style: PictureStyle,
    picture: Path,
    extra: Sequence[str],
) -> None:
    """Run ``state_files/render.py``; the surfaces' files lie beside the picture meanwhile."""
    if options.zmin is not None:
        raise InputError("--zmin is not known to ParaView's reader; use --backend pyvista")
    if not shutil.which("pvbatch"):
        raise MissingPackage("pvbatch is not on the PATH: install ParaView (Debian: apt install paraview), or use pyvista")
    files = []
    for number, surface in enumerate(surfaces):
        files.append(str(write_surface(replace(surface, directions={}), picture.with_name(f"{number}.h5"))))
    command = [*display_launcher(), "pvbatch", str(RENDER_SCRIPT), *files, "-o", str(picture), *extra]
    command += ["--state", "lit_surface" if len(files) == 1 else "side_by_side", "--size", f"{size[0]}x{size[1]}"]
    command += ["--view", style.view, "--look", style.look, "--color-map", style.colors]
    command += [f"--log-offset={options.log_offset}", "--contours", str(style.lines)]
    command += ["--minimum"] if style.minimum else []
    command += ["--trajectory"] if style.trajectory and any(s.trajectory is not None for s in surfaces) else []
    command += ["--color-by", style.color_by] if style.color_by else []
    command += ["--log", {None: "losses", True: "always", False: "never"}[options.log]]
    command += ["--metric", options.metric] if options.metric else []
    command += [f"--zmax={options.zmax}"] if options.zmax is not None else []
    command += [f"--height-scale={options.height_scale}"] if options.height_scale is not None else []
    # xvfb-run keeps its files in TMPDIR: they lie in this folder, and go with it however the drawing ends.
    done = processes.run(command, capture=True, env={**paraview_environment(), "TMPDIR": str(picture.parent)})
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise MissingPackage(f"pvbatch could not draw ({lines[-1] if lines else 'no message'})")
