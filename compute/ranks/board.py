"""The store of torch.distributed as a board of keys and bytes that all ranks see, and a sign of life of each of them.

torchrun's agent keeps the store; where no launcher does (``srun`` without MPI), rank 0 does. It listens where the launcher
says, on one host only on 127.0.0.1. The store takes values of up to 8 MiB: longer ones are kept in pieces.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from paraloss.compute.ranks.ending import RankLost
from paraloss.errors import InputError
from paraloss.launch import Launch

_PIECE = 4 << 20
_PATIENCE = timedelta(minutes=10)  # for ranks that are still being started
_SILENCE_S = 60.0
_PULSE_S = 1.0
_FIRST_PORT, _PORTS = 15_000, 12_000  # below the ports that systems hand out


@dataclass(frozen=True)
class Place:
    """Where the store is.

    Attributes:
        host: name or address.
        port: number.
        kept_by_rank_0: whether no launcher keeps the store.
        shared: whether a process group of the same program may keep its store there too.
        prefix: begins every key; another one after each restart.
    """

    host: str
    port: int
    kept_by_rank_0: bool = False
    shared: bool = True
    prefix: str = "paraloss/0/"


def find_place() -> Place:
    """Return where the launcher says that the store is.

    Raises:
        InputError: the variables of the environment name no such place.
    """
    given = os.environ
    prefix = f"paraloss/{given.get('TORCHELASTIC_RESTART_COUNT', '0')}/"
    host, port = given.get("MASTER_ADDR", ""), given.get("MASTER_PORT", "")
    if port and not (port.isdigit() and 0 < int(port) < 65_536):
        raise InputError(f"MASTER_PORT is '{port}', which is no port; start the job with torchrun, or set another")
    if host and port:
        kept_by_agent = given.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return Place(host, int(port), not kept_by_agent, True, prefix)
    nodes = given.get("SLURM_STEP_NUM_NODES") or given.get("SLURM_NNODES") or "1"
    names = given.get("SLURM_STEP_NODELIST") or given.get("SLURM_NODELIST") or ""
    host = host or ("127.0.0.1" if nodes == "1" else _first_host(names))
    job = f"{given.get('SLURM_JOB_ID')}.{given.get('SLURM_STEP_ID')}"
    return Place(host, int(port or _FIRST_PORT + zlib.crc32(job.encode()) % _PORTS), True, False, prefix)


def _first_host(names: str) -> str:
    """The first of Slurm's hosts, as in ``gpu[07-12,20],login1``."""
    found = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\]([^,]*))?", names)
    if found is None:
        raise InputError(f"Slurm names no hosts ('{names}'); set MASTER_ADDR to the host of the first task, and MASTER_PORT")
    return "".join(part or "" for part in found.groups())


class Board:
    """Keys and bytes that all ranks see. Each thread needs one of its own.

    Args:
        place: where the store is.
        keeps: whether this process keeps the store.

    Raises:
        RankLost: the store cannot be reached; so does every method.
        InputError: the port is taken.
    """

    def __init__(self, place: Place, keeps: bool = False) -> None:
        self._place = place
        arguments: dict[str, Any] = {}
        if keeps and place.shared:
            arguments = {"is_master": True, "multi_tenant": True}
        elif keeps:
            arguments = {"is_master": True, "master_listen_fd": _listen(place)}
        with self._talking():
            self._store: Any = TCPStore(place.host, place.port, timeout=_PATIENCE, wait_for_workers=False, **arguments)

    def another(self) -> Board:
        """A board for another thread."""
        return Board(self._place)

    def put(self, key: str, value: bytes) -> None:
        """Write a value under a key that has none."""
        pieces = [value[first : first + _PIECE] for first in range(0, len(value), _PIECE)] or [b""]
        with self._talking():
            for number, piece in enumerate(pieces[1:], start=1):
                self._store.set(f"{self._place.prefix}{key}#{number}", piece)
            self._store.set(self._place.prefix + key, len(pieces).to_bytes(4, "little") + pieces[0])  # now it is there

    def look(self, key: str) -> bytes | None:
        """The value of a key; None as long as it has none."""
        with self._talking():
            if not self._store.check([self._place.prefix + key]):
                return None
            first: bytes = self._store.get(self._place.prefix + key)
            return b"".join([first[4:], *(self._store.get(name) for name in self._more(key, first))])

    def remove(self, key: str) -> None:
        """Forget a key and its value."""
        with self._talking():
            first = self._store.get(self._place.prefix + key)
            for name in (*self._more(key, first), self._place.prefix + key):
                self._store.delete_key(name)

    def add(self, key: str, number: int) -> int:
        """Raise a counter, which begins at 0, in one step; its new value."""
        with self._talking():
            return int(self._store.add(self._place.prefix + key, number))

    def _more(self, key: str, first: bytes) -> list[str]:
        return [f"{self._place.prefix}{key}#{number}" for number in range(1, int.from_bytes(first[:4], "little"))]

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # the errors of torch.distributed are some of these
            where = f"{self._place.host}:{self._place.port}"
            raise RankLost(f"the store of the job at {where} cannot be reached: rank 0 or the launcher has ended") from error


def _listen(place: Place) -> int:
    """A socket that listens at an address of this host, and there only."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if place.host != "127.0.0.1" and str(address[0]).startswith(
                "127."
            ):  # the host's own name: others know another address
                address = ("", place.port)
            listening.bind(address)
            listening.listen(2048)
            return listening.detach()
    except OSError as error:
        where = f"{place.host}:{place.port}"
        raise InputError(
            f"rank 0 cannot listen at {where} ({error.strerror or error}); set MASTER_ADDR and MASTER_PORT"
        ) from error


class Pulse(threading.Thread):
    """This rank's sign of life; ends the process when another rank asks all to end.

    Args:
        board: for this thread alone.
        launch: which rank this is.
    """

    def __init__(self, board: Board, launch: Launch) -> None:
        super().__init__(daemon=True)
        self._board, self._rank, self._over = board, launch.rank, threading.Event()
        board.add(f"alive/{launch.rank}", 1)

    def run(self) -> None:
        with contextlib.suppress(RankLost):  # whoever waits for the store finds out
            while not self._over.wait(_PULSE_S):
                self._board.add(f"alive/{self._rank}", 1)
                code = self._board.look("end")
                if code is not None:
                    os._exit(code[0] if code else 1)

    def stop(self) -> None:
        """Give no more signs."""
        self._over.set()
        self.join(5)


class Health:
    """Which of the ranks have died, as far as this one can see.

    Args:
        board: of the thread that asks.
        ranks: numbers in the whole job of the ranks to watch.
    """

    def __init__(self, board: Board, ranks: list[int]) -> None:
        self._board, self._ranks = board, ranks
        self._seen: dict[int, tuple[int, float]] = {}

    def lost(self) -> dict[int, str]:
        """Number in the whole job -> how the rank was lost, for those that are."""
        found = {}
        for rank in self._ranks:
            how = self._board.look(f"lost/{rank}")
            if how is not None:
                found[rank] = how.decode(errors="replace")
            elif self._silence(rank) > (_SILENCE_S if self._seen[rank][0] else _PATIENCE.total_seconds()):
                found[rank] = f"rank {rank} has given no sign of life for {self._silence(rank):.0f} s"
        return found

    def _silence(self, rank: int) -> float:
        """Seconds since the rank last gave a sign, as observed from here."""
        beats, now = self._board.add(f"alive/{rank}", 0), time.monotonic()
        if rank not in self._seen or self._seen[rank][0] != beats:
            self._seen[rank] = beats, now
        return now - self._seen[rank][1]
