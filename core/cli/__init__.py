"""The ``paraloss`` command: one module per verb, each imports what it needs only when it runs."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, get_args

import cyclopts
from cyclopts import Parameter

from paraloss._version import __version__
from paraloss.errors import InputError, ParalossError
from paraloss.launch import launched, leave_word, rank_of_job
from paraloss.log import logger, shown_on_stderr
from paraloss.option import suggestion
from paraloss.stopping import Stopped, listening, requested
from paraloss.text import one_line

HELP = """Loss surfaces of neural networks, from a checkpoint to a lit picture.

Example: train, compute on 2 ranks, draw.

paraloss train --model resnet20 --data digits -o runs/r20

mpiexec -n 2 paraloss compute --weights runs/r20/final.pt --x=-1:1:25 --y=-1:1:25 -o r20.h5

paraloss render r20.h5 r20.png
"""

VERBS = {
    "demo": "Figure 1 of Li et al. 2018 on handwritten digits, from weights to picture.",
    "data": "Fetch a published data set and check it.",
    "train": "Train a model, with one checkpoint per epoch.",
    "compute": "Compute a loss surface or curve around a checkpoint.",
    "project": "Compute a run's path and the surface around it.",
    "align": "Permute a model's hidden units to match another's.",
    "connect": "Train a curve of low loss between two models.",
    "hessian": "Compute the Hessian's spectrum at a checkpoint.",
    "convert": "Convert surfaces to VTK, mesh and table formats.",
    "render": "Draw pictures, movies and pages.",
    "figure": "Compute and draw all figures for a paper in one go.",
    "share": "Pack a surface with page, picture and plugin, to be mailed.",
    "view": "Look at surfaces in a window or in the browser.",
    "analyze": "Print numbers about surfaces; compare them.",
    "histogram": "Draw histograms of the weights of checkpoints.",
    "info": "Print what a file holds, or what is installed.",
    "paraview": "Open ParaView with the plugin and the files.",
    "slurm": "Print a job script for Slurm.",
}


def flag(argument: str) -> str:
    """Return the flag of the command line for an argument of the library."""
    return "--output" if argument == "path" else f"--{argument.replace('_', '-')}"


def _convert(kind: Any, tokens: Sequence[Any]) -> Any:
    """Convert texts as cyclopts does, but refuse a fraction where a whole number is expected, instead of rounding it."""
    if int in (kind, *get_args(kind)):
        for token in tokens:
            if not re.fullmatch(r"[+-]?\d+", token.value):
                raise cyclopts.CoercionError(f'"{token.value}" is not a whole number', token=token, target_type=int)
    return cyclopts.convert(kind, tokens)


app = cyclopts.App(
    name="paraloss",
    version=__version__,
    help=HELP,
    help_format="markdown",
    help_epilogue="Every command takes --quiet (warnings and errors only) and --verbose (more lines, each with its time).",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(converter=_convert),
)
for number, (verb, line) in enumerate(VERBS.items()):
    app.command(f"paraloss.cli.{verb}:{verb}", name=verb, help=line, sort_key=number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on standard error and exit code 2."""
    if arguments is None and launched().engine == "torch":
        from paraloss.compute.ranks.guard import stand_guard

        stand_guard()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        given, level = _verbosity(arguments)
        with shown_on_stderr(level, rank_of_job()), listening(rank_of_job()):
            logger.debug("paraloss %s, Python %s, %s", __version__, sys.version.split()[0], sys.platform)
            if given and given[0] in VERBS:
                app[given[0]].help = None  # the verb's own help is its docstring
            app(given, exit_on_error=False, print_error=False)
    except ParalossError as error:
        _fail(error.worded(flag))
    except cyclopts.CycloptsError as error:
        _fail(_worded(error, arguments))
    except KeyboardInterrupt as error:
        stop = error if isinstance(error, Stopped) else Stopped()
        _fail(str(stop), code=128 + stop.number)
    except BrokenPipeError:
        os._exit(141)  # the reader of our output has gone, as in `paraloss info … | head`
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except Exception as error:
        if number := requested():  # a library made another error of the interruption
            _fail(str(Stopped(number)), code=128 + number)
        together = getattr(error, "raised_on_all_ranks", False)
        if together and rank_of_job():
            sys.exit(1)  # rank 0 prints it
        if os.environ.get("PARALOSS_TRACEBACK"):
            raise
        what, code = _unforeseen(error)
        print(f"paraloss: {what}", file=sys.stderr, flush=True)
        if rank_of_job() is not None and not together:
            os._exit(code)  # other ranks may wait for this one in a collective call: the process must end, and the job
        sys.exit(code)


def _unforeseen(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code for an error that nobody foresaw: no memory is left, or a bug."""
    what = f"{type(error).__name__}: {one_line(error)[:200]}"
    signs = ("can't allocate memory", "out of memory", "bad_alloc", "Unable to allocate")
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in signs):
        return f"there is not enough memory for this ({what}); ask for fewer points or samples, or set --batch-size", 2
    return (
        f"internal error: {what}. This is a bug in Paraloss; please report it with the traceback (set PARALOSS_TRACEBACK=1)",
        1,
    )


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


def _worded(error: cyclopts.CycloptsError, arguments: Sequence[str]) -> str:
    """Return the line for a command line that cannot be read; it suggests only what is really close."""
    words = [word for word in arguments if not word.startswith("-")]
    verb = words[0] if words and words[0] in VERBS else ""
    see = f"See: paraloss {verb} --help" if verb else "See: paraloss --help"
    if isinstance(error, cyclopts.UnknownOptionError):
        unknown = error.token.keyword or error.token.value
        flags = [name for argument in error.argument_collection if argument.parse for name in argument.names]
        text = f"unknown option {unknown}{suggestion(unknown, flags)}"
    elif isinstance(error, cyclopts.UnknownCommandError):
        text = f"unknown command '{words[0]}'{suggestion(words[0], VERBS) or '; there are ' + ', '.join(VERBS)}"
    elif isinstance(error, cyclopts.UnusedCliTokensError):
        text = f"{' '.join(error.unused_tokens or [])}: not expected here"
    else:
        text = re.sub(r' Did you mean "?[^"?]*"?\?', "", " ".join(str(error).split())).removesuffix(".")
    return f"{text}{'' if text.endswith('?') else '.'} {see}"


def _fail(message: str, code: int = 2) -> None:
    if not rank_of_job():
        leave_word(line := f"paraloss: {one_line(message)}")
        print(line, file=sys.stderr, flush=True)
    sys.exit(code)
