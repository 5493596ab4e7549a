"""The ``paraloss`` command: one module a verb, each imports what it needs only when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import cyclopts

from paraloss._version import __version__
from paraloss.errors import ParalossError

HELP = """Loss surfaces of neural networks, from a checkpoint to a lit picture.

Example: train, compute on 2 ranks, draw.

paraloss train --model resnet20 --data digits -o runs/r20

mpiexec -n 2 paraloss compute --weights runs/r20/final.pt --x=-1:1:25 --y=-1:1:25 -o r20.h5

paraloss render r20.h5 r20.png
"""

app = cyclopts.App(name="paraloss", version=__version__, help=HELP, help_format="markdown")
VERBS = (
    "demo", "data", "train", "compute", "project", "hessian", "convert", "render", "view", "analyze", "histogram", "info",
    "paraview",
)  # fmt: skip
for verb in VERBS:
    app.command(f"paraloss.cli.{verb}:{verb}", name=verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on standard error and exit code 2."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except ParalossError as error:
        _fail(str(error))
    except cyclopts.CycloptsError as error:
        _fail(f"{' '.join(str(error).split())} See: paraloss --help")
    except KeyboardInterrupt:
        _fail("interrupted; what was finished is kept, and the same command goes on from there", code=130)
    except BrokenPipeError:
        os._exit(141)  # the reader of our output has gone, as in `paraloss info … | head`
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("PARALOSS_TRACEBACK"):
            raise
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(
            f"paraloss: a fault of ours, not yours: {told}. Please report it, with what PARALOSS_TRACEBACK=1 in front tells",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        if _rank() is not None:  # other ranks may wait for this one in a collective call: the process must end, and the job
            os._exit(1)
        sys.exit(1)


def _fail(message: str, code: int = 2) -> None:
    if not _rank():
        print(f"paraloss: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _rank() -> int | None:
    """This process's rank; None outside of an MPI job."""
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None
