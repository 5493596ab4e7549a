"""The device of the tests in this folder, which all need a GPU: ``pytest -m gpu``.

``PARALOSS_TEST_DEVICE=cpu`` runs them on the CPU, with fakes for what only a GPU has: that shows that the tests are right.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
NAME = os.environ.get("PARALOSS_TEST_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # torch, Triton and cuDNN warn of many things
            if NAME != "cpu" and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU here"))


@pytest.fixture
def device() -> torch.device:
    return torch.device(NAME)


@pytest.fixture
def graphs(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA graphs; on a CPU the fake ones."""
    if device.type == "cpu":
        from fake_graph import FakeCudaGraphs

        FakeCudaGraphs().install(monkeypatch)
