"""Checkpoint files: wrappers, prefixes, refusal to run code."""

import os
import pickle

import pytest
import torch

from paraloss.compute import apply_checkpoint, load_checkpoint, load_model
from paraloss.errors import InputError


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_load_bare_or_wrapped_with_or_without_the_prefix_in_both_formats(tmp_path, wrap, prefix, legacy):
    model = load_model("mlp", (4,), 3)
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    torch.save(wrap(state), tmp_path / "m.t7", _use_new_zipfile_serialization=not legacy)
    loaded, _ = load_checkpoint(tmp_path / "m.t7")
    fresh = load_model("mlp", (4,), 3)
    apply_checkpoint(fresh, loaded, "m.t7")
    for a, b in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(tmp_path, legacy):
    trap = Malicious()
    trap.target = str(tmp_path / "ran")
    if legacy:
        (tmp_path / "evil.t7").write_bytes(pickle.dumps(trap, protocol=2))
    else:
        torch.save({"state_dict": trap}, tmp_path / "evil.t7")
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / "evil.t7")
    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(caught.value)
    assert "refused" in str(caught.value)


def test_other_models_and_other_files_are_named(tmp_path):
    torch.save(load_model("mlp", (4,), 3).state_dict(), tmp_path / "m.pt")
    state, _ = load_checkpoint(tmp_path / "m.pt")
    with pytest.raises(InputError, match="another model: it lacks"):
        apply_checkpoint(load_model("resnet20", (1, 8, 8), 10), state, "m.pt")
    with pytest.raises(InputError, match=r"another model: '1.weight' is \(64, 4\) there, \(64, 5\)"):
        apply_checkpoint(load_model("mlp", (5,), 3), state, "m.pt")
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, told in (("none.pt", "no such"), ("text.pt", "refused|cannot be read"), ("list.pt", "no state_dict")):
        with pytest.raises(InputError, match=told):
            load_checkpoint(tmp_path / name)
