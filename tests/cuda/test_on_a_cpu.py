"""The files ``case_*.py`` of this folder, in a process of its own: torch is changed there, see ``fake_cuda``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


@pytest.mark.skipif(torch.version.cuda is not None, reason="fakes are for a torch without CUDA; with one, see tests/gpu")
def test_what_runs_on_a_gpu_is_right_on_one_that_is_not_there():
    files = sorted(map(str, HERE.glob("case_*.py")))
    assert files
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-W", "ignore", *files]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
