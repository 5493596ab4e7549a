"""A running job in ParaView Catalyst: ``paraloss compute --catalyst pipeline.py``.

ParaView runs in a process of its own, in its own Python, beside the process that writes the surface file: its libraries and its
MPI never meet those of the job, and what goes wrong in a pipeline cannot harm the job. The file is how a state is handed over.
"""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from paraloss.errors import InputError, MissingPackage
from paraloss.files import check_input
from paraloss.log import logger
from paraloss.rendering.paraview_backend import RENDER_SCRIPT, paraview_command, paraview_environment

SCRIPT = RENDER_SCRIPT.with_name("in_situ.py")
_HOW = "File > Save Catalyst State, in ParaView"
_LAST_S = 600.0  # longest time for the outputs of the finished surface
_OF_A_JOB = ("OMPI_", "PMIX_", "PMI_", "PMI2_", "MPI_", "MPICH_", "HYDRA_", "HYDI_", "SLURM_")
"""Variables by which MPI finds the ranks of a job; ParaView is none of them."""


def check_pipelines(pipelines: Sequence[Path]) -> None:
    """Check that the pipelines can run here, before a point is computed.

    Raises:
        InputError: no such file, no Python, or not exported for Catalyst with ParaView 5.9 or later.
        MissingPackage: pvbatch is not on the PATH.
    """
    for pipeline in pipelines:
        check_input(pipeline)
        try:
            text = pipeline.read_text("utf-8")
            ast.parse(text)
        except (SyntaxError, ValueError, OSError) as error:
            raise InputError(
                f"{pipeline}: is no Python script ({error}); export one in ParaView: File > Save Catalyst State"
            ) from error
        if not text.lstrip().startswith("# script-version: 2"):
            raise InputError(
                f"{pipeline}: does not begin with '# script-version: 2.0', as what ParaView 5.9 and later exports does; "
                f"export it again: {_HOW}"
            )
    if not shutil.which("pvbatch"):
        raise MissingPackage("pvbatch is not on the PATH: install ParaView (Debian: apt install paraview)")


@contextlib.contextmanager
def catalyst(surface: Path, pipelines: Sequence[Path]) -> Iterator[None]:
    """Hand each state of a surface file to ParaView Catalyst while the block runs, and the last one at its end.

    Args:
        surface: file that the job writes; may not exist yet.
        pipelines: scripts that ParaView exported; they are run. Their outputs go where they say, from this folder.

    Raises:
        InputError, MissingPackage: as ``check_pipelines``.
    """
    check_pipelines(pipelines)
    kept = {name: value for name, value in paraview_environment().items() if not name.startswith(_OF_A_JOB)}
    command = [*paraview_command("pvbatch"), str(SCRIPT), str(surface), *map(str, pipelines)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=kept, start_new_session=True, text=True)
    try:
        yield
        _finish(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _finish(process: subprocess.Popen[str]) -> None:
    """Let ParaView draw the finished surface; say so where it could not."""
    with contextlib.suppress(BrokenPipeError):
        process.communicate("end\n", timeout=_LAST_S)
    if process.poll() is None:
        process.wait(_LAST_S)
    if process.returncode:
        logger.warning(f"ParaView Catalyst ended with code {process.returncode}; the surface itself is complete")
