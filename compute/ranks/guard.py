"""A guard in front of each rank that torchrun or srun started: a process that does nothing but wait for the one that computes.

torchrun ends all ranks when one of its processes is killed. It watches the guards, so that a rank which dies, because
memory ran out, say, costs the points that it had drawn, and the others go on. The guard then reports the death to them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

from paraloss.launch import Launch, launched
from paraloss.stopping import SIGNALS

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
_POLL_S = 0.2
_WRONG = 2


def stand_guard() -> None:
    """Go on in a child process where a launcher of torch.distributed started several ranks; this one ends as the child does.

    Call this before anything else, while there is one thread.
    """
    launch = launched()
    if launch.engine != "torch":
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of a store that has gone, one line of Paraloss says all
    before = {number: signal.getsignal(number) for number in SIGNALS}
    child, asked = 0, []

    def pass_on(number: int, frame: object) -> None:
        asked.append(number)
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    child = os.fork()
    if child == 0:
        for number, handler in before.items():
            signal.signal(number, handler)
        _die_with_parent()
        return
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        code = 128 - code if asked else _after_death(launch, signal.Signals(-code).name, 128 - code)
    if code in (_WRONG, *(128 + number for number in SIGNALS)) and os.environ.get("LOCAL_RANK", "0") != "0":
        code = 0  # rank 0 says what is wrong; torchrun lists every process that fails in many lines
    os._exit(code)


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _after_death(launch: Launch, how: str, code: int) -> int:
    """Report the death of the rank, and wait until the others are done; the exit code."""
    how = f"rank {launch.rank} was killed by {how}"
    if launch.rank == 0:
        line = f"paraloss: {how}, and it writes the file; finished points are kept, and the same command goes on from there"
        print(line, file=sys.stderr, flush=True)
    from paraloss.compute.ranks.board import Board, find_place
    from paraloss.errors import ParalossError

    try:
        board = Board(find_place())
        board.put(f"lost/{launch.rank}", how.encode())
        while launch.rank != 0 and board.look("over") is None:
            time.sleep(_POLL_S)
    except ParalossError:
        return code
    return code if launch.rank == 0 else 0
