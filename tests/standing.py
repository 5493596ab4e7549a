"""Processes that stand ready, so that a test of what ranks compute need not wait for each of them to import torch.

``on_ranks`` gives a command to ranks that one mpiexec or torchrun started: the same ``paraloss.cli.main`` over the same engine
as under a launcher of its own, in a process that has done other commands before. Whatever is about the processes themselves
(their start, their end, signals, memory) belongs under ``helpers.run``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from helpers import call, launcher

_START = 240.0  # seconds that the ranks may take to import torch on a busy machine
_standing: dict[tuple[int, str], Ranks] = {}


def on_ranks(
    *arguments: str | Path, ranks: int = 2, engine: str = "mpi", cwd: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """``paraloss …`` on ranks that stand ready; standard output and error of all ranks, in their order."""
    kind = ranks, engine
    if kind not in _standing or not _standing[kind].alive:
        _standing[kind] = Ranks(ranks, engine)
    return _standing[kind].call([str(argument) for argument in arguments], str(cwd or Path.cwd()), timeout)


def dismiss() -> None:
    """End all that stand ready; each worker of the tests calls this last."""
    while _standing:
        _standing.popitem()[1].end()


class Ranks:
    """``number`` processes under one launcher, each of which waits for commands at a socket."""

    def __init__(self, number: int, engine: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ranks"))
        self._log = self._folder / "log"
        with ExitStack() as stack:
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(str(self._folder / "s"))
            server.listen(number)
            server.settimeout(1)
            log = stack.enter_context(self._log.open("w"))  # a pipe that nobody reads would fill
            self._process = subprocess.Popen(
                [*launcher(number, engine), sys.executable, __file__, str(self._folder / "s")],
                stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            found: dict[int, tuple[socket.socket, TextIO]] = {}
            until = time.monotonic() + _START
            while len(found) < number:
                with contextlib.suppress(TimeoutError):
                    connection = server.accept()[0]
                    stream = connection.makefile()
                    found[int(stream.readline())] = connection, stream
                if self._process.poll() is not None or time.monotonic() > until:
                    said = self._log.read_text()
                    self.end()
                    raise AssertionError(f"{number} ranks of {engine} did not start: {said}")
        self._connections = [found[rank] for rank in range(number)]

    @property
    def alive(self) -> bool:
        """Whether another command can be given."""
        return self._process.poll() is None

    def call(self, arguments: list[str], cwd: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a command; where it ends the ranks themselves, what the launcher made of that."""
        for connection, _ in self._connections:
            connection.settimeout(timeout)
            connection.sendall(json.dumps({"arguments": arguments, "cwd": cwd}).encode() + b"\n")
        try:
            answers = [stream.readline() for _, stream in self._connections]
        except TimeoutError:
            self.end()
            raise subprocess.TimeoutExpired(arguments, timeout) from None
        if not all(answers):
            code = self._process.wait(timeout=60)
            return subprocess.CompletedProcess(arguments, code, "", self._log.read_text())
        found = [json.loads(answer) for answer in answers]
        codes = [each["code"] for each in found]
        return subprocess.CompletedProcess(
            arguments, max(codes), "".join(each["out"] for each in found), "".join(each["err"] for each in found)
        )

    def end(self) -> None:
        """Let the ranks go; they end where their socket does."""
        for connection, stream in getattr(self, "_connections", []):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            stream.close()
            connection.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.terminate()  # the launcher ends its ranks
            self._process.wait(timeout=60)
        shutil.rmtree(self._folder, ignore_errors=True)


def serve(place: str) -> None:
    """One rank: do what comes through the socket until it closes."""
    from paraloss.launch import launched

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        connection.sendall(b"%d\n" % launched().rank)
        for line in connection.makefile():
            command = json.loads(line)
            done = call(*command["arguments"], cwd=Path(command["cwd"]))
            answer = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
            connection.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    serve(sys.argv[1])
