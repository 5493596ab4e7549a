"""Checkpoints in the forms in which people save them: prefixes, wrappers, extras, ties, objects, safetensors, DCP folders."""

import argparse
import json
import os
import pickle
import tarfile
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paraloss.compute import apply_checkpoint, load_checkpoint
from paraloss.errors import InputError


class Net(nn.Module):
    """A convolution with batch norm, and a head that is tied to an embedding."""

    def __init__(self, tied=False):
        super().__init__()
        self.conv, self.bn = nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)
        self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def network(seed=0, **options):
    torch.manual_seed(seed)
    model = Net(**options)
    model.bn.running_mean.normal_()
    return model


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def loads_into(path, source, target=None, key=None):
    """Whether the file at ``path`` gives ``target`` every number of ``source``."""
    target = target or network(seed=9)
    state, _ = load_checkpoint(path, model=target, weights_key=key)
    target.load_state_dict(state, strict=False)
    pairs = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


SGD = {"state": {0: {"momentum_buffer": torch.zeros(3, 2, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
FORMS = {
    "bare": lambda s: s,
    "data parallel": lambda s: prefixed("module.", s),
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled in data parallel": lambda s: prefixed("module._orig_mod.", s),
    "a part is compiled": lambda s: {n.replace("conv.", "conv._orig_mod."): t for n, t in s.items()},
    "lightning": lambda s: {
        "epoch": 3, "state_dict": {**prefixed("model.", s), "criterion.weight": torch.ones(7)}, "optimizer_states": [SGD],
        "hyper_parameters": {"root": Path("runs"), "args": argparse.Namespace(lr=0.1)}, "callbacks": {"best": torch.zeros(())},
    },
    "net": lambda s: {"net": s, "acc": 93.1, "epoch": 3},
    "params": lambda s: {"params": prefixed("net.", s), "opt": SGD},
    "model_state": lambda s: {"model_state": s, "optimizer_state": SGD},
    "state.model": lambda s: {"state": {"model": s, "rng": torch.get_rng_state()}},
    "in a list": lambda s: {"models": [s]},
    "averaged": lambda s: {**prefixed("module.", s), "n_averaged": torch.tensor(7)},
    "profiled": lambda s: {**s, "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1, dtype=torch.float64)},
    "masks": lambda s: {**s, "h.0.attn.masked_bias": torch.tensor(-1e4), "h.0.attn.bias": torch.ones(1, 1, 4, 4).tril()},
    "no counters": lambda s: {n: t for n, t in s.items() if "num_batches" not in n},
    "numpy beside": lambda s: {
        "model": s, "best": np.float64(0.5), "curve": np.arange(4.0), "where": Path("x"), "args": argparse.Namespace(a=1),
    },
    "numpy in the same dict": lambda s: {**s, "mean": np.ones(3), "best": np.float32(2)},
    "all numpy": lambda s: {"state_dict": {n: t.numpy() for n, t in s.items()}},
    "a dict of its own class": lambda s: {"history": defaultdict(list, a=[1, 2]), "weights": s},
    "the same twice": lambda s: {"model": s, "best_model": s},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_weights(form, tmp_path):
    source = network()
    torch.save(FORMS[form](source.state_dict()), tmp_path / "m.pt")
    assert loads_into(tmp_path / "m.pt", source)


@pytest.mark.parametrize("protocol", [1, 2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_pickle_protocol_and_both_formats_are_read(protocol, zipped, tmp_path):
    source = network()
    content = FORMS["numpy beside"](source.state_dict())
    torch.save(content, tmp_path / "m.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert loads_into(tmp_path / "m.pt", source)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_gives_its_weights_without_its_class(zipped, tmp_path):
    source = network()
    torch.save({"model": nn.DataParallel(source)}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    assert loads_into(tmp_path / "m.pt", source)
    torch.save(source, tmp_path / "bare.pt", _use_new_zipfile_serialization=zipped)
    assert loads_into(tmp_path / "bare.pt", source)


def test_a_model_with_an_attribute_called_module_loads_its_own_file(tmp_path):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(3, 2)

    source = Holder()
    for form in (lambda s: s, lambda s: prefixed("module.", s), lambda s: {"model": s}):
        torch.save(form(source.state_dict()), tmp_path / "m.pt")
        assert loads_into(tmp_path / "m.pt", source, Holder())


def test_a_wrapped_model_loads_a_plain_file(tmp_path):
    source = network()
    torch.save(source.state_dict(), tmp_path / "m.pt")
    for wrap in (nn.DataParallel, torch.compile):
        target = network(seed=9)
        wrapped = wrap(target)
        wrapped.load_state_dict(load_checkpoint(tmp_path / "m.pt", model=wrapped)[0])
        assert torch.equal(target.conv.weight, source.conv.weight)


def test_a_model_that_wraps_another_loads_the_others_file_but_no_part_of_a_larger_one(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.model = inner

    source = network()
    for form in (lambda s: s, lambda s: {"state_dict": prefixed("module.", s)}):
        torch.save(form(source.state_dict()), tmp_path / "m.pt")
        assert loads_into(tmp_path / "m.pt", source, Wrapper(network(9)))
    head = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2)}
    torch.save({**prefixed("body.", source.state_dict()), **head}, tmp_path / "m.pt")
    with pytest.raises(InputError, match="another model"):
        load_checkpoint(tmp_path / "m.pt", model=Wrapper(nn.Linear(3, 2)))


def test_tied_weights_may_lack_one_of_their_names_but_not_differ(tmp_path):
    source = network(tied=True)
    state = source.state_dict()
    for missing in ("head.weight", "embed.weight"):
        torch.save({n: t for n, t in state.items() if n != missing}, tmp_path / "m.pt")
        assert loads_into(tmp_path / "m.pt", source, network(9, tied=True))
    torch.save({**state, "head.weight": torch.ones(5, 4)}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"'embed.weight' and 'head.weight' are one tensor in the model, but differ"):
        load_checkpoint(tmp_path / "m.pt", model=network(9, tied=True))
    torch.save({n: t for n, t in state.items() if n != "head.weight"}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"it lacks head.weight"):
        load_checkpoint(tmp_path / "m.pt", model=network())


def test_two_sets_of_weights_are_named_and_one_is_chosen(tmp_path):
    first, second = network(1), network(2)
    torch.save({"model": first.state_dict(), "ema": {"module": second.state_dict()}}, tmp_path / "m.pt")
    with pytest.raises(
        InputError, match=r"different weights that fit the model, in 'model', 'ema.module'; choose with"
    ) as caught:
        load_checkpoint(tmp_path / "m.pt", model=network())
    assert "\n" not in str(caught.value)
    assert loads_into(tmp_path / "m.pt", first, key="model")
    for key in ("ema", "ema.module"):
        assert loads_into(tmp_path / "m.pt", second, key=key)
    with pytest.raises(InputError, match="no weights under 'emma'; it has 'model', 'ema'"):
        load_checkpoint(tmp_path / "m.pt", model=network(), weights_key="emma")
    with pytest.raises(InputError, match=r"several sets of weights, 'model', 'ema.module'"):
        load_checkpoint(tmp_path / "m.pt")


def test_a_student_and_its_teacher_in_one_state_dict_are_not_guessed_between(tmp_path):
    first, second = network(1), network(2)
    state = {**prefixed("student.", first.state_dict()), **prefixed("teacher.", second.state_dict())}
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(InputError, match="in 'student', 'teacher'"):
        load_checkpoint(tmp_path / "m.pt", model=network())
    assert loads_into(tmp_path / "m.pt", second, key="teacher")


def test_weights_of_another_model_are_not_taken_for_extras(tmp_path):
    source = network()
    for extra in ({"conv2.weight": torch.ones(3)}, {"h.attn.bias": torch.full((2, 2), 0.5)}):
        torch.save(prefixed("module.", {**source.state_dict(), **extra}), tmp_path / "m.pt")
        with pytest.raises(InputError, match=f"another model: it has {next(iter(extra))} too many"):
            load_checkpoint(tmp_path / "m.pt", model=network())
    torch.save({"model": {**source.state_dict(), "conv.weight": torch.ones(3, 2, 5)}}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"another model: 'conv.weight' is \(3, 2, 5\) there, \(3, 2, 3\)"):
        load_checkpoint(tmp_path / "m.pt", model=network())


def test_a_modules_extra_state_comes_from_the_file(tmp_path):
    class Scaled(nn.Module):
        def __init__(self, scale=1.0):
            super().__init__()
            self.layer, self.scale = nn.Linear(2, 2), scale

        def get_extra_state(self):
            return {"scale": self.scale}

        def set_extra_state(self, state):
            self.scale = state["scale"]

    source, target = Scaled(3.0), Scaled()
    torch.save({"model": prefixed("module.", source.state_dict())}, tmp_path / "m.pt")
    target.load_state_dict(load_checkpoint(tmp_path / "m.pt", model=target)[0])
    assert target.scale == 3.0
    torch.save({n: t for n, t in source.state_dict().items() if "extra" not in n}, tmp_path / "m.pt")
    with pytest.raises(InputError, match="lacks '_extra_state'"):
        load_checkpoint(tmp_path / "m.pt", model=target)


def test_weight_norm_of_the_old_kind_loads_through_the_models_own_hooks(tmp_path):
    with pytest.warns(FutureWarning):
        old = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 2)))
    new = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    torch.save({"state_dict": old.state_dict()}, tmp_path / "m.pt")
    state, _ = load_checkpoint(tmp_path / "m.pt", model=new)
    apply_checkpoint(new, state, "m.pt")
    torch.testing.assert_close(new(torch.ones(1, 3)), old(torch.ones(1, 3)))


class Trap:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [1, 2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_pickle_runs_whatever_lies_beside_it(protocol, zipped, tmp_path):
    ran = tmp_path / "ran"
    for call in (
        (os.mkdir, str(ran)),
        (exec, f"open({str(ran)!r}, 'w')"),
        (pickle.loads, pickle.dumps(Trap(os.mkdir, str(ran)))),
    ):
        content = {"model": network().state_dict(), "args": argparse.Namespace(a=1), "trap": Trap(*call)}
        torch.save(content, tmp_path / "m.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        if call[0] is pickle.loads:  # a stand-in takes its place, which is not called
            load_checkpoint(tmp_path / "m.pt", model=network())
        else:
            with pytest.raises(InputError, match="refused"):
                load_checkpoint(tmp_path / "m.pt", model=network())
        assert not ran.exists()


def test_a_pickle_changes_no_class_and_imports_no_module(tmp_path):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    # GLOBAL torch.Size, then BUILD with the state (None, {"planted": 1}): pickle would set an attribute of the class.
    planted = b"\x80\x02ctorch\nSize\nN}X\x07\x00\x00\x00plantedK\x01s\x86b."
    unknown = b"\x80\x02cevil_module\nf\n)R."
    for data in (planted, unknown):
        (tmp_path / "m.pt").write_bytes(data)
        with pytest.raises(InputError):
            load_checkpoint(tmp_path / "m.pt")
    assert not hasattr(torch.Size, "planted")


def test_scripted_models_and_tar_files_are_refused_by_name(tmp_path):
    with torch.jit.optimized_execution(False):
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "s.pt")
    with pytest.raises(InputError, match="is a scripted model"):
        load_checkpoint(tmp_path / "s.pt")
    with tarfile.open(tmp_path / "t.pt", "w") as tar:
        tar.add(__file__, "storages")
    with pytest.raises(InputError, match=r"t.pt: .*(refused|cannot be read)"):
        load_checkpoint(tmp_path / "t.pt")


def test_safetensors_shards_and_folders_are_read_without_the_package(tmp_path):
    from safetensors.torch import save_file

    source = network()
    state = {**source.state_dict(), "extra.position_ids": torch.arange(3)}
    save_file(state, tmp_path / "one.safetensors")
    assert loads_into(tmp_path / "one.safetensors", source)
    names = list(state)
    folder = tmp_path / "pretrained"
    folder.mkdir()
    save_file({n: state[n] for n in names[:3]}, folder / "model-00001-of-00002.safetensors")
    save_file({n: state[n] for n in names[3:]}, folder / "model-00002-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    weight_map = {n: f"model-0000{1 + (k >= 3)}-of-00002.safetensors" for k, n in enumerate(names)}
    index.write_text(json.dumps({"weight_map": weight_map}))
    for path in (folder, index):
        assert loads_into(path, source)
    index.write_text(json.dumps({"weight_map": {**weight_map, names[0]: "../one.safetensors"}}))
    with pytest.raises(InputError, match=r"names '../one.safetensors', which is not beside it"):
        load_checkpoint(folder, model=network())


def test_safetensors_of_every_type_and_damaged_ones(tmp_path):
    from safetensors.torch import save_file

    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in (torch.float64, torch.bfloat16, torch.int32)}
    tensors |= {"none": torch.zeros(0, 3), "scalar": torch.tensor(2.5), "yes": torch.tensor([True, False])}
    path = tmp_path / "m.safetensors"
    save_file(tensors, path)
    for mapped in (False, True):
        for name, tensor in load_checkpoint(path, mapped)[0].items():
            assert torch.equal(tensor, tensors[name])
    data = path.read_bytes()
    for damaged in (
        data[:-3],
        data[:20],
        b"",
        b"\xff" * 16,
        data.replace(b'"F64"', b'"F63"'),
        data.replace(b"[2,3]", b"[9,3]"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"m.safetensors: cannot be read as safetensors"):
            load_checkpoint(path)


def test_a_folder_of_distributed_checkpoints_is_read_without_unpickling_its_metadata(tmp_path):
    import torch.distributed.checkpoint as dcp

    source = network()
    content = {"app": {"model": source.state_dict(), "optimizer": {"lr": 0.1, "m": torch.ones(3)}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process only
        dcp.save(content, checkpoint_id=tmp_path / "dcp", no_dist=True)
    assert loads_into(tmp_path / "dcp", source)
    metadata = tmp_path / "dcp" / ".metadata"
    kept = metadata.read_bytes()
    metadata.write_bytes(pickle.dumps(Trap(os.mkdir, str(tmp_path / "ran"))))
    with pytest.raises(InputError, match="refused"):
        load_checkpoint(tmp_path / "dcp", model=network())
    assert not (tmp_path / "ran").exists()
    metadata.write_bytes(kept)
    for file in (tmp_path / "dcp").glob("*.distcp"):
        file.rename(tmp_path / file.name)
    with pytest.raises(InputError, match="is not beside it"):
        load_checkpoint(tmp_path / "dcp", model=network())


def test_info_names_every_set_of_weights(tmp_path, capsys):
    from paraloss.cli.info import info

    torch.save(
        {"model": network().state_dict(), "ema": {"module": network(2).state_dict()}, "optimizer": SGD}, tmp_path / "m.pt"
    )
    info(tmp_path / "m.pt")
    printed = capsys.readouterr().out
    parameters = sum(p.numel() for p in network().parameters())
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("weights")] == ["model", "ema.module"]
    assert printed.count(f"{parameters:,}\n") == 2
    (tmp_path / "m.pt").rename(tmp_path / "epoch.ckpt")
    info(tmp_path)
    assert capsys.readouterr().out == printed


def test_a_folder_with_several_files_is_not_guessed_in(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch.save(network().state_dict(), tmp_path / name)
    with pytest.raises(InputError, match=r"holds a.pt, b.pt; name one of them"):
        load_checkpoint(tmp_path)
    (tmp_path / "b.pt").unlink()
    assert loads_into(tmp_path, network())
