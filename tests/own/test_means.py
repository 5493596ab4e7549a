"""Means that are means: losses whose batch means do not average to the loss of all samples."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, displaced, surface_of
from torch import nn

from paraloss.compute import compute_surface
from paraloss.errors import InputError


def classifier(inputs=6, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, classes))


def classes_of(samples=64, classes=3):
    torch.manual_seed(1)
    return torch.randn(samples, 6), torch.randint(0, classes, (samples,))


@pytest.mark.parametrize("size", [7, 16, 64])
@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 20.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 20.0]), label_smoothing=0.1, ignore_index=1),
        lambda outputs, targets: F.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 1.0, 20.0])),
    ],
    ids=["module", "smoothed and masked", "function"],
)
def test_class_weights_are_divided_by_the_weights_of_all_samples(loss, size):
    model, (inputs, targets) = classifier(), classes_of()
    surface = surface_of(model, loss, (inputs, targets), batch_size=size)
    assert_right(surface, model, lambda m: {"train_loss": loss(m(inputs), targets).item()})


class Tokens(nn.Module):
    """(n, T) letters -> (n, T, V) logits."""

    def __init__(self, letters=12, width=8):
        super().__init__()
        self.embed, self.head = nn.Embedding(letters, width), nn.Linear(width, letters)

    def forward(self, text):
        return self.head(self.embed(text))


def padded_text(samples=40, length=12, letters=12):
    generator = torch.Generator().manual_seed(2)
    text = torch.randint(0, letters, (samples, length + 1), generator=generator)
    targets = text[:, 1:].clone()
    for row, end in enumerate(torch.randint(2, length + 1, (samples,), generator=generator).tolist()):
        targets[row, end:] = -100
    return text[:, :-1], targets


def token_mean(outputs, targets):
    return F.cross_entropy(outputs.transpose(1, 2), targets)


def token_losses(outputs, targets):
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")


def token_sums(outputs, targets):
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="sum"), (targets != -100).sum()


@pytest.mark.parametrize("loss", [token_mean, token_losses, token_sums])
def test_padding_counts_neither_in_a_token_loss_nor_in_its_accuracy(loss):
    torch.manual_seed(0)
    model, (text, targets) = Tokens(), padded_text()

    def loop(m):
        outputs, kept = m(text), targets != -100
        right = (outputs.argmax(dim=2) == targets)[kept].double().mean()  # T = V = 12: over the letters
        return {"train_loss": F.cross_entropy(outputs[kept], targets[kept]).item(), "train_acc": 100 * right.item()}

    assert_right(surface_of(model, loss, (text, targets), batch_size=10), model, loop)


def test_our_own_cross_entropy_leaves_out_masked_pixels():
    torch.manual_seed(0)
    model, images = nn.Conv2d(1, 4, 3, padding=1), torch.randn(20, 1, 5, 5)
    targets = torch.randint(0, 4, (20, 5, 5))
    targets[::3, 1:3] = -100

    def loop(m):
        outputs, kept = m(images), targets != -100
        accuracy = (outputs.argmax(dim=1) == targets)[kept].double().mean()
        return {"train_loss": F.cross_entropy(outputs, targets).item(), "train_acc": 100 * accuracy.item()}

    assert_right(surface_of(model, "cross_entropy", (images, targets), batch_size=7), model, loop)


def dice(outputs, targets):
    share = outputs.softmax(dim=1)[:, 1]
    return 1 - 2 * (share * targets).sum() / (share.sum() + targets.sum())


def contrastive(outputs, targets):
    """(n,) losses, each of which depends on the other samples of the batch."""
    outputs = F.normalize(outputs, dim=1)
    return F.cross_entropy(outputs @ outputs.T / 0.5, torch.arange(len(outputs)), reduction="none") + 0 * targets


@pytest.mark.parametrize("loss", [dice, contrastive])
def test_losses_of_a_whole_batch_are_taken_of_all_samples_at_once(loss):
    model, (inputs, targets) = classifier(classes=2), classes_of(classes=2)
    surface = surface_of(model, loss, (inputs, targets), batch_size=9, metrics=["loss", "grad_norm"])

    def loop(m):
        value = loss(m(inputs), targets).mean()
        norm = torch.stack([g.square().sum() for g in torch.autograd.grad(value, list(m.parameters()))]).sum().sqrt()
        return {"train_loss": value.item(), "train_grad_norm": norm.item()}

    assert_right(surface, model, loop)


def test_a_loss_that_broadcasts_is_refused_and_torchs_own_is_given_one_shape():
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(6, 1), torch.randn(50, 6), torch.randn(50)
    with pytest.raises(InputError, match="broadcast; give them one shape"):
        surface_of(model, lambda o, t: ((o - t) ** 2).mean(), (inputs, targets))
    with pytest.raises(InputError, match="broadcast; give them one shape"):
        surface_of(model, lambda o, t: (o - t) ** 2, (inputs, targets))
    for loss in (nn.MSELoss(), F.mse_loss, "mse", lambda o, t: F.mse_loss(o.squeeze(1), t), lambda o, t: (o[:, 0] - t) ** 2):
        surface = surface_of(model, loss, (inputs, targets), batch_size=8)
        assert_right(surface, model, lambda m: {"train_loss": ((m(inputs)[:, 0] - targets) ** 2).mean().item()})
    with pytest.raises(InputError, match="would broadcast"):
        surface_of(nn.Linear(6, 3), nn.MSELoss(), (inputs, targets))


@pytest.mark.parametrize("column", [False, True])
def test_one_logit_poisson_counts_and_column_targets_are_good_input(column):
    torch.manual_seed(0)
    inputs, binary, counts = torch.randn(30, 6), torch.randint(0, 2, (30,)), torch.poisson(torch.full((30,), 9.0)).long()
    shape = (30, 1) if column else (30,)
    cases = (
        (1, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)), binary, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))),
        (1, lambda o, t: F.binary_cross_entropy_with_logits(o.flatten(), t.flatten().float()), binary, None),
        (1, nn.PoissonNLLLoss(), counts, nn.PoissonNLLLoss()),
    )
    for outputs, loss, targets, plain in cases:
        model = nn.Linear(6, outputs)
        plain = plain or nn.BCEWithLogitsLoss()
        surface = surface_of(model, loss, (inputs, targets.reshape(shape)), batch_size=7)
        assert list(surface.metrics) == ["train_loss"]
        assert_right(surface, model, lambda m, p=plain, t=targets: {"train_loss": p(m(inputs)[:, 0], t.float()).item()})
    model, targets = classifier(), torch.randint(0, 3, (30,))
    for loss in ("cross_entropy", nn.CrossEntropyLoss(), lambda o, t: F.cross_entropy(o, t.reshape(-1))):
        surface = surface_of(model, loss, (inputs, targets.reshape(shape)), batch_size=7)
        assert_right(
            surface, model,
            lambda m: {
                "train_loss": F.cross_entropy(m(inputs), targets).item(),
                "train_acc": 100 * (m(inputs).argmax(1) == targets).double().mean().item(),
            },
        )  # fmt: skip


def test_a_model_that_mixes_the_samples_of_a_batch_gets_them_all_at_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Tanh(), nn.Linear(8, 3))
    inputs, targets = classes_of(samples=90)
    surface = surface_of(model, "cross_entropy", (inputs, targets), batch_size=16)
    assert_right(surface, model, lambda m: {"train_loss": F.cross_entropy(m(inputs), targets).item()})


def test_a_users_own_metric_is_a_sum_and_a_count():
    def iou(outputs, targets):
        found, there = outputs.argmax(1) == 1, targets == 1
        return (found & there).sum(), (found | there).sum()

    def margin(outputs, targets):
        return outputs.gather(1, targets[:, None])[:, 0]

    model, (inputs, targets) = classifier(classes=2), classes_of(classes=2)
    surface = surface_of(model, "cross_entropy", (inputs, targets), batch_size=9, metrics=["loss", iou, margin])
    assert list(surface.metrics) == ["train_loss", "train_iou", "train_margin"]

    def loop(m):
        both, either = iou(m(inputs), targets)
        return {"train_iou": (both / either).item(), "train_margin": margin(m(inputs), targets).mean().item()}

    assert_right(surface, model, loop)
    with pytest.raises(InputError, match=r"cannot be added up over batches; return \(n,\) values or a pair"):
        surface_of(model, "cross_entropy", (inputs, targets), metrics=["loss", lambda o, t: o.mean()])
    with pytest.raises(InputError, match="metrics of your own need all samples"):
        surface_of(model, "cross_entropy", (inputs, targets), metrics=["loss", iou], rtol=0.1)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (token_mean, None, "batch's mean"),
        (nn.CrossEntropyLoss(), None, "count differently"),
        (contrastive, 1, "depends on the other samples"),
    ],
)
@pytest.mark.parametrize("option", ["rtol", "loss_cap"])
def test_estimates_from_a_part_of_the_samples_refuse_what_they_cannot_estimate(option, loss, targets, message):
    inputs, classes = classes_of(samples=300)
    if targets is None and loss is token_mean:
        torch.manual_seed(0)
        model, data = Tokens(), padded_text(samples=300)
    else:
        model, data = classifier(), (inputs, classes.where(torch.arange(300) % 5 > 0, -100) if targets is None else classes)
    with pytest.raises(InputError, match=message):
        surface_of(model, loss, data, **{option: 0.1})


def test_the_batch_size_does_not_change_what_a_loss_amounts_to():
    model, (inputs, targets) = classifier(), classes_of(samples=100)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 20.0]), label_smoothing=0.2)
    tables = [surface_of(model, loss, (inputs, targets), batch_size=size).metric() for size in (1, 7, 33, 100)]
    for table in tables[1:]:
        np.testing.assert_allclose(table, tables[0], rtol=1e-6)


def test_a_losss_own_tensors_stay_as_they_were_and_evaluate():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, outputs, targets):
            return F.cross_entropy(self.norm(outputs), targets, reduction="none")

    loss, model, (inputs, targets) = Scaled(), classifier(), classes_of()
    surface = surface_of(model, loss, (inputs, targets), batch_size=16)
    assert loss.training
    assert loss.norm.num_batches_tracked == 0
    plain = Scaled().eval()
    assert_right(surface, model, lambda m: {"train_loss": plain(m(inputs), targets).mean().item()})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((torch.zeros(4, 3), torch.ones(4, 3), torch.zeros(4)), "3 tensors"),
        ([(torch.zeros(3), torch.ones(3), torch.tensor(0))] * 4, "3 fields"),
        ([{"x": torch.zeros(3), "y": torch.tensor(0)}] * 4, "dict"),
        (torch.zeros(4, 3), "one tensor"),
    ],
)
def test_data_of_another_form_than_two_tensors_name_the_step(data, message):
    with pytest.raises(InputError, match=message) as caught:
        compute_surface(nn.Linear(3, 2), "cross_entropy", data, curve=True, x=(-1, 1, 3), progress=False)
    assert "step" in str(caught.value) and "\n" not in str(caught.value)


def test_the_judge_moves_the_model():
    model, (inputs, targets) = classifier(), classes_of()
    surface = surface_of(model, "cross_entropy", (inputs, targets))
    there = F.cross_entropy(displaced(model, surface, (0.5, -1.0))(inputs), targets).item()
    assert abs(there - F.cross_entropy(model(inputs), targets).item()) > 0.01
