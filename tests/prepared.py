"""Commands in processes that need not import torch first: each is forked from one that has.

``Prepared`` is a process that has imported what the verbs need. Each command runs in a child of it, with the caller's
folder, environment and open files: a process of its own, as a shell starts it, less the seconds of the imports. ``folder``
holds a ``paraloss`` for PATH that asks for such a child; under mpiexec it starts the real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from helpers import BIN

_START = 240.0  # seconds that the imports may take on a busy machine
_CLIENT = """
import array, json, os, socket, sys
if "PMI_RANK" in os.environ:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    server.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    words = dict(arguments=sys.argv[1:], cwd=os.getcwd(), environment=dict(os.environ))
    server.sendall(json.dumps(words).encode() + b"\\n")
    sys.exit(int(server.makefile().readline() or 1))
"""


class Prepared:
    """A process that forks a child for each command; a context manager that ends it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="prepared"))
        place = str(self.folder / "s")
        (self.folder / "client.py").write_text(_CLIENT.format(real=str(BIN / "paraloss"), place=place))
        script = self.folder / "paraloss"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{self.folder}/client.py" "$@"\n')
        script.chmod(0o755)
        self._process = subprocess.Popen([sys.executable, __file__, place], env={**os.environ, "OMP_NUM_THREADS": "1"})
        until = time.monotonic() + _START
        while not (self.folder / "s").exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError("the prepared process did not start")
            time.sleep(0.05)

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def python(self, code: str, cwd: Path, environment: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
        """``python -c code`` in a child."""
        command = [sys.executable, "-IS", str(self.folder / "client.py"), "-c", code]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=timeout)


def serve(place: str) -> None:
    """Import, then fork a child per connection until terminated."""
    import pyvista  # noqa: F401
    import sklearn.datasets  # noqa: F401

    import paraloss.cli
    import paraloss.compute.api
    import paraloss.compute.trajectory
    import paraloss.rendering  # noqa: F401

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}.new")
        server.listen(8)
        Path(f"{place}.new").rename(place)  # whoever sees it may connect
        server.settimeout(5)
        parent = os.getppid()
        while os.getppid() == parent:  # nobody is left behind by tests that were killed
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                server.close()
                os._exit(_answer(connection))
            connection.close()


def _answer(connection: socket.socket) -> int:
    """Run one command in a child of this process, and send its exit code."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    command = json.loads(connection.makefile().readline())
    child = os.fork()
    if child == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os._exit(_work(**command))
    for file in files:
        os.close(file)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
    return 0


def _work(arguments: Sequence[str], cwd: str, environment: Mapping[str, str]) -> int:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, "" if arguments[:1] == ["-c"] else str(BIN))
    for entry in reversed(environment.get("PYTHONPATH", "").split(os.pathsep)):
        if entry and entry not in sys.path:
            sys.path.insert(1, entry)
            if Path(entry, "sitecustomize.py").exists():
                runpy.run_path(str(Path(entry, "sitecustomize.py")))
    code: Any = 0
    try:
        if arguments[:1] == ["-c"]:
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            from paraloss.cli import main

            sys.argv = [str(BIN / "paraloss"), *arguments]
            main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    serve(sys.argv[1])
