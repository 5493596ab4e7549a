"""Batches of any structure with a step: what is taken, in which order, and what is refused."""

import copy
from collections import UserDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of
from torch import nn
from torch.func import functional_call, hessian
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from paraloss.compute import compute_surface
from paraloss.errors import InputError

ROWS = 22


def build():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    model[1].running_mean.normal_()
    return model


def columns():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(ROWS, 4, generator=generator),
        torch.rand(ROWS, generator=generator),
        torch.randint(0, 3, (ROWS,), generator=generator),
    )


def losses_of(model, inputs, weights, targets):
    return weights * F.cross_entropy(model(inputs), targets, reduction="none")


def loop(model):
    return {"train_loss": losses_of(model, *columns()).mean().item()}


Fields = namedtuple("Fields", "inputs weights targets")


@dataclass(frozen=True)
class Record:
    inputs: torch.Tensor
    rest: dict


class Graph:
    """Like PyTorch Geometric's ``Data``: attributes, and a method that moves them."""

    def __init__(self, inputs, weights, targets):
        self.inputs, self.weights, self.targets = inputs, weights, targets

    def to(self, device):
        return Graph(self.inputs.to(device), self.weights.to(device), self.targets.to(device))


class Encoding(UserDict):
    """Like Hugging Face's ``BatchEncoding``."""

    def to(self, device):
        self.data = {name: tensor.to(device) for name, tensor in self.data.items()}
        return self


def parts(size=5):
    return list(zip(*(column.split(size) for column in columns()), strict=True))


def fields(batch):
    if isinstance(batch, Record):
        return batch.inputs, batch.rest["weights"], batch.rest["deep"][0]
    if isinstance(batch, (dict, UserDict)):
        return batch["inputs"], batch["weights"], batch["targets"]
    return (batch.inputs, batch.weights, batch.targets) if isinstance(batch, (Graph, Fields)) else tuple(batch)


def by_sample(model, batch):
    return losses_of(model, *fields(batch))


def by_sum(model, batch):
    losses = losses_of(model, *fields(batch))
    return losses.sum(), len(losses)


def by_mean(model, batch):
    return losses_of(model, *fields(batch)).mean()


class Samples(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        inputs, weights, targets = columns()
        return {"inputs": inputs[row], "weights": float(weights[row]), "targets": int(targets[row]), "name": f"row {row}"}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*columns(), strict=True))


KINDS = {
    "list of tuples": parts,
    "generator of lists": lambda: ([*part] for part in parts()),
    "named tuples": lambda: [Fields(*part) for part in parts()],
    "dataclasses, nested": lambda: [Record(x, {"weights": w, "deep": [t]}) for x, w, t in parts()],
    "graphs": lambda: [Graph(*part) for part in parts()],
    "encodings": lambda: [Encoding(zip(Fields._fields, part, strict=True)) for part in parts()],
    "one tuple": columns,
    "one dict": lambda: dict(zip(Fields._fields, columns(), strict=True)),
    "one graph": lambda: Graph(*columns()),
    "data set of dicts": Samples,
    "data set of tensors": lambda: TensorDataset(*columns()),
    "stream": Stream,
    "loader": lambda: DataLoader(Samples(), batch_size=4),
    "loader that shuffles": lambda: DataLoader(Samples(), batch_size=4, shuffle=True),
    "loader with a batch_sampler": lambda: DataLoader(
        TensorDataset(*columns()), batch_sampler=[[*range(9)], [*range(9, ROWS)]]
    ),
    "loader of ready batches": lambda: DataLoader([Graph(*part) for part in parts()], batch_size=None),
    "splits": lambda: {"test": parts(), "train": DataLoader(Samples(), batch_size=4)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_every_kind_have_the_losses_of_a_plain_loop(kind):
    for step in (by_sample, by_sum, by_mean):
        surface = surface_of(build(), None, KINDS[kind](), step=step, batch_size=6)
        assert_right(surface, build(), loop)


def test_the_users_batches_are_left_as_they_were():
    batches = [Graph(*part) for part in parts()]
    before = copy.deepcopy(batches)

    def careless(model, batch):
        batch.inputs.mul_(2).sub_(batch.inputs / 2)
        batch.inputs, spare = batch.inputs.requires_grad_(True), batch.inputs
        batch.targets = batch.targets + 0
        return losses_of(model, spare, batch.weights, batch.targets)

    assert_right(surface_of(build(), None, batches, step=careless), build(), loop)
    for one, other in zip(batches, before, strict=True):
        assert torch.equal(one.inputs, other.inputs) and not one.inputs.requires_grad


def test_gradient_norms_and_the_hessians_ends_follow_the_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))

    def closely(m):
        batch = columns()
        value = by_mean(m, batch)
        norm = torch.stack([g.square().sum() for g in torch.autograd.grad(value, list(m.parameters()))]).sum().sqrt()
        names = [name for name, p in m.named_parameters() if p.ndim > 1]
        weights = {name: dict(m.named_parameters())[name].detach() for name in names}
        blocks = hessian(lambda w: by_mean(lambda x: functional_call(m, w, x), batch))(weights)
        rows = [torch.cat([blocks[a][b].reshape(weights[a].numel(), -1) for b in names], dim=1) for a in names]
        values = torch.linalg.eigvalsh(torch.cat(rows).double())
        return {"train_grad_norm": norm.item(), "min_eig": values[0].item(), "max_eig": values[-1].item()}

    for step in (by_sample, by_sum, by_mean):
        surface = surface_of(model, None, parts(), step=step, metrics=["loss", "grad_norm", "hessian"])
        assert_right(surface, model, closely, rel=2e-4)


def test_batch_norm_statistics_are_estimated_with_the_step():
    def with_statistics(model):
        layer = model[1]
        layer.reset_running_stats()
        layer.train()
        seen = 0
        for inputs, _, _ in parts():  # each weighs as many samples as it has
            seen += len(inputs)
            layer.momentum = len(inputs) / seen
            model(inputs)
        layer.eval()
        return loop(model)

    assert_right(surface_of(build(), None, parts(), step=by_sample, bn="recompute"), build(), with_statistics)


def test_samples_are_drawn_from_data_sets_and_refused_of_ready_batches():
    surface = surface_of(build(), None, TensorDataset(*columns()), step=by_sample, samples=9)
    rows = np.sort(np.random.default_rng(0).permutation(ROWS)[:9])
    drawn = [column[rows] for column in columns()]
    losses = losses_of(build().eval(), *drawn).detach().double()
    assert surface.at(0, 0)["train_loss"] == pytest.approx(losses.mean().item(), rel=1e-6)
    error = losses.std().item() / 3 * (1 - 9 / ROWS) ** 0.5
    assert surface.at(0, 0)["train_loss_stderr"] == pytest.approx(error, rel=1e-5)
    with pytest.raises(InputError, match="the batches come ready"):
        surface_of(build(), None, parts(), step=by_sample, samples=9)


def unequal():
    """Batches that cannot be joined: of texts of other lengths."""
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(5, length, 4, generator=generator), torch.rand(5, length, generator=generator) > 0.4)
        for length in (3, 6, 4)
    ]


def masked_mean(model, batch):
    inputs, mask = batch
    return model(inputs).square().mean(dim=2)[mask].mean()


def plain_mean(model, batch):
    return model(batch[0]).square().mean()


def test_a_mean_that_does_not_add_up_is_taken_of_all_batches_together_or_refused():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    joined = [(batch[:, :3], mask[:, :3]) for batch, mask in unequal()]

    def together(m):
        inputs, masks = (torch.cat(column) for column in zip(*joined, strict=True))
        return {"train_loss": masked_mean(m, (inputs, masks)).item()}

    assert_right(surface_of(model, None, joined, step=masked_mean), model, together)
    with pytest.raises(InputError, match=r"which is not the mean over all train samples, .* return \(n,\) losses or a pair"):
        surface_of(model, None, unequal(), step=masked_mean)

    def weighted(m):
        return {"train_loss": sum(plain_mean(m, batch).item() for batch in unequal()) / 3}

    assert_right(surface_of(model, None, unequal(), step=plain_mean), model, weighted)


def test_losses_that_depend_on_batches_of_our_own_making_are_taken_of_all_samples():
    def contrastive(model, batch):
        outputs = F.normalize(model(batch[0]), dim=1)
        return F.cross_entropy(outputs @ outputs.T / 0.5, torch.arange(len(outputs)), reduction="none")

    surface = surface_of(build(), None, TensorDataset(*columns()), step=contrastive, batch_size=5)
    assert_right(surface, build(), lambda m: {"train_loss": contrastive(m, columns()).mean().item()})
    ready = surface_of(build(), None, parts(), step=contrastive)  # the user's own batches are the user's own loss
    each = lambda m: {"train_loss": torch.cat([contrastive(m, part) for part in parts()]).mean().item()}  # noqa: E731
    assert_right(ready, build(), each)


@pytest.mark.parametrize(
    ("data", "step", "options", "message"),
    [
        (parts, lambda model, batch: None, {}, "the step returned NoneType"),
        (parts, lambda model, batch: model(batch), {}, "the step failed: TypeError"),
        (parts, lambda model, batch: (model(batch[0]), 5), {}, r"is not \(sum, count\)"),
        (parts, lambda model, batch: model(batch[0]).sum() * 1j, {}, "a loss is real"),
        (parts, by_sample, {"rtol": 0.1}, "a step gives those of whole batches"),
        (parts, by_sample, {"loss_cap": 1.0}, "a step gives those of whole batches"),
        (parts, by_sample, {"metrics": ["loss", lambda model, batch: model(batch[0]).mean()]}, "cannot be added up"),
        (lambda: [], by_sample, {}, "holds no batch with a tensor"),
        (lambda: Samples, by_sample, {}, "holds no batch with a tensor"),
        (lambda: [("a", torch.zeros(k)) for k in (2, 3)], by_mean, {}, "the step failed"),
        (parts, "nowhere.py:step", {}, "no such file"),
        (parts, "hugging", {}, "unknown step 'hugging'; there is huggingface"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_line(data, step, options, message):
    with pytest.raises(InputError, match=message) as caught:
        compute_surface(build(), data=data(), step=step, x=(-1, 1, 3), progress=False, **options)
    assert "\n" not in str(caught.value)


def test_a_step_that_uses_the_model_handed_in_is_refused():
    model = build()
    with pytest.raises(InputError, match="of the model that was handed in"):
        surface_of(model, None, parts(), step=lambda _, batch: losses_of(model, *batch))


def test_samples_of_unequal_shape_need_a_collate_fn():
    samples = TensorDataset(torch.zeros(3, 2))
    samples.__class__ = type("Ragged", (TensorDataset,), {"__getitem__": lambda self, k: torch.zeros(k + 1)})
    with pytest.raises(InputError, match="give a DataLoader with a collate_fn"):
        surface_of(build(), None, samples, step=by_sample)


def test_a_surface_with_a_step_is_resumed_and_other_steps_are_told_apart(tmp_path):
    options = {"data": parts(), "x": (-1, 1, 3), "curve": True, "path": tmp_path / "s.h5", "progress": False}
    first = compute_surface(build(), step=by_sample, **options)
    again = compute_surface(build(), step=by_sample, **options)
    np.testing.assert_array_equal(first.metric(), again.metric())
    with pytest.raises(Exception, match="criterion"):
        compute_surface(build(), step=by_sum, **options)
