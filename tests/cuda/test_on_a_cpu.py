"""The files ``case_*.py`` of this folder, each in a process of its own: torch is changed there, see ``fake_cuda``.

``case_points`` evaluator by evaluator, ``case_backward`` what takes gradients, ``case_jobs`` whole jobs; ``case_faults`` puts
faults back, one at a time, and holds the list of which test fails with each.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
FAST = ("case_points",)
FILES = [
    pytest.param(path, id=path.stem, marks=[] if path.stem in FAST else [pytest.mark.slow])
    for path in sorted(HERE.glob("case_*.py"))
]


@pytest.mark.skipif(torch.version.cuda is not None, reason="fakes are for a torch without CUDA; with one, see tests/gpu")
@pytest.mark.parametrize("file", FILES)
def test_what_runs_on_a_gpu_is_right_on_one_that_is_not_there(file):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-W", "ignore", str(file)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
