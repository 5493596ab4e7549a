"""Training learns, resumes, and refuses to mix runs."""

import math
from itertools import pairwise

import pytest
import torch

from paraloss.compute import load_checkpoint, load_model, train
from paraloss.compute.inputs.split import Split
from paraloss.compute.recipes import RECIPES, crop_and_flip, resized
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


def test_crop_and_flip_is_a_plain_loop_over_padded_images():
    images = torch.rand(7, 3, 10, 12)
    found = crop_and_flip(images, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    down, right = (torch.randint(-4, 5, (7, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand((7, 1), generator=generator) < 0.5
    for k in range(7):
        padded = torch.nn.functional.pad(images[k], (4, 4, 4, 4))
        top, left = 4 + int(down[k]), 4 + int(right[k])
        window = padded[:, top : top + 10, left : left + 12]
        assert torch.equal(found[k], window.flip(-1) if mirrored[k] else window)
    assert mirrored.any() and not mirrored.all()


def test_the_rate_of_the_recipe_cifar_rises_then_falls_to_zero():
    rate = RECIPES["cifar"].rate
    rates = [rate(step, 200, 20) for step in range(201)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1 and rates[200] == pytest.approx(0, abs=1e-12)
    assert rates[105] == pytest.approx(0.5) and all(a >= b for a, b in pairwise(rates[10:]))


def test_the_rate_of_the_recipe_li2018_falls_by_ten_after_50_75_and_92_percent_of_the_epochs(tmp_path):
    rate = RECIPES["li2018"].rate
    by_epoch = [round(-math.log10(rate(epoch * 7 + 6, 84, 12))) for epoch in range(12)]
    assert by_epoch == [0] * 6 + [1] * 3 + [2] * 2 + [3]


@pytest.fixture
def images():
    """240 pictures of two classes that a mirror image keeps: bright above, bright below."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(240) % 2
    rows = (torch.arange(8)[None, :] < 4) == (targets[:, None] == 0)
    inputs = rows[:, None, :, None].float() + 0.3 * torch.rand(240, 1, 8, 8, generator=generator)
    split = Split((100 * inputs).byte(), targets, (torch.tensor(60.0), torch.tensor(50.0)))
    return {"train": split, "test": split.rows(slice(0, 100))}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_recipe_cifar_learns_keeps_the_test_accuracy_of_each_epoch_and_resumes(tmp_path, images, monkeypatch, precision):
    options = {"recipe": "cifar", "epochs": 4, "lr": 0.05, "batch_size": 24, "precision": precision, "progress": False}
    whole = train(fresh(), images, tmp_path / "a", **options)
    weights, record = load_checkpoint(tmp_path / "a" / "epoch_004.pt")
    assert record["recipe"] == "cifar" and record["precision"] == precision and record["test_acc"] > 90
    model = fresh()
    model.load_state_dict(weights)
    model.eval()
    test = images["test"]
    right = sum(int(model((test.inputs[k : k + 1].float() - 60) / 50).argmax()) == int(test.targets[k]) for k in range(100))
    assert load_checkpoint(whole)[1]["test_acc"] == pytest.approx(right)
    for name in ("epoch_003.pt", "epoch_004.pt", "final.pt"):
        (tmp_path / "a" / name).rename(tmp_path / name)
    import paraloss.compute.training as module

    keep = module._Run._keep

    def keep_then_stop(self, epoch, found):
        keep(self, epoch, found)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "_keep", keep_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), images, tmp_path / "b", **options)
    monkeypatch.undo()
    resumed = train(fresh(), images, tmp_path / "b", **options)
    for name, tensor in load_checkpoint(tmp_path / "final.pt")[0].items():
        assert torch.equal(tensor, load_checkpoint(resumed)[0][name])


def pooled():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d((2, 1)), torch.nn.Flatten(), torch.nn.Linear(16, 2))


def test_a_progressive_run_sees_small_images_first_and_tests_at_their_size(tmp_path, images):
    model, seen = pooled(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append((model.training, *inputs[0].shape[2:])))
    train(model, images, tmp_path / "run", recipe="cifar", progressive=True, epochs=10, lr=0.05, batch_size=240, progress=False)
    assert [shape[1:] for shape in seen if shape[0]] == [(4, 4)] * 5 + [(6, 6)] * 3 + [(8, 8)] * 2
    test = images["test"]
    for epoch, size in ((5, 4), (8, 6), (10, 8)):
        weights, record = load_checkpoint(tmp_path / "run" / f"epoch_{epoch:03d}.pt")
        plain = pooled()
        plain.load_state_dict(weights)
        right = 0
        for image, target in zip(test.inputs, test.targets, strict=True):
            inputs = ((image.float() - 60) / 50)[None]
            if size < 8:
                inputs = torch.nn.functional.interpolate(inputs, (size, size), mode="bilinear", antialias=True)
            right += int(plain(inputs).argmax()) == int(target)
        assert record["test_acc"] == pytest.approx(right)
        assert record["progressive"] is True


def test_smaller_images_are_those_of_an_imaging_library():
    from PIL import Image

    images = torch.rand(2, 1, 12, 16)
    for scale, size in ((0.5, (6, 8)), (0.75, (9, 12))):
        found = resized(images, scale)
        assert found.shape[2:] == size
        for image, small in zip(images, found, strict=True):
            expected = Image.fromarray(image[0].numpy(), "F").resize((size[1], size[0]), Image.Resampling.BILINEAR)
            assert torch.allclose(small[0], torch.tensor(list(expected.getdata())).reshape(size), atol=1e-5)


def test_a_progressive_run_requires_the_recipe_for_images(tmp_path, images):
    with pytest.raises(InputError, match="progressive requires recipe cifar"):
        train(pooled(), images, tmp_path / "run", progressive=True, progress=False)
    with pytest.raises(InputError, match="progressive requires epochs of at least 5"):
        train(pooled(), images, tmp_path / "run", recipe="cifar", progressive=True, epochs=4, progress=False)


def test_the_recipe_cifar_refuses_inputs_that_are_no_images(tmp_path, digits):
    flat = {"train": Split(digits["train"].inputs.flatten(1), digits["train"].targets)}
    with pytest.raises(InputError, match=r"crops and flips images .* the inputs are \(64,\)"):
        train(fresh(), flat, tmp_path / "run", recipe="cifar", progress=False)
    assert not (tmp_path / "run").exists()


def test_targets_that_do_not_count_are_left_out_of_the_accuracy_of_an_epoch(tmp_path, images):
    """As at the end of the run: -100 is no class, and is not counted as wrong."""
    targets = images["test"].targets.clone()
    targets[::3] = -100
    data = {**images, "test": Split(images["test"].inputs, targets, images["test"].scale)}
    final = train(fresh(), data, tmp_path / "run", epochs=2, lr=0.05, batch_size=24, progress=False)
    last, end = (load_checkpoint(path)[1] for path in (tmp_path / "run" / "epoch_002.pt", final))
    weights, _ = load_checkpoint(final)
    model = fresh()
    model.load_state_dict(weights)
    model.eval()
    kept = [k for k in range(100) if targets[k] >= 0]
    right = sum(int(model((data["test"].inputs[k : k + 1].float() - 60) / 50).argmax()) == int(targets[k]) for k in kept)
    assert last["test_acc"] == pytest.approx(100 * right / len(kept)) == end["test_acc"]
    assert last["test_loss"] == pytest.approx(end["test_loss"], rel=1e-5)


def fails(outputs, targets):
    raise ValueError("no luck")


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("model", "loss", "said"),
    [
        (torch.nn.Linear(3, 10), "cross_entropy", "a step of training failed"),
        (torch.nn.Flatten(), "cross_entropy", "no parameters"),
        (None, fails, "no luck"),
        (None, "nosuch", "unknown loss"),
    ],
)
def test_a_run_refused_at_its_first_step_leaves_no_folder(tmp_path, digits, model, loss, said, there):
    folder = tmp_path / "run"
    if there:
        folder.mkdir()
    with pytest.raises(InputError, match=said):
        train(model or fresh(), digits, folder, loss=loss, epochs=1, progress=False)
    assert folder.exists() == there
    assert not there or not any(folder.iterdir())
