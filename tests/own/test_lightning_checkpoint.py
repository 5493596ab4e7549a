"""A user of Lightning: a .ckpt with hyperparameters, callbacks and an averaged copy beside the network's weights."""

import argparse
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import call
from judge import assert_right
from standing import on_ranks
from tabular import build, data
from torch import nn

from paraloss.surface import read_surface

OWN = Path(__file__).with_name("tabular.py")


class AttributeDict(dict):
    """Lightning's own class for hyperparameters is a dict, too; the reader does not know it."""


def trained(seed):
    model = build()
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), model[1].running_mean):
            tensor += 0.2 * torch.randn_like(tensor)
    return model


def write(path, model, averaged=None):
    """What ``Trainer.save_checkpoint`` writes."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {"criterion.weight": torch.ones(3), "train_acc.correct": torch.tensor(7)}
    if averaged is not None:
        state |= {f"ema.module.{name}": tensor for name, tensor in averaged.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    content = {
        "epoch": 3, "global_step": 12, "pytorch-lightning_version": "2.5.0", "state_dict": state,
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [], "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.3), "dirpath": Path("runs")}},
        "hyper_parameters": AttributeDict(lr=0.1, args=argparse.Namespace(width=8)),
    }  # fmt: skip
    torch.save(content, path)


def loop(model):
    inputs, targets = data()
    with torch.no_grad():
        outputs = [model(x[None]).double() for x in inputs]
    losses = [nn.functional.cross_entropy(o, t[None]).item() for o, t in zip(outputs, targets, strict=True)]
    hits = [int(o.argmax()) == int(t) for o, t in zip(outputs, targets, strict=True)]
    return {"train_loss": sum(losses) / len(losses), "train_acc": 100 * sum(hits) / len(hits)}


def compute(folder, *options, ranks=0):
    start = partial(on_ranks, ranks=ranks) if ranks else call
    return start(
        "compute", "--weights", folder / "last.ckpt", "--model", f"{OWN}:build", "--data", f"{OWN}:data",
        "--x=-0.5:0.5:3", "--y=-1:1:3", "--precision", "fp32", "-o", folder / "s.h5", *options,
    )  # fmt: skip


@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_surface_is_that_of_the_networks_own_loop(ranks, tmp_path):
    write(tmp_path / "last.ckpt", trained(1))
    done = compute(tmp_path, ranks=ranks)
    assert done.returncode == 0, done.stderr
    surface = read_surface(tmp_path / "s.h5", directions=True)
    assert_right(surface, trained(1), loop)
    assert surface.provenance["weights_key"] == "state_dict.model"


def test_an_averaged_copy_is_chosen_by_its_place_and_never_guessed(tmp_path):
    write(tmp_path / "last.ckpt", trained(1), trained(2))
    refused = compute(tmp_path)
    assert refused.returncode == 2
    assert "in 'state_dict.model', 'state_dict.ema.module'; choose with --weights-key" in refused.stderr
    assert not (tmp_path / "s.h5").exists()
    done = compute(tmp_path, "--weights-key", "state_dict.ema")
    assert done.returncode == 0, done.stderr
    assert_right(read_surface(tmp_path / "s.h5", directions=True), trained(2), loop)
