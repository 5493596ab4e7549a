"""An LSTM over sequences of unequal lengths: several inputs, padded by the user's own collate_fn, dict batches."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(11, 6), nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, text, lengths):
        packed = pack_padded_sequence(self.embed(text), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return self.head(hidden[-1])


def build():
    torch.manual_seed(0)
    return Classifier()


def sentences():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 9, (45,), generator=generator).tolist()
    labels = torch.randint(0, 3, (45,), generator=generator).tolist()
    return [
        (torch.randint(0, 11, (length,), generator=generator), label) for length, label in zip(lengths, labels, strict=True)
    ]


def collate(samples):
    texts, labels = zip(*samples, strict=True)
    lengths = torch.tensor([len(text) for text in texts])
    return {"text": pad_sequence(texts, batch_first=True), "lengths": lengths, "labels": torch.tensor(labels), "name": "batch"}


def data():
    return {"train": DataLoader(sentences(), batch_size=10, collate_fn=collate)}


def step(model, batch):
    """The batch's mean, of ten sentences or of the last five."""
    return F.cross_entropy(model(batch["text"], batch["lengths"]), batch["labels"])


def right(model, batch):
    return model(batch["text"], batch["lengths"]).argmax(1) == batch["labels"]


def loop(model):
    losses, hits = [], []
    for sentence, label in sentences():
        outputs = model(sentence[None], torch.tensor([len(sentence)]))
        losses.append(F.cross_entropy(outputs, torch.tensor([label])).item())
        hits.append(float(outputs.argmax(1).item() == label))
    return {"train_loss": sum(losses) / 45, "train_right": sum(hits) / 45}


def test_sentences_one_by_one_and_in_padded_batches_lose_the_same():
    assert_right(surface_of(build(), None, data(), step=step, metrics=["loss", right]), build(), loop)


@pytest.mark.slow
def test_padded_batches_are_shared_by_two_ranks(tmp_path):
    options = ("--step", f"{__file__}:step", "--metrics", f"loss,{__file__}:right", "--split-data=2")
    assert_right(surface_on_ranks(__file__, tmp_path, *options, model=build()), build(), loop)
