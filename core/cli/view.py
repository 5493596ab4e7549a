"""``paraloss view``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from paraloss.cli.groups import Heights
from paraloss.picture_options import GridOptions, PictureOptions


def view(
    *files: Path,
    web: Annotated[bool, Parameter(negative="")] = False,
    heights: Heights = GridOptions(),
    look: str = "paper",
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    port: int = 0,
    browser: bool = True,
) -> None:
    """Turn surfaces around, change clip, offset, height and contours, read values; follows a running job.

    Example: paraloss view surface.h5 --web

    To make a file that can be mailed: paraloss render surface.h5 surface.html

    Args:
        files: Surface files; several are steps of a slider.
        web: Show a page in the browser, at an address of this machine only, instead of a window.
        look: Lights, material, colors: paper, dark, flat or clay.
        label: Title of a surface; repeat it for each. Default: the file's name.
        port: Port for --web. Default: any free port.
        browser: Open the browser with --web.
    """
    import webbrowser

    from paraloss.errors import InputError
    from paraloss.log import logger

    if not files:
        raise InputError("name at least one surface file, as in surface.h5")
    labels = label or [file.stem for file in files]
    if len(labels) != len(files):
        raise InputError(f"{len(labels)} labels for {len(files)} surfaces; give one each")
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: give 0 to 65535")
    if not web:
        from paraloss.rendering.window import show_window

        show_window(list(files), labels, heights, PictureOptions(look=look))
        return
    from paraloss.rendering.server import ViewServer

    server = ViewServer(list(files), labels, heights, PictureOptions(look=look), port)
    logger.info("serving until you press Ctrl-C")
    print(server.url, flush=True)
    if browser:
        webbrowser.open(server.url)
    try:
        server.run()
    except KeyboardInterrupt:
        logger.info("closed")
