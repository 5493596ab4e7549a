"""Movies of surfaces: a turn around them, their change over training, the optimizer's walk. MP4 or GIF."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters.composition import Composition, compose
from paraloss.converters.finer import drawn_finer
from paraloss.converters.layout import framed
from paraloss.errors import InputError, MissingPackage
from paraloss.files import check_output, replacing
from paraloss.height import is_loss, to_log
from paraloss.marks import mark
from paraloss.picture_options import LIT, GridOptions, PictureOptions, combined
from paraloss.progress import Progress
from paraloss.rendering.surface_picture import SurfacePicture
from paraloss.surface import Surface, Tensors

MOVIES = (".mp4", ".gif")
KINDS = ("orbit", "morph", "walk")
_SIZE = (1280, 720)


def make_movie(
    surfaces: Sequence[Surface],
    path: str | Path,
    *,
    kind: str = "orbit",
    labels: Sequence[str] | None = None,
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    frames: int = 120,
    fps: int = 24,
    size: tuple[int, int] | None = None,
    backend: str = "pyvista",
    **chosen: Any,
) -> Path:
    """Make a movie; the file appears complete or not at all.

    Args:
        surfaces: for ``orbit`` one or more, shown together; for ``morph`` two or more of the same steps, in the order of
            time; for ``walk`` one that carries a trajectory.
        path: ``.mp4`` (H.264) or ``.gif``.
        kind: ``orbit``: the camera turns once; ``morph``: each surface flows into the next, losses along their logarithm;
            ``walk``: the optimizer's path grows.
        labels: one title per surface.
        options: options of heights; the scale is that of all surfaces together and stands still.
        picture: options of the picture.
        frames: number of frames in all.
        fps: frames per second.
        size: pixels, even numbers. Default: 1280×720.
        backend: ``pyvista``, or ``paraview`` for an orbit.
        chosen: single fields of ``GridOptions`` and ``PictureOptions``.

    Raises:
        InputError: surfaces that do not fit the kind, or a number out of range.
        MissingPackage: imageio or its ffmpeg is not installed.
    """
    path, size = Path(path), size or _SIZE
    options, picture = combined(options, picture, chosen, "make_movie")
    if kind not in KINDS:
        raise InputError(f"unknown movie '{kind}'; there are {', '.join(KINDS)}")
    if not 2 <= frames <= 100_000 or not 1 <= fps <= 240:
        raise InputError(f"{frames} frames at {fps} per second: give 2 to 100,000 frames at 1 to 240 per second")
    if any(side % 2 for side in size):
        raise InputError(f"a movie of {size[0]}x{size[1]}: both sides must be even numbers")
    if picture.transparent or picture.style not in (None, LIT):
        raise InputError("a movie shows lit surfaces on a background; leave style and transparent out")
    if backend == "paraview" and kind != "orbit":
        raise InputError(f"ParaView draws orbits only; draw the {kind} with backend pyvista")
    if kind == "morph":
        _check_same_steps(surfaces)
    titles = list(labels) if labels is not None else [""] * len(surfaces)
    surfaces = drawn_finer(surfaces, options, picture)
    if kind == "orbit":
        composition = compose(surfaces, options, picture, titles, framed(size, picture, titles))
        pictures = SurfacePicture(surfaces, composition, backend).turning(frames)
    else:
        pictures = _KINDS[kind](surfaces, titles, _compose_one(surfaces, options, picture, titles, size), frames)
    with _writer(path, fps) as write, Progress(f"{kind}: drawing frames", frames, unit="frames") as bar:
        for frame in pictures:
            write(frame)
            bar.advance()
    return path


def _compose_one(
    surfaces: Sequence[Surface],
    options: GridOptions,
    picture: PictureOptions,
    titles: Sequence[str],
    size: tuple[int, int],
) -> Composition:
    """The composition of a picture that shows one surface at a time, on the scale of all."""
    if not surfaces:
        raise InputError("no surface to draw")
    return compose(surfaces, options, picture, titles, framed(size, picture, titles[:1]))


def _check_same_steps(surfaces: Sequence[Surface]) -> None:
    if len(surfaces) < 2:
        raise InputError("a morph needs two surfaces at least, in the order of time")
    first = surfaces[0]
    if any(s.shape != first.shape or not all(map(np.allclose, s.axes, first.axes)) for s in surfaces[1:]):
        raise InputError("the surfaces of a morph must have the same steps; compute them with the same --x and --y")


def _morph(surfaces: Sequence[Surface], labels: Sequence[str], composition: Composition, frames: int) -> Iterator[np.ndarray]:
    """Frames between surfaces of the same steps, in the order of time."""
    first = surfaces[0]
    options = composition.panels[0].options
    name, offset = options.metric or first.default_metric, options.log_offset
    values = np.stack([surface.metric(name) for surface in surfaces])
    along_log = is_loss(name) and bool((values[np.isfinite(values)] > -offset).all())
    drawn = SurfacePicture(surfaces, composition)
    for step in range(frames):
        time = step / (frames - 1) * (len(surfaces) - 1)
        before = min(int(time), len(surfaces) - 2)
        share = time - before
        one, other = values[before], values[before + 1]
        if along_log:
            between = np.exp((1 - share) * to_log(one, offset) + share * to_log(other, offset)) - offset
        else:
            between = (1 - share) * one + share * other
        shown = replace(surfaces[before], metrics={name: between}, trajectory=None, trajectories={})
        yield drawn.alone(shown, labels[before] if share < 0.5 else labels[before + 1])


def _walk(surfaces: Sequence[Surface], labels: Sequence[str], composition: Composition, frames: int) -> Iterator[np.ndarray]:
    """Frames of paths that grow along a surface, each to its own end in the same time."""
    surface = surfaces[0]
    paths = surface.paths
    if len(surfaces) != 1 or not paths or any(len(path["x"]) < 2 for path in paths.values()):
        raise InputError("a walk needs one surface that carries a trajectory; make it with: paraloss project")
    drawn = SurfacePicture([surface], composition)
    for step in range(frames):
        share = step / (frames - 1)
        yield drawn.alone(surface.with_paths({label: _begun(path, share) for label, path in paths.items()}), labels[0])


def _begun(path: Tensors, share: float) -> dict[str, np.ndarray]:
    """The first ``share`` of a path's checkpoints, the last one between two of them."""
    whole = np.arange(len(path["x"]), dtype=float)
    reached = max(share * whole[-1], 1e-3)
    places = np.append(whole[whole < reached], reached)
    return {name: np.interp(places, whole, np.asarray(values, float)) for name, values in path.items()}


_KINDS = {"morph": _morph, "walk": _walk}


@contextmanager
def _writer(path: Path, fps: int) -> Iterator[Any]:
    """Yield a function that takes frames; the file gets its name when all are written."""
    if path.suffix.lower() not in MOVIES:
        raise InputError(f"{path}: movies end in {' '.join(MOVIES)}")
    check_output(path)
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise MissingPackage("movies need imageio and imageio-ffmpeg: pip install 'paraloss[render]'") from error
    how: dict[str, Any] = (
        {
            "fps": fps,
            "codec": "libx264",
            "quality": 8,
            "macro_block_size": 2,
            "ffmpeg_log_level": "error",
            "output_params": ["-metadata", f"comment={mark('movie')}"],
        }
        if path.suffix.lower() == ".mp4"
        else {"duration": 1000 / fps, "loop": 0, "comment": mark("movie")}
    )
    with replacing(path) as temporary:
        try:
            with imageio.get_writer(temporary, **how) as writer:
                yield writer.append_data  # type: ignore[attr-defined]
        except BrokenPipeError as error:  # its text is ffmpeg's whole command
            raise OSError(errno.ENOSPC, "ffmpeg could not write it; is the disk full?") from error
        except OSError as error:
            if "ffmpeg" in str(error).lower():
                raise OSError(errno.ENOSPC, "ffmpeg could not write it; is the disk full?") from error
            raise
