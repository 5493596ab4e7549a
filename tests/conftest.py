"""What several rooms' tests share: small real networks, analytic surfaces, the command line as a process."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paraloss.compute import load_data, load_model, train
from paraloss.surface import DONE, Surface

BIN = Path(sys.executable).parent
torch.set_num_threads(1)  # the tests run in two processes on two cores


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-baselines", action="store_true", help="keep this run's pictures as those to compare with")


def surface_of(f: Callable[[np.ndarray, np.ndarray], np.ndarray], nx: int = 3, ny: int = 5, half: float = 1.0) -> Surface:
    """The surface of a formula: train_loss = f(x, y) on [-half, half]^2."""
    x, y = np.linspace(-half, half, nx), np.linspace(-half, half, ny)
    values = np.asarray(f(*np.meshgrid(x, y)), float)
    return Surface(x=x, y=y, metrics={"train_loss": values}, status=np.full(values.shape, DONE, np.uint8))


def run(
    *arguments: str | Path, ranks: int = 0, cwd: Path | None = None, timeout: int = 300
) -> subprocess.CompletedProcess[str]:
    """``paraloss …`` as a user starts it, under mpiexec when ``ranks`` is given."""
    launcher = [str(BIN / "mpiexec"), "-n", str(ranks)] if ranks else []
    command = [*launcher, str(BIN / "paraloss"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment, check=False)


@pytest.fixture(scope="session")
def digits() -> dict:
    return load_data("digits")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: dict) -> Path:
    """Folder of a real run: a ResNet-20 that has learned the digits for two epochs."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = load_model("resnet20", (1, 8, 8), 10)
    record = {"model": "resnet20", "model_args": {}, "data": "digits", "data_args": {}, "classes": 10}
    train(model, digits, folder, epochs=2, lr=0.05, record=record, progress=False)
    return folder


@pytest.fixture
def small_net() -> nn.Module:
    """Convolutions, batch norm with statistics that are not the initial ones, and a linear layer."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 10),
    )
    with torch.no_grad():
        for module in net:
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    return net.eval()


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


def needs_paraview() -> None:
    """In CI ParaView must be there; on a developer's own machine the test skips."""
    if shutil.which("pvpython") and shutil.which("xvfb-run"):
        return
    if os.environ.get("CI"):
        pytest.fail("ParaView (pvpython) and xvfb-run must be installed in CI")
    pytest.skip("ParaView is not installed here")
