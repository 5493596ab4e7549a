"""A surface with all that is needed to look at it, as one archive that can be mailed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from paraloss.converters.formats import write
from paraloss.converters.li2018 import open_surface
from paraloss.errors import InputError
from paraloss.files import check_output, replacing
from paraloss.marks import mark
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.rendering.caption import caption
from paraloss.rendering.labels import default_label
from paraloss.rendering.one_file_plugin import one_file_plugin
from paraloss.rendering.picture import render
from paraloss.rendering.web import write_page
from paraloss.surface import write_surface

_README = """What is in this archive, and what opens it:

NAME.html    any browser: turn the surface, change clip and height, read values
NAME.png     the picture
NAME.txt     a caption
NAME.vts     ParaView (File > Open), without anything else
NAME.h5      the surface itself: numpy with h5py, or ParaView with the plugin below
paraloss_plugin.py    ParaView: Tools > Manage Plugins > Load New, then File > Open on NAME.h5; brings contour lines,
             optimizer paths and the minimum as filters

Made by Paraloss.
"""


def share(
    source: str | Path,
    target: str | Path,
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a ``.zip`` of a surface: page, picture, caption, ``.vts``, the file without its directions, a one-file plugin.

    Args:
        source: surface file of Paraloss or of Li et al.'s code.
        target: the archive; it appears complete or not at all.
        options: options of heights.
        picture: options of the picture.
        overwrite: replace a file that ``share`` did not make; never ``source``.

    Raises:
        InputError: a curve or a volume, nothing evaluated yet, or ``target`` must not be replaced.
        SurfaceFileError: ``source`` cannot be read.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() != ".zip":
        raise InputError(f"{target}: what is shared is one archive; its name ends in .zip")
    check_output(target, "share", [source], overwrite)
    surface = open_surface(source).drawable()
    if len(surface.axes) != 2:
        raise InputError(
            f"{source}: holds no surface with two axes; send a picture of it: paraloss render {source} picture.png"
        )
    name, label = source.stem, default_label(surface) or source.stem
    with tempfile.TemporaryDirectory(prefix="paraloss-") as place:
        folder = Path(place)
        render([surface], folder / f"{name}.png", options=options, picture=picture, labels=[label])
        write_page([surface], folder / f"{name}.html", [label], options)
        write(surface, folder / f"{name}.vts", options)
        write_surface(replace(surface, directions={}), folder / f"{name}.h5")
        (folder / f"{name}.txt").write_text(caption(surface) + "\n", encoding="utf-8")
        (folder / "paraloss_plugin.py").write_text(one_file_plugin(), encoding="utf-8")
        (folder / "README.txt").write_text(_README.replace("NAME", name), encoding="utf-8")
        _pack(sorted(folder.iterdir()), target, name)
    return target


def _pack(files: Sequence[Path], target: Path, name: str) -> None:
    """Put files into one folder of an archive."""
    with replacing(target) as temporary, ZipFile(temporary, "w", ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, f"{name}/{path.name}")
        archive.comment = mark("share").encode()
