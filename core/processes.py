"""Other programs, which end when this one is asked to end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

_PATIENCE_S = 10.0


def run(command: Sequence[str], *, capture: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program and wait for it; an exception meanwhile ends it with all that it has started.

    Args:
        command: program and arguments.
        capture: return its output and errors as text instead of passing them on.
        options: as of ``subprocess.Popen``.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} if capture else {}
    # A group of its own: a key press reaches this process alone, which then ends the whole group in good order.
    process = subprocess.Popen(list(command), start_new_session=True, **{**pipes, **options})
    try:
        stdout, stderr = process.communicate()
    except BaseException:
        _end_group(process)
        raise
    return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)


def _end_group(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_PATIENCE_S)
    with contextlib.suppress(ProcessLookupError):  # what did not listen, and what outlived its parent
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
