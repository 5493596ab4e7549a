"""A surface in a notebook, to turn, clip and pick, that grows while a job computes it: the page of ``web`` as a widget."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from paraloss.converters.li2018 import open_surface
from paraloss.errors import MissingPackage, ParalossError
from paraloss.picture_options import GridOptions, PictureOptions, combined
from paraloss.rendering.labels import default_label
from paraloss.rendering.web import data_of, page
from paraloss.surface import Surface

_EVERY_S = 1.0  # between two looks at a file that is being computed

_SHOW = """
function render({model, el}) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.style.cssText = `width:100%;height:${model.get("height")}px;border:0`;
  frame.srcdoc = model.get("page");
  const give = () => { const fresh = model.get("fresh"); if (fresh.stamp) frame.contentWindow?.postMessage({fresh}, "*"); };
  const hear = event => {
    if (event.source !== frame.contentWindow || !event.data.picked) return;
    model.set("picked", event.data.picked); model.save_changes();
  };
  frame.addEventListener("load", give);
  model.on("change:fresh", give);
  window.addEventListener("message", hear);
  el.appendChild(frame);
  return () => { model.off("change:fresh", give); window.removeEventListener("message", hear); };
}
export default {render};
"""

Fresh = tuple[dict[str, Any], bool]


@cache
def _widget() -> Any:
    """The class of the widget, made when the first one is asked for: anywidget is optional."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise MissingPackage("a widget that turns in a notebook needs anywidget: pip install 'paraloss[notebook]'") from error

    class SurfaceWidget(anywidget.AnyWidget):  # type: ignore[misc]
        """A surface that turns in a notebook.

        Attributes:
            page: the page of the surface, as it was when the widget was made.
            fresh: data of the page that have changed since; empty at first.
            picked: x, y and every metric of the point that was clicked; empty if there is none.
            height: height of the widget, pixels.
        """

        _esm = _SHOW
        page = traitlets.Unicode().tag(sync=True)
        fresh = traitlets.Dict().tag(sync=True)
        picked = traitlets.Dict().tag(sync=True)
        height = traitlets.Int(560).tag(sync=True)

    return SurfaceWidget


def explore(
    surface: Surface | str | Path,
    *,
    height: int = 560,
    options: GridOptions | None = None,
    picture: PictureOptions | None = None,
    **chosen: Any,
) -> Any:
    """Show a surface in a notebook, to turn, clip and pick; a file that is being computed is followed until it is complete.

    Args:
        surface: the surface, or the path of its file.
        height: height of the widget, pixels.
        options: options of heights, as shown first.
        picture: options of the picture, as shown first.
        chosen: single fields of ``GridOptions`` and ``PictureOptions``.

    Returns:
        A widget; its ``picked`` holds the values of the point that was clicked last.

    Raises:
        InputError: a curve or a volume, nothing evaluated yet, or an option that a page does not have.
        MissingPackage: anywidget is not installed.
    """
    heights, shown = combined(options, picture, chosen, "explore")
    if isinstance(surface, Surface):
        return _widget()(page=page([surface.drawable()], [default_label(surface)], heights, shown), height=height)
    path = Path(surface)
    opened = open_surface(path)
    label = default_label(opened) or path.stem
    widget = _widget()(page=page([opened.drawable()], [label], heights, shown), height=height)

    def fresh() -> Fresh:
        stamp, now = str(path.stat().st_mtime_ns), open_surface(path)
        return data_of([now.drawable()], [label], heights, shown, stamp), now.is_complete

    if not opened.is_complete:
        arguments = (weakref.ref(widget), path, fresh)
        threading.Thread(target=_follow, args=arguments, name=f"follow {path.name}", daemon=True).start()
    return widget


def _follow(seen: weakref.ref[Any], path: Path, fresh: Callable[[], Fresh]) -> None:
    """Give a widget what its file holds, until the file is complete or the widget is gone.

    A cell that computes keeps the kernel busy, not this thread: the surface grows meanwhile.
    """
    last = 0
    while True:
        time.sleep(_EVERY_S)
        widget = seen()
        if widget is None:
            return
        with suppress(ParalossError, OSError):  # in the middle of being written: what is shown stays
            now = path.stat().st_mtime_ns
            if now != last:
                data, complete = fresh()
                widget.fresh, last = data, now
                if complete:
                    return
        del widget
