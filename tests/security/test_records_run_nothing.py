"""What a checkpoint's record names is looked up among the built-in names; nothing of it is imported, called or opened."""

import itertools

import pytest
import torch
from helpers import call

from paraloss.compute import load_model

GOOD = {"model": "mlp", "model_args": {}, "data": "digits", "data_args": {}, "loss": "cross_entropy", "classes": 10}
COMMAND = ["--x=-1:1:3", "--samples", "8"]
VERBS = {
    "compute": ["compute", "--weights", "c.pt", *COMMAND[:1], "--y=-1:1:3", *COMMAND[1:], "-o", "out.h5"],
    "hessian": ["hessian", "--weights", "c.pt", "--samples", "8", "--top", "1", "-o", "out.h5"],
    "project": ["project", "a.pt", "b.pt", "c.pt", "--samples", "8", "--points", "3", "-o", "out.h5"],
}
TRAPS = {
    "model": {"model": "os:system", "model_args": {"command": "touch ran"}},
    "model_file": {"model": "evil.py:build"},
    "model_options": {"model": "timm:resnet18", "model_args": {"checkpoint_path": "evil.pt"}},
    "data": {"data": "os:system", "data_args": {"command": "touch ran"}},
    "data_file": {"data": "evil.py:build"},
    "data_path": {"data": "npz:/dev/zero"},
    "loss": {"loss": "evil:build"},
    "loss_file": {"loss": "evil.py:build"},
    "no_text": {"model": ["os", "system"]},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "evil.py").write_text("from pathlib import Path\n\nPath('ran').touch()\n\ndef build(*a, **k): ...\n")
    return tmp_path


def write(folder, record):
    torch.manual_seed(0)
    for name in "abc":
        torch.save({"state_dict": load_model("mlp", (1, 8, 8), 10).state_dict(), "paraloss": record}, folder / f"{name}.pt")


@pytest.mark.parametrize(("verb", "trap"), list(itertools.product(VERBS, TRAPS)))
def test_a_record_that_names_code_or_a_path_is_refused_in_one_line(folder, verb, trap):
    write(folder, {**GOOD, **TRAPS[trap]})
    done = call(*VERBS[verb], cwd=folder)
    assert done.returncode == 2, done.stderr
    assert not (folder / "ran").exists()
    assert not (folder / "out.h5").exists()
    last = done.stderr.strip().splitlines()[-1]
    assert "c.pt: records " in last
    assert "yourself with --" in last


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_record_with_built_in_names_is_used(folder, verb):
    write(folder, GOOD)
    done = call(*VERBS[verb], cwd=folder)
    assert done.returncode == 0, done.stderr


def test_the_same_names_on_the_command_line_are_the_users_own(folder):
    write(folder, {**GOOD, "model": "evil.py:build"})
    (folder / "mine.py").write_text(
        "from paraloss.compute import load_model\n\ndef build(): return load_model('mlp', (1, 8, 8), 10)\n"
    )
    done = call(*VERBS["compute"], "--model", "mine.py:build", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("key", ["model", "data"])
def test_what_is_neither_named_nor_recorded_is_asked_for(folder, key):
    write(folder, {name: value for name, value in GOOD.items() if name != key})
    done = call(*VERBS["compute"], cwd=folder)
    assert done.returncode == 2
    assert f"does not record its {key}; name it with --{key}" in done.stderr
