"""VTK's XML files: binary, compressed, through vtk's own writers."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from paraloss.marks import mark


def write_xml(writer: Any, data: Any, path: Path, purpose: str = "conversion") -> None:
    """Write through one of vtk's XML writers: appended raw data, zlib, and the mark of ``purpose`` in a comment at the end.

    Raises:
        OSError: vtk could not write, as on a full disk.
    """
    writer.SetFileName(str(path))
    writer.SetInputData(data)
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetCompressorTypeToZLib()
    if writer.Write() != 1 or not path.exists():
        raise OSError(errno.ENOSPC, "vtk could not write this file; is the disk full?")
    with path.open("a") as file:
        file.write(f"<!-- {mark(purpose)} -->\n")
