"""The ``paraloss`` command: one module a verb, each imports what it needs only when it runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import cyclopts

from paraloss._version import __version__
from paraloss.errors import InputError, ParalossError
from paraloss.log import logger, shown_on_stderr

HELP = """Loss surfaces of neural networks, from a checkpoint to a lit picture.

Example: train, compute on 2 ranks, draw.

paraloss train --model resnet20 --data digits -o runs/r20

mpiexec -n 2 paraloss compute --weights runs/r20/final.pt --x=-1:1:25 --y=-1:1:25 -o r20.h5

paraloss render r20.h5 r20.png
"""

app = cyclopts.App(
    name="paraloss", version=__version__, help=HELP, help_format="markdown", suppress_keyboard_interrupt=False,
    help_epilogue="Every command takes --quiet (warnings and errors only) and --verbose (more lines, each with its time).",
)  # fmt: skip
VERBS = (
    "demo", "data", "train", "compute", "project", "hessian", "convert", "render", "view", "analyze", "histogram", "info",
    "paraview",
)  # fmt: skip
for verb in VERBS:
    app.command(f"paraloss.cli.{verb}:{verb}", name=verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on standard error and exit code 2."""
    try:
        given, level = _verbosity(sys.argv[1:] if arguments is None else arguments)
        with shown_on_stderr(level, _rank()):
            logger.debug("paraloss %s, Python %s, %s", __version__, sys.version.split()[0], sys.platform)
            app(given, exit_on_error=False, print_error=False)
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
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(
            f"paraloss: internal error: {what}. This is a bug in Paraloss; please report it with the traceback "
            "(set PARALOSS_TRACEBACK=1)",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        if _rank() is not None:  # other ranks may wait for this one in a collective call: the process must end, and the job
            os._exit(1)
        sys.exit(1)


def _verbosity(arguments: Sequence[str]) -> tuple[list[str], int]:
    """The arguments without ``--quiet`` and ``--verbose``, which may stand anywhere, and the logging level they ask for."""
    given = list(arguments)
    end = given.index("--") if "--" in given else len(given)
    levels = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}
    asked = {word for word in given[:end] if word in levels}
    if len(asked) > 1:
        raise InputError("--quiet and --verbose exclude each other")
    kept = [word for word in given[:end] if word not in levels] + given[end:]
    return kept, levels[asked.pop()] if asked else logging.INFO


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
