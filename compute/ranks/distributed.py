"""The ranks that torchrun, accelerate or srun started, as a ``World`` over the store of torch.distributed.

There is no process group: a program may have one of its own, and a rank that dies leaves no broken one behind. Values travel as
``wire`` writes them. Rank 0 of a world gathers what the others send and decides which of them are lost.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from paraloss.compute.ranks.board import Board, Health, Pulse, find_place
from paraloss.compute.ranks.ending import RankLost, Report
from paraloss.compute.ranks.queue import run_parallel
from paraloss.compute.ranks.wire import decode, encode, sendable
from paraloss.compute.ranks.world import Evaluate, Record, World
from paraloss.launch import Launch
from paraloss.stopping import shield

T = TypeVar("T")

_POLL_S, _LONGEST_POLL_S = 0.0003, 0.02
_LOOK_S = 1.0
_LEAVE_S = 10.0
_BLOCK = 16 << 20  # bytes that are sent on before all have read the ones before

sendable(Report)


class TorchWorld(World):
    """Some of the ranks of a job.

    Args:
        board: keys and values that all ranks see, for this thread.
        ranks: their numbers in the whole job, in order.
        own: this process's among them.
        name: begins the keys of these ranks; no other ranks have it.
    """

    def __init__(self, board: Board, ranks: Sequence[int], own: int, name: str) -> None:
        self._board, self._ranks, self._name = board, list(ranks), name
        self.rank, self.size = self._ranks.index(own), len(self._ranks)
        self._gone: set[int] = set()
        self._calls = self._splits = 0
        self._published: list[str] = []

    def bcast(self, value: T) -> T:
        result: T = decode(self._from_first(encode(value) if self.is_first else None))
        return result

    def allgather(self, value: T) -> list[T]:
        found = self._gather(encode(value))
        for each in found:
            if isinstance(each, Report):
                raise RankLost(each.lost)
        return [decode(each) for each in found]  # type: ignore[arg-type]

    def exchange(self, mine: Report | None) -> list[Report | None]:
        return [each if isinstance(each, Report) else decode(each) for each in self._gather(encode(mine))]

    def allreduce(self, array: np.ndarray) -> np.ndarray:
        total = np.zeros_like(array)
        for each in self.allgather(array):
            total += each
        return total

    def fill(self, buffer: np.ndarray) -> None:
        flat = buffer.reshape(-1).view(np.uint8)
        for first in range(0, len(flat), _BLOCK):
            part = flat[first : first + _BLOCK]
            data = self._from_first(part.tobytes() if self.is_first else None)
            if not self.is_first:
                part[:] = np.frombuffer(data, np.uint8)
            self.allgather(None)  # all have read it: the store forgets it

    def split(self, color: int) -> TorchWorld:
        self._splits += 1
        colors = self.allgather(color)
        ranks = [rank for rank, each in zip(self._ranks, colors, strict=True) if each == color]
        return TorchWorld(self._board, ranks, self._ranks[self.rank], f"{self._name}.{self._splits}-{color}")

    def on_host(self) -> tuple[int, int]:
        hosts = self.allgather(socket.gethostname())
        return hosts[: self.rank].count(hosts[self.rank]), hosts.count(hosts[self.rank])

    def visit(self, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None]) -> None:
        if self.size == 1:
            super().visit(todo, evaluate, record, idle)
            return
        self._calls += 1
        transport = StoreTransport(self._board, self._ranks, self.rank, self._gone, f"{self._name}/{self._calls}")
        self._gone.update(run_parallel(transport, todo, evaluate, record, idle))

    def abort(self, code: int) -> None:
        try:
            self._board.another().put("end", bytes([code & 255]))
        finally:
            os._exit(code)

    def _gather(self, mine: bytes) -> list[bytes | Report]:
        """What every rank passes, on every rank; of those that are lost a report."""
        self._calls += 1
        place = f"{self._name}/{self._calls}"
        if not self.is_first:
            self._board.put(f"{place}/{self.rank}", mine)
            together = self._wait(place, 0)
        else:
            found: list[bytes | Report] = [mine]
            for rank in range(1, self.size):
                if rank not in self._gone:
                    found.append(self._from(place, rank))
            self._board.put(place, together := encode([_wrapped(each) for each in found]))
            while self._published:  # all that take part have read what came before
                self._board.remove(self._published.pop())
            self._published.append(place)
        result: list[bytes | Report] = [each if isinstance(each, Report) else each.tobytes() for each in decode(together)]
        return result

    def _from(self, place: str, rank: int) -> bytes | Report:
        """What another rank has sent to this one, rank 0."""
        key = f"{place}/{rank}"
        try:
            data = self._wait(key, rank)
        except RankLost as lost:
            return Report(rank, lost=lost.message)
        self._board.remove(key)
        return data

    def _from_first(self, data: bytes | None) -> bytes:
        """Rank 0's bytes on every rank."""
        self._calls += 1
        place = f"{self._name}/{self._calls}"
        if data is None:
            return self._wait(place, 0)
        self._board.put(place, data)
        self._published.append(place)
        return data

    def _wait(self, key: str, rank: int) -> bytes:
        return wait_for(self._board, key, self._ranks[rank])


class StoreTransport:
    """The counter of a queue and its messages as keys of the store; see ``queue.Transport``.

    Args:
        board: for the calling thread.
        ranks: numbers in the whole job.
        rank: this process's place among them.
        gone: places of those that were lost before.
        name: begins all keys; no other queue has it.
    """

    threaded, rest_s = True, 0.01

    def __init__(self, board: Board, ranks: Sequence[int], rank: int, gone: set[int], name: str) -> None:
        self.rank, self.size = rank, len(ranks)
        self._board, self._ranks, self._name = board, list(ranks), name
        self._held: list[Any] = []
        self._sent, self._sent_at = 0, 0.0
        if rank == 0:  # received in a thread of its own
            self._inbox = board.another()
            self._seen, self._next = 0, {each: 0 for each in range(1, self.size) if each not in gone}
            self._health = Health(self._inbox, self._ranks[1:])

    def take(self, count: int) -> int:
        return self._board.add(f"{self._name}/drawn", count) - count

    def send(self, message: Any) -> None:
        self._held.append(message)
        if time.monotonic() - self._sent_at > self.rest_s:
            self.flush()

    def flush(self) -> None:
        if not self._held:
            return
        self._board.put(f"{self._name}/{self.rank}/{self._sent}", encode(self._held))
        self._board.add(f"{self._name}/sent", 1)
        self._held, self._sent, self._sent_at = [], self._sent + 1, time.monotonic()

    def settle(self) -> None:
        pass  # what is on the board has arrived

    def receive(self) -> list[tuple[int, Any]]:
        sent = self._inbox.add(f"{self._name}/sent", 0)
        if sent == self._seen:
            return []
        arrived = []
        for rank in self._next:
            while (data := self._inbox.look(key := f"{self._name}/{rank}/{self._next[rank]}")) is not None:
                self._inbox.remove(key)
                self._next[rank] += 1
                self._seen += 1
                arrived += [(rank, message) for message in decode(data)]
        return arrived

    def lost(self) -> dict[int, str]:
        numbers = {number: place for place, number in enumerate(self._ranks)}
        return {numbers[number]: how for number, how in self._health.lost().items()}

    def publish(self, value: Any) -> Any:
        if self.rank == 0:
            self._board.put(f"{self._name}/end", encode(value))
            return value
        return decode(wait_for(self._board, f"{self._name}/end", self._ranks[0]))

    def close(self) -> None:
        pass


def wait_for(board: Board, key: str, rank: int) -> bytes:
    """Wait for a key that a rank writes.

    Args:
        board: for this thread.
        key: the key.
        rank: the rank's number in the whole job.

    Raises:
        RankLost: the rank has died before.
    """
    health, rest, looked = Health(board, [rank]), _POLL_S, time.monotonic()
    while (data := board.look(key)) is None:
        if time.monotonic() - looked > _LOOK_S:
            looked = time.monotonic()
            lost = health.lost()
            if lost and (data := board.look(key)) is None:  # it may have written and died
                raise RankLost(lost[rank])
            if lost:
                break
        time.sleep(rest)
        rest = min(1.2 * rest, _LONGEST_POLL_S)
    assert data is not None
    return data


def _wrapped(part: bytes | Report) -> np.ndarray | Report:
    return part if isinstance(part, Report) else np.frombuffer(part, np.uint8)


_world: TorchWorld | None = None


def start(launch: Launch) -> TorchWorld:
    """Connect to the other ranks, once per process.

    Args:
        launch: what started this process.

    Raises:
        InputError: the environment names no place for the store, or its port is taken.
        RankLost: the store cannot be reached.
    """
    global _world
    if _world is None:
        place = find_place()
        keeps = place.kept_by_rank_0 and launch.rank == 0
        board = Board(place, keeps)
        pulse = Pulse(board.another(), launch)
        pulse.start()
        _world = TorchWorld(board, range(launch.size), launch.rank, "world")
        atexit.register(_leave, board, pulse, launch, keeps)
        shield()
    return _world


def _leave(board: Board, pulse: Pulse, launch: Launch, keeps: bool) -> None:
    """End after rank 0, which has the last word; rank 0 after the others where it keeps the store."""
    sys.stdout.flush()
    sys.stderr.flush()
    until = time.monotonic() + _LEAVE_S
    try:
        left = board.add("left", 1)
        board.put(f"lost/{launch.rank}", f"rank {launch.rank} has ended".encode())
        if launch.rank == 0:
            board.put("over", b"")
        while time.monotonic() < until and (left < launch.size if keeps else board.look("over") is None):
            time.sleep(_LONGEST_POLL_S)
            left = board.add("left", 0)
    except RankLost:
        pass
    pulse.stop()
