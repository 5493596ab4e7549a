"""A user of Hugging Face: a folder of save_pretrained as model and weights, without a network."""

import json
import os

import pytest
import torch
from judge import assert_right
from standing import on_ranks

from paraloss.compute import compute_surface, load_checkpoint, load_model
from paraloss.compute.inputs.huggingface import _offline, load_data_folder
from paraloss.errors import InputError
from paraloss.surface import read_surface


@pytest.fixture(scope="module")
def transformers():
    return _offline("transformers")


@pytest.fixture(scope="module")
def language_model(transformers):
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=20, n_positions=16, resid_pdrop=0.0)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def folder(language_model, tmp_path_factory):
    """Tied weights in several shards."""
    folder = tmp_path_factory.mktemp("pretrained")
    language_model.save_pretrained(folder, max_shard_size="4KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def loaded(folder, **arguments):
    model = load_model(f"huggingface:{folder}", (), 0, arguments)
    model.load_state_dict(load_checkpoint(folder, model=model)[0], strict=False)
    return model


def test_a_sharded_model_with_tied_weights_gives_the_same_outputs(folder, language_model):
    tokens = torch.randint(0, 20, (3, 10), generator=torch.Generator().manual_seed(1))
    model = loaded(folder)
    assert model.lm_head.weight is model.transformer.wte.weight
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens).logits, language_model(input_ids=tokens).logits)
        eager = loaded(folder, attn_implementation="eager")
        torch.testing.assert_close(eager(input_ids=tokens).logits, language_model(input_ids=tokens).logits)


def test_the_class_is_looked_up_in_transformers_own_tables(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    traps = {
        "architectures": ["Trainer"],
        "auto_map": {"AutoModelForCausalLM": "evil.Model"},
        "model_type": "evil",
    }
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    for key, value in traps.items():
        (tmp_path / "config.json").write_text(json.dumps({**config, key: value, "architectures": ["Trainer"]}))
        with pytest.raises(InputError, match="transformers has no Trainer for the model type"):
            load_model(f"huggingface:{tmp_path}", (), 0)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: cannot be read"):
        load_model(f"huggingface:{tmp_path}", (), 0)
    with pytest.raises(InputError, match=r"this folder has no config.json"):
        load_model("huggingface:nowhere", (), 0)
    with pytest.raises(InputError, match="cannot be built with"):
        load_model(f"huggingface:{folder}", (), 0, {"architecture": "GPT2LMHeadModel", "attn_implementation": "none such"})


def test_a_base_model_loads_from_the_file_of_a_model_with_a_head(folder, language_model):
    base = load_model(f"huggingface:{folder}", (), 0, {"architecture": "GPT2Model"})
    state, _ = load_checkpoint(folder, model=base)
    assert torch.equal(state["wte.weight"], language_model.transformer.wte.weight)


def test_older_names_go_through_transformers_own_conversion(transformers, tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=8, vocab_size=20, num_labels=3
    )
    source = transformers.BertForSequenceClassification(config).eval()
    source.save_pretrained(tmp_path)
    state = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
             for n, t in source.state_dict().items()}  # fmt: skip
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    model = loaded(tmp_path)
    tokens = torch.arange(6).reshape(1, 6)
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens).logits, source(input_ids=tokens).logits)


def test_nothing_asks_the_network(folder, monkeypatch):
    import socket

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert loaded(folder) is not None
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_line_between_two_folders_has_each_folders_own_loss(transformers, folder, tmp_path):
    torch.manual_seed(5)
    tokens = torch.randint(0, 20, (6, 9))

    class Logits(torch.nn.Module):
        """The logits of every place for the next one, (n, V, T)."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, tokens):
            return self.model(input_ids=tokens, use_cache=False).logits.transpose(1, 2)

    def loss(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs.double(), targets, reduction="none").mean(dim=1)

    first, second = loaded(folder), loaded(folder)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    second.save_pretrained(tmp_path / "second")
    surface = compute_surface(
        Logits(first), loss, (tokens[:, :-1], tokens[:, 1:]), x=(0.0, 1.0, 3), x_to=tmp_path / "second", precision="fp32",
        progress=False,
    )  # fmt: skip
    for x, model in ((0.0, first), (1.0, second)):
        with torch.no_grad():
            logits = model(input_ids=tokens[:, :-1]).logits.double()
        expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 20), tokens[:, 1:].reshape(-1)).item()
        assert surface.at(x)["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_folders_of_model_and_data_give_the_token_loss_of_a_plain_loop_on_two_ranks(folder, language_model, tmp_path):
    datasets = _offline("datasets")
    torch.manual_seed(3)
    tokens = torch.randint(0, 20, (12, 9))
    labels = tokens.clone()
    for row, kept in enumerate((9, 3, 5, 9, 2, 7, 9, 4, 6, 8, 9, 3)):
        labels[row, kept:] = -100
    rows = {"input_ids": tokens.tolist(), "labels": labels.tolist()}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "data"))
    done = on_ranks(
        "compute", "--weights", folder, "--model", f"huggingface:{folder}", "--data", tmp_path / "data", "--step",
        "huggingface", "--x=-0.5:0.5:3", "--y=-1:1:3", "--precision", "fp32", "--batch-size", "5", "-o", tmp_path / "s.h5",
        ranks=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    def loop(model):
        total = count = 0
        with torch.no_grad():
            for row, wanted in zip(tokens, labels, strict=True):
                logits = model(input_ids=row[None]).logits[0, :-1].double()
                for place in range(8):
                    if wanted[place + 1] != -100:
                        total -= logits[place].log_softmax(0)[wanted[place + 1]].item()
                        count += 1
        return {"train_loss": total / count}

    surface = read_surface(tmp_path / "s.h5", directions=True)
    assert_right(surface, language_model, loop)
    assert surface.provenance["checkpoint"] == folder.name


def test_a_folder_of_save_to_disk_is_read(tmp_path):
    datasets = _offline("datasets")
    rows = {"input_ids": [[1, 2, 3], [4, 5, 6]], "labels": [[1, 2, -100], [4, 5, 6]]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows), "test": datasets.Dataset.from_dict(rows)}).save_to_disk(
        str(tmp_path / "data")
    )
    found = load_data_folder(str(tmp_path / "data"))
    assert list(found) == ["train", "test"]
    assert torch.equal(found["train"][0]["labels"], torch.tensor([1, 2, -100]))
    (tmp_path / "data" / "train" / "state.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as a data set of save_to_disk"):
        load_data_folder(str(tmp_path / "data"))
