"""Data sets: shapes, normalization, what users bring, what is refused."""

import pickle

import numpy as np
import pytest
import torch
from helpers import write_cifar_batches

from paraloss.compute import as_data_set, load_data
from paraloss.errors import InputError


def test_digits_are_the_real_ones(digits):
    assert len(digits["train"]) + len(digits["test"]) == 1797
    assert digits["train"].inputs.shape[1:] == (1, 8, 8)
    assert set(digits["train"].targets.tolist()) == set(range(10))


@pytest.mark.slow
def test_mnist5k_has_5000_images():
    data = load_data("mnist5k")
    assert len(data["train"]) + len(data["test"]) == 5000
    assert data["test"].inputs.shape[1:] == (1, 28, 28)


def test_cifar_batches_are_read_with_li_et_als_normalization(tmp_path):
    pixels = write_cifar_batches(tmp_path, 20)
    data = load_data(f"cifar10:{tmp_path}")
    assert data["train"].inputs.shape == (100, 3, 32, 32)
    expected = (pixels[5, 3].reshape(3, 32, 32)[1, 4, 5] / 255 - 123.0 / 255) / (62.1 / 255)
    test = data["test"]
    assert test.inputs.dtype == torch.uint8  # a quarter of the memory; normalized a batch at a time
    assert test.normalize(test.inputs[3:4])[0, 1, 4, 5].item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_file_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("ran",)

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="refused"):
        load_data(f"cifar10:{tmp_path}")


def test_npz_and_user_callables(tmp_path):
    inputs, targets = np.random.default_rng(0).normal(size=(6, 3)), np.arange(6)
    np.savez(tmp_path / "d.npz", inputs=inputs, targets=targets, test_inputs=inputs[:2], test_targets=targets[:2])
    data = load_data(f"npz:{tmp_path / 'd.npz'}")
    assert (len(data["train"]), len(data["test"])) == (6, 2)
    assert data["train"].inputs.dtype == torch.float64  # as it is in the file; the model's type decides later
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def pairs(n=4):\n    return [(torch.zeros(3), i % 2) for i in range(n)]\n"
        "def stream():\n    yield torch.zeros(3), 1.5\n"
    )
    assert len(load_data(f"{tmp_path / 'mine.py'}:pairs", {"n": 5})["train"]) == 5
    assert load_data(f"{tmp_path / 'mine.py'}:stream")["train"].targets.dtype == torch.float32


def test_torch_data_sets_and_loaders_are_joined():
    rows = torch.utils.data.TensorDataset(torch.arange(10.0).reshape(10, 1), torch.arange(10))
    for data in (rows, torch.utils.data.DataLoader(rows, batch_size=3)):
        split = as_data_set(data)["train"]
        assert split.inputs.flatten().tolist() == list(range(10))
        assert split.targets.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digit", "unknown data set"),
        ("npz", "data npz requires a place"),
        ("npz:none.npz", "no such file"),
        ("cifar10:nowhere", "no such file"),
        ("nowhere.py:f", "no such file"),
        ("no_such_module:f", "no module named"),
        ("math:nothing", "defines no 'nothing'"),
    ],
)
def test_bad_names_get_one_line(name, told):
    with pytest.raises(InputError, match=told):
        load_data(name)


def test_a_subset_is_the_same_each_time_and_keeps_its_order(digits):
    a, b = digits["train"].subset(50), digits["train"].subset(50)
    assert a.sha256() == b.sha256() != digits["train"].sha256()
    assert len(a) == 50


def test_a_loader_that_shuffles_is_read_in_one_order_and_one_that_drops_samples_says_so(caplog):
    rows = torch.utils.data.TensorDataset(torch.arange(10.0).reshape(10, 1), torch.arange(10))
    shuffled = [as_data_set(torch.utils.data.DataLoader(rows, batch_size=3, shuffle=True))["train"] for _ in range(2)]
    assert shuffled[0].sha256() == shuffled[1].sha256()
    sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(rows), 4, drop_last=True)
    for loader in (
        torch.utils.data.DataLoader(rows, batch_size=3, drop_last=True),
        torch.utils.data.DataLoader(rows, batch_sampler=sampler),
    ):
        split = as_data_set(loader)["train"]
        assert len(split) in (9, 8)
        assert "drops its last, smaller batch" in caplog.records[-1].message
