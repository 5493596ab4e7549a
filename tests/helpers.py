"""What several folders' tests share: analytic surfaces, the command line as a process, virtual displays."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from paraloss.surface import DONE, Surface

BIN = Path(sys.executable).parent


def surface_of(f: Callable[[np.ndarray, np.ndarray], np.ndarray], nx: int = 3, ny: int = 5, half: float = 1.0) -> Surface:
    """The surface of a formula: train_loss = f(x, y) on [-half, half]^2."""
    x, y = np.linspace(-half, half, nx), np.linspace(-half, half, ny)
    values = np.asarray(f(*np.meshgrid(x, y)), float)
    return Surface(x=x, y=y, metrics={"train_loss": values}, status=np.full(values.shape, DONE, np.uint8))


def write_cifar_batches(folder: Path, images: int) -> np.ndarray:
    """Random images in the six published batches of CIFAR-10, ``images`` in each; returns their pixels (6, images, 3072)."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, images, 3072), dtype=np.uint8)
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        labels = [k % 10 for k in range(images)]
        (folder / name).write_bytes(pickle.dumps({b"data": pixels[i], b"labels": labels}, protocol=2))
    return pixels


def launcher(ranks: int, engine: str = "mpi") -> list[str]:
    """What goes before a program to start it on ranks: mpiexec, or torchrun without its own Python."""
    if engine == "mpi":
        return [str(BIN / "mpiexec"), "-n", str(ranks)]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "--no-python"]


def run(
    *arguments: str | Path,
    ranks: int = 0,
    engine: str = "mpi",
    cwd: Path | None = None,
    timeout: int = 300,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """``paraloss …`` as a user starts it, under mpiexec or torchrun when ``ranks`` is given."""
    command = [*(launcher(ranks, engine) if ranks else []), str(BIN / "paraloss"), *map(str, arguments)]
    variables = {**(os.environ if environment is None else environment), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, env=variables, check=False)


def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``paraloss …`` within this process: what ``run`` gives, without the seconds that a new process takes to import torch."""
    from paraloss.cli import main

    words, before, here = [str(argument) for argument in arguments], set(sys.modules), Path.cwd()
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    os.chdir(cwd or here)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            # As in a new process: the tests' own filter makes errors of warnings.
            warnings.simplefilter("default")
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.showwarning = lambda *given, **more: print(warnings.formatwarning(*given[:4]), file=sys.stderr)
            main(words)
    except SystemExit as end:
        code = end.code
    finally:
        os.chdir(here)
    for name in set(sys.modules) - before:  # a user's own module must not be there for the next call
        place = Path(getattr(sys.modules[name], "__file__", None) or "/")
        installed = place.is_relative_to(sys.prefix)  # an environment may lie in the folder that the tests run in
        if place.is_relative_to(cwd or here) and not installed and name.partition(".")[0] != "paraloss":
            del sys.modules[name]
    return subprocess.CompletedProcess(words, int(str(code or 0)), out.getvalue(), err.getvalue())


_displays = itertools.count()


def virtual_display(screen: str = "1280x1024x24") -> list[str]:
    """``xvfb-run`` with a display number that no other test takes at the same moment."""
    number = 1000 + (os.getpid() * 40 + next(_displays)) % 30_000
    return ["xvfb-run", "-a", "-n", str(number), "-s", f"-noreset -screen 0 {screen}"]


def under_display(
    command: list[str], timeout: int = 300, screen: str = "1280x1024x24", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a display and a process group of its own; nothing of it outlives the call."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    process = subprocess.Popen(
        [*virtual_display(screen), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**kept, **environment}, start_new_session=True,
    )  # fmt: skip
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def on_two_ranks(*options: str) -> tuple[str, ...]:
    """The words that start two ranks of the ``pvbatch`` on the PATH, with the MPI that lies beside it."""
    mpirun = Path(shutil.which("pvbatch") or "/usr/bin/pvbatch").with_name("mpirun")
    patient = ("--mca", "mpi_yield_when_idle", "1")  # a rank that waits leaves its core to others
    return (str(mpirun), "--allow-run-as-root", "--oversubscribe", *patient, "-n", "2", *options, "pvbatch")


def needs_paraview() -> None:
    """In CI ParaView must be there; on a developer's own machine the test skips."""
    if shutil.which("pvpython") and shutil.which("xvfb-run"):
        return
    if os.environ.get("CI"):
        pytest.fail("ParaView (pvpython) and xvfb-run must be installed in CI")
    pytest.skip("ParaView is not installed here")


def loss_of_a_sample(name, directions, steps, split):
    """Mean cross-entropy of a sample network moved by (x, y) along two directions, by a plain pass over a split."""
    import torch

    from paraloss import examples
    from paraloss.compute import load_checkpoint, load_model

    state, record = load_checkpoint(examples.checkpoint(name))
    model = load_model(record["model"], tuple(record["sample_shape"]), record["classes"])
    moved = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    for axis, step in zip("xy", steps, strict=True):
        for key, tensor in directions[axis].items():
            moved[key] = moved[key] + float(step) * torch.as_tensor(tensor, dtype=torch.float32)
    model.load_state_dict(moved)
    model.eval()
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(model(split.normalize(split.inputs)).double(), split.targets))


def with_statistics(model, inputs):
    """The model in evaluation mode, with batch-norm statistics of real activations, and scales that are not 1."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
        model.train()(inputs)
    return model.eval()
