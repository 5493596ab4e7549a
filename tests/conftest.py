"""Fixtures that several folders' tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import CHROMIUM
from standing import dismiss
from torch import nn

import paraloss.compute.evaluate.fast_type as fast_type
import paraloss.compute.number_types as number_types
from paraloss.compute import load_data, load_model, train

torch.set_num_threads(1)  # the tests run in two processes on two cores


# Files of half a minute and more, the longest first: begun last, one of them would keep one of two workers busy alone.
LONG = (
    "docs/test_code_blocks.py",
    "first_hour/test_first_hour.py",
    "paraview_plugin/test_plugin.py",
    "cli/test_main_road.py",
    "compute/test_mpi.py",
    "compute/test_precision.py",
    "faults/test_odd_surfaces.py",
    "faults/test_stopping.py",
    "paraview_plugin/test_ranks.py",
    "compute/test_claims.py",
    "faults/test_faults.py",
    "faults/test_kills.py",
    "faults/test_ranks_fail.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-baselines", action="store_true", help="keep this run's pictures as those to compare with")


@pytest.fixture(scope="session", autouse=True)
def nobody_stays() -> Iterator[None]:
    """Ranks that stood ready for the tests of a session end with it."""
    yield
    dismiss()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium must be installed in CI")
        pytest.skip("no Chromium here")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


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
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that takes bf16 for faster than fp32, whatever it is."""
    monkeypatch.setattr(fast_type, "faster_precisions", lambda device: ["bf16"])
    monkeypatch.setattr(number_types, "faster_precisions", lambda device: ["bf16"])
    monkeypatch.setattr(fast_type, "WORTH", 0.0)


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
