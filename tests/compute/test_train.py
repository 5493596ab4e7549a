"""Training learns, resumes, and refuses to mix runs."""

import pytest
import torch

from paraloss.compute import load_checkpoint, load_model, train
from paraloss.errors import InputError


def fresh():
    torch.manual_seed(0)
    return load_model("mlp", (1, 8, 8), 10)


def test_an_mlp_learns_the_digits_and_keeps_a_checkpoint_an_epoch(tmp_path, digits):
    final = train(fresh(), digits, tmp_path / "run", epochs=5, progress=False)
    assert load_checkpoint(final)[1]["test_acc"] > 90
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [*(f"epoch_{k:03d}.pt" for k in range(6)), "final.pt"]


def test_an_interrupted_run_ends_where_an_undisturbed_one_does(tmp_path, digits, monkeypatch):
    whole = train(fresh(), digits, tmp_path / "a", epochs=4, progress=False)
    import paraloss.compute.training as module

    save = module._save

    def save_then_stop(path, content):
        save(path, content)
        if content["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), digits, tmp_path / "b", epochs=4, progress=False)
    monkeypatch.setattr(module, "_save", save)
    resumed = train(fresh(), digits, tmp_path / "b", epochs=4, progress=False)
    for name, tensor in load_checkpoint(whole)[0].items():
        assert torch.equal(tensor, load_checkpoint(resumed)[0][name])


def test_other_settings_in_the_same_folder_are_refused(tmp_path, digits):
    train(fresh(), digits, tmp_path, epochs=1, progress=False)
    with pytest.raises(InputError, match=r"lr is 0\.1 there, 0\.2 now"):
        train(fresh(), digits, tmp_path, epochs=1, lr=0.2, progress=False)
