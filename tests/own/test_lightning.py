"""A checkpoint as Lightning saves it: the weights under ``state_dict``, each name behind ``model.``, and much beside them."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of
from torch import nn

from paraloss.compute import load_checkpoint
from paraloss.surface import read_surface


def build():
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3))


def trained():
    torch.manual_seed(0)
    model = build()
    model(torch.randn(50, 6))
    return model.eval()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 6, generator=generator), torch.randint(0, 3, (40,), generator=generator)


def loop(model):
    inputs, targets = data()
    return {"train_loss": F.cross_entropy(model(inputs), targets).item()}


@pytest.fixture
def checkpoint(tmp_path):
    content = {
        "epoch": 3, "global_step": 120, "pytorch-lightning_version": "2.4.0", "hparams_name": "kwargs",
        "state_dict": {f"model.{name}": tensor for name, tensor in trained().state_dict().items()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(9, 6)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "lr_schedulers": [], "hyper_parameters": {"width": 9},
    }  # fmt: skip
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_the_weights_are_found_in_it(checkpoint):
    model = build()
    state, _ = load_checkpoint(checkpoint, model=model)
    model.load_state_dict(state)
    assert_right(surface_of(model, "cross_entropy", data()), trained(), loop)


@pytest.mark.slow
def test_lightnings_checkpoint_on_two_ranks(checkpoint, tmp_path):
    from standing import on_ranks  # not where the command line loads this file

    done = on_ranks(
        "compute", "--weights", checkpoint, "--model", f"{__file__}:build", "--data", f"{__file__}:data", "--x=-0.5:0.5:3",
        "--y=-1:1:3", "--precision=fp32", "-o", tmp_path / "s.h5", ranks=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_right(read_surface(tmp_path / "s.h5", directions=True), trained(), loop)
