"""A surface as one self-contained web page: it opens from the disk, without a network, and can be mailed."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from paraloss.converters.colors import color_table
from paraloss.converters.composition import Composition, compose
from paraloss.converters.finer import WANTED
from paraloss.converters.grid import as_float32
from paraloss.converters.paths import DrawnPath
from paraloss.errors import InputError
from paraloss.files import check_output, replacing
from paraloss.look import BALL_RADIUS, COLOR_MAPS, HEIGHT_OF_WIDTH, LOOKS, MARK_COLOR, MINIMUM_RADIUS, SHINE, START_COLOR
from paraloss.picture_options import DRAWN_IN_A_PAGE, LIT, GridOptions, PictureOptions, combined
from paraloss.rendering.labels import default_label
from paraloss.surface import Surface

_TEMPLATE = Path(__file__).with_name("viewer.html")
_MOST = 16_000_000  # numbers in one page: four metrics at 2,001 x 2,001 points, a page of 86 MB
_DRAWN = {"moving": 70_000, "resting": 1_100_000, "gpu": 16}  # points drawn without a GPU; how many times as many with one


def write_page(
    surfaces: Sequence[Surface],
    path: str | Path,
    labels: Sequence[str],
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    **chosen: Any,
) -> Path:
    """Write ``.html``; the file appears complete or not at all.

    Args:
        surfaces: one, or several that a slider goes through (epochs, or networks); they share the scale.
        path: the page.
        labels: one title per surface.
        options: options of heights, as shown first.
        picture: options of the picture, as shown first.
        chosen: single fields of ``GridOptions`` and ``PictureOptions``.

    Raises:
        InputError: a curve or a volume, nothing evaluated, an option that a page does not have, or more numbers than a
            browser should hold.
    """
    path = Path(path)
    check_output(path)
    text = page(surfaces, labels, *combined(options, picture, chosen, "write_page"))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def page(
    surfaces: Sequence[Surface],
    labels: Sequence[str],
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    live: str = "",
    stamp: str = "",
) -> str:
    """The page's text; with ``live`` it asks that address for fresh data. Raises as ``write_page``."""
    options, picture = options or GridOptions(), picture or PictureOptions()
    asked = picture.beyond(*DRAWN_IN_A_PAGE)
    if asked or picture.style not in (None, LIT):
        raise InputError(f"{', '.join(asked or ['style'])}: not drawn in a page; make a picture (.png)")
    settings: dict[str, Any] = {
        "looks": _looks(),
        "maps": {name: (color_table(name, 256) * 255).round().astype(int).ravel().tolist() for name in COLOR_MAPS},
        "height": HEIGHT_OF_WIDTH,
        "fine": WANTED,
        "ball": BALL_RADIUS,
        "mark": {"radius": MINIMUM_RADIUS, "color": MARK_COLOR},
        "shine": SHINE,
        "live": live,
        "most": _DRAWN,
        **data_of(surfaces, labels, options, picture, stamp),
    }
    # What ends a script element must not occur within it.
    text = json.dumps(settings, allow_nan=False).replace("<", "\\u003c")
    return _template().replace("/*DATA*/", text)


def data_of(
    surfaces: Sequence[Surface], labels: Sequence[str], options: GridOptions, picture: PictureOptions, stamp: str = ""
) -> dict[str, Any]:
    """What changes while a surface is being computed, its composition included; raises as ``write_page``."""
    for surface in surfaces:
        if surface.y is None or surface.z is not None:
            raise InputError("the page shows surfaces (two axes); render a curve or a volume as .png")
        if not any(np.isfinite(values).any() for values in surface.metrics.values()):
            raise InputError("nothing to show: no point has a finite value yet")
    numbers = sum(surface.status.size * len(surface.metrics) for surface in surfaces)
    if numbers > _MOST:
        raise InputError(f"{numbers:,} numbers are more than a page should hold ({_MOST:,}); show fewer or coarser surfaces")
    composition = compose(surfaces, options, picture, labels)
    return {
        "stamp": stamp,
        "done": all(surface.is_complete for surface in surfaces),
        "composed": _composed(composition, options),
        "surfaces": [
            {
                "name": label,
                "points": surface.status.size,
                "x": _floats(surface.x),
                "y": _floats(np.asarray(surface.y)),
                "metrics": {name: _floats(values) for name, values in surface.metrics.items()},
                "paths": [_path(list(surface.paths.values())[drawn.number], drawn) for drawn in panel.paths],
            }
            for surface, label, panel in zip(surfaces, labels, composition.panels, strict=True)
        ],
    }


def _composed(composition: Composition, options: GridOptions) -> dict[str, Any]:
    """What the page shows until the reader moves a slider: the composition's own numbers."""
    heights, picture, scale = composition.panels[0].options, composition.picture, composition.scale
    return {
        "metric": heights.metric,
        "log": heights.log,
        "offset": heights.log_offset,
        "note": composition.note,
        "zmax": heights.zmax,
        "zmin": heights.zmin,
        "unit": heights.height_scale,
        "fixed": options.height_scale is not None,
        "ends": composition.ends,
        "color": picture.color_by if picture.color_by != heights.metric else None,
        "range": composition.ends if scale is None else (scale.low, scale.high),
        "ticks": () if scale is None else scale.ticks,
        "contours": len(composition.levels),
        "look": picture.look,
        "map": picture.color_map,
        "camera": picture.camera.position,
        "minimum": picture.minimum,
    }


def page_of(surface: Surface, **chosen: Any) -> str:
    """The page of one surface; raises as ``write_page``."""
    return page([surface.drawable()], [default_label(surface)], *combined(None, None, chosen, "page_of"))


class Page:
    """The page in a frame, as a notebook shows it."""

    def __init__(self, text: str, height: int = 560) -> None:
        self.text, self.height = text, height

    def _repr_html_(self) -> str:
        inner = html.escape(self.text, quote=True)
        return f'<iframe srcdoc="{inner}" style="width:100%;height:{self.height}px;border:0" sandbox="allow-scripts"></iframe>'


def _looks() -> dict[str, Any]:
    return {
        name: {
            "background": look.background,
            "text": look.text,
            "line": look.line,
            "material": [look.material.ambient, look.material.diffuse, look.material.specular, look.material.specular_power],
            "lights": [
                {"position": light.position, "color": light.color, "intensity": light.intensity} for light in look.lights
            ],
            "surface": look.surface_color,
            "contours": look.contours,
            "map": look.color_map,
        }
        for name, look in LOOKS.items()
    }


def _path(trajectory: Mapping[str, np.ndarray], drawn: DrawnPath) -> dict[str, Any]:
    """A path's places, name, color (none: that of the look's lines) and the colors of the balls at its ends."""
    places = np.stack([np.asarray(trajectory[axis], float) for axis in "xy"])
    x, y = places[:, np.isfinite(places).all(axis=0)].tolist()
    color = drawn.color if drawn.label else None
    return {"x": x, "y": y, "name": drawn.label, "color": color, "ends": [START_COLOR, color or MARK_COLOR]}


def _floats(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(as_float32(values), "<f4").tobytes()).decode()


@lru_cache(maxsize=1)
def _template() -> str:
    return _TEMPLATE.read_text(encoding="utf-8")
