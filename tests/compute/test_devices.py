"""What is said of a device, and why there is no GPU; what a torch with CUDA answers is put in its place."""

from __future__ import annotations

import pytest
import torch

from paraloss.compute.ranks import devices
from paraloss.compute.ranks.world import World
from paraloss.errors import InputError

CUDA13 = {"cuda": "13.0", "hip": None}


@pytest.fixture
def no_gpu(monkeypatch):
    """Put in place what torch is built for, and what happens when CUDA is started."""

    def put(version: dict, error: str = "", driver: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        for name, value in version.items():
            monkeypatch.setattr(torch.version, name, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

        def init() -> None:
            if error:
                raise RuntimeError(error)

        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(devices, "_DRIVER", devices.Path("/" if driver else "/nowhere"))

    return put


TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver by …"
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from …"


@pytest.mark.parametrize(
    ("version", "error", "driver", "expected"),
    [
        ({"cuda": None, "hip": None}, "", False, "this torch is built without CUDA"),
        ({"cuda": None, "hip": None}, "", True, "there is an NVIDIA driver: install a torch with CUDA"),
        (CUDA13, NO_DRIVER, False, "no NVIDIA driver"),
        (CUDA13, TOO_OLD, True, "driver (for CUDA 12.4) is too old for this torch, which is built for CUDA 13.0"),
        (CUDA13, "", True, "the driver shows no GPU"),
    ],
)
def test_the_reason_why_there_is_no_gpu_is_in_the_line_and_in_the_refusal(no_gpu, version, error, driver, expected):
    no_gpu(version, error, driver)
    assert expected in devices.why_no_gpu()
    assert expected in devices.describe_device(torch.device("cpu"))
    with pytest.raises(InputError, match="sees no CUDA GPU") as caught:
        devices.rank_device("cuda")
    assert expected in str(caught.value)


def test_hidden_gpus_are_said_to_be_hidden(no_gpu, monkeypatch):
    no_gpu(CUDA13)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES hides all GPUs" in devices.why_no_gpu()


class FourRanks(World):
    def on_host(self) -> tuple[int, int]:
        return self.local, 4


def test_each_rank_sets_its_own_gpu_and_more_ranks_than_gpus_are_said_once(monkeypatch, caplog):
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for local in range(4):
        world = FourRanks()
        world.local = local
        assert devices.rank_device("auto", world) == torch.device("cuda", local % 2)
    assert [device.index for device in chosen] == [0, 1, 0, 1]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("4 ranks share 2 GPUs on ")
