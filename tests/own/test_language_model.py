"""A causal language model of Hugging Face: tied weights, padding, a sharded folder, the loss per token that counts."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of
from torch.utils.data import DataLoader

from paraloss.compute.inputs.huggingface import _offline
from paraloss.errors import InputError
from paraloss.surface import read_surface


def build():
    transformers = _offline("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=23, n_positions=16, n_embd=24, n_layer=2, n_head=2, initializer_range=0.3, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).eval()


def sentences():
    """Lists of tokens, of 3 to 12."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 13, (26,), generator=generator).tolist()
    return [torch.randint(1, 23, (length,), generator=generator).tolist() for length in lengths]


def collate(texts):
    """Padded with token 0; labels of the padding are as they come: the mask says what counts."""
    width = max(len(text) for text in texts)
    tokens = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.clone()}


def data():
    return DataLoader(sentences(), batch_size=7, collate_fn=collate)


def masked_data():
    """The usual way: labels of -100 where there is padding."""
    batches = list(data())
    for batch in batches:
        batch["labels"][batch["attention_mask"] == 0] = -100
    return batches


def loop(model):
    """Sentence by sentence, so that there is no padding; over all predicted tokens."""
    total, count = 0.0, 0
    for text in sentences():
        tokens = torch.tensor([text])
        logits = model(input_ids=tokens).logits[0, :-1]
        total += F.cross_entropy(logits, tokens[0, 1:], reduction="sum").item()
        count += len(text) - 1
    return {"train_loss": total / count}


@pytest.mark.parametrize("batches", [data, masked_data])
def test_the_loss_is_per_token_whatever_the_padding(batches):
    model = build()
    assert model.lm_head.weight is model.transformer.wte.weight
    assert_right(surface_of(model, None, batches(), step="huggingface"), build(), loop)


def test_one_batch_has_the_models_own_loss():
    batch = masked_data()[0]
    surface = surface_of(build(), None, [batch], step="huggingface", metrics=["loss", "grad_norm"])
    assert_right(surface, build(), lambda model: {"train_loss": model(**batch).loss.item()})


def test_masked_language_models_shift_no_labels_and_classifiers_have_one_per_sample():
    transformers = _offline("transformers")
    torch.manual_seed(0)
    options = {"vocab_size": 23, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    config = transformers.BertConfig(**options, max_position_embeddings=16, num_labels=3, initializer_range=0.3)
    batches = masked_data()
    masked = transformers.BertForMaskedLM(config).eval()

    def tokens(model):
        pairs = [(model(**batch).logits, batch["labels"]) for batch in batches]
        losses = [F.cross_entropy(logits.transpose(1, 2), labels, reduction="sum").item() for logits, labels in pairs]
        return {"train_loss": sum(losses) / sum(int((labels != -100).sum()) for _, labels in pairs)}

    assert_right(surface_of(masked, None, batches, step="huggingface"), masked, tokens)
    classifier = transformers.BertForSequenceClassification(config).eval()
    labeled = [{**batch, "labels": batch["input_ids"][:, 0] % 3} for batch in batches]

    def samples(model):
        losses = [model(**batch).loss.item() * len(batch["labels"]) for batch in labeled]
        return {"train_loss": sum(losses) / 26}

    assert_right(surface_of(classifier, None, labeled, step="huggingface"), classifier, samples)


def test_what_is_no_batch_for_it_is_refused():
    for batches, message in (
        ([torch.zeros(3, 4, dtype=torch.long)], "not a dict"),
        ([{"words": torch.zeros(3)}], "failed"),
    ):
        with pytest.raises(InputError, match=message):
            surface_of(build(), None, batches, step="huggingface")


@pytest.mark.slow
def test_a_sharded_folder_on_two_ranks(tmp_path):
    from standing import on_ranks

    build().save_pretrained(tmp_path / "gpt", max_shard_size="5KB")
    assert len(list((tmp_path / "gpt").glob("*.safetensors"))) > 1
    done = on_ranks(
        "compute", "--weights", tmp_path / "gpt", "--model", f"huggingface:{tmp_path / 'gpt'}", "--data", f"{__file__}:data",
        "--step=huggingface", "--x=-0.5:0.5:3", "--y=-1:1:3", "--precision=fp32", "--split-data=2",
        "-o", tmp_path / "s.h5", ranks=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_right(read_surface(tmp_path / "s.h5", directions=True), build(), loop)
