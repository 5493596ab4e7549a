"""Whole jobs on a GPU: surfaces, steps, metrics of one's own, sampling, trajectories, the command line, two ranks."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CRITERION, POINT, images, net, two_directions
from fake_cuda import DEVICE, FakeCuda
from helpers import call
from torch import nn

from paraloss.compute import Evaluator, compute_surface, number_types, project_run, train
from paraloss.compute.evaluate import fast_type, regression, tuning
from paraloss.compute.evaluate.stepping import StepEvaluator
from paraloss.compute.inputs.batch_split import BatchSplit
from paraloss.compute.inputs.problem import load_loss
from paraloss.surface import read_directions, read_surface

HERE = Path(__file__).parent
GRID = {"x": (-0.5, 0.5, 3), "y": (-0.4, 0.4, 3), "progress": False}
CORNERS = ((-0.5, 0.4), (0.5, -0.4), (0.5, 0.4), (0.0, 0.0))


def small():
    """(model, split, directions) of two layers."""
    torch.manual_seed(0)
    model = net(nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3)))
    return model, images(30, (1, 4, 4), as_bytes=False, classes=3), two_directions(model)


def loop(model, directions, point, split):
    """The losses of the samples by a plain loop in float64."""
    model = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for step, direction in zip(point, directions, strict=True):
                parameter += step * direction[name].double()
        return F.cross_entropy(model(split.inputs.double()), split.targets, reduction="none").numpy()


def assert_right(surface, model, directions, split, points=CORNERS):
    for x, y in points:
        assert surface.at(x, y)["train_loss"] == pytest.approx(loop(model, directions, (x, y), split).mean(), rel=1e-5)


def half_wrong(outputs, targets):
    """A metric of one's own, whose pair has a tensor on the device of the outputs."""
    return (outputs.argmax(1) != targets).double().sum() / 2, outputs.new_full((), float(len(targets)))


def test_a_surface_with_directions_that_are_on_the_gpu_and_a_metric_of_ones_own(gpu, tmp_path, caplog):
    caplog.set_level("INFO", "paraloss")
    model, split, directions = small()
    there = [{name: part.to(DEVICE) for name, part in direction.items()} for direction in directions]
    given = {**GRID, "progress": True, "directions": there, "metrics": ["loss", half_wrong], "batch_size": 8}
    compute_surface(model, "cross_entropy", {"train": split}, device="cuda", path=tmp_path / "s.h5", **given)
    surface = read_surface(tmp_path / "s.h5")
    assert_right(surface, model, directions, split)
    assert surface.provenance["device"] == "fake H100"
    with torch.no_grad():
        wrong = (model(split.inputs).argmax(1) != split.targets).double().mean().item()
    assert surface.at(0, 0)["train_half_wrong"] == pytest.approx(wrong / 2)
    line = next(line for line in caplog.messages if line.startswith("device: "))
    assert line.startswith("device: cuda:0 (fake H100), all samples in fp32, 8 samples at once; nothing folded (")
    assert line.endswith("no ReLU fused, not compiled")


def dict_step(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")


def step_metric(model, batch):
    return model(batch["x"]).argmax(1) != batch["y"]


def test_a_step_over_dicts_with_a_metric_of_its_own(gpu):
    model, split, directions = small()
    batches = [{"x": split.inputs[k : k + 8], "y": split.targets[k : k + 8], "name": "text"} for k in range(0, 30, 8)]
    given = {**GRID, "directions": directions, "metrics": ["loss", step_metric]}
    surface = compute_surface(model, data={"train": batches}, step=dict_step, device="cuda", **given)
    assert_right(surface, model, directions, split)
    with torch.no_grad():
        wrong = (model(split.inputs).argmax(1) != split.targets).double().mean().item()
    assert surface.at(0, 0)["train_step_metric"] == pytest.approx(wrong)


def test_a_step_at_a_point_waits_for_nothing_and_half_the_batch_copies_no_data(gpu):
    model, split, directions = small()
    data = {"train": BatchSplit(stacked={"x": split.inputs, "y": split.targets})}
    evaluator = StepEvaluator(model, load_loss(None, dict_step)[1], data, directions, DEVICE, batch_size=16)
    expected = pytest.approx(loop(model, directions, POINT, split).mean(), rel=1e-5)
    for _ in range(3):
        gpu.record.clear()
        sums = evaluator.sums(POINT)
        assert not gpu.record.waits, dict(gpu.record.waits)
        assert evaluator.metrics_of(sums)[0] == expected
        before = evaluator.batch_size
        gpu.record.clear()
        assert evaluator.halve_batch()
        assert not gpu.record.waits, dict(gpu.record.waits)
        assert sum(gpu.record.kernels.values()) == 0, dict(gpu.record.kernels)
        assert evaluator.batch_size == before // 2


@pytest.mark.parametrize("ready", [False, True])
def test_a_steps_batches_that_do_not_fit_are_moved_one_at_a_time(ready):
    model, split, directions = small()
    whole = {"x": split.inputs, "y": split.targets}
    parts = [{name: part[k : k + 8] for name, part in whole.items()} for k in range(0, 30, 8)]
    data = {"train": BatchSplit(parts) if ready else BatchSplit(stacked=whole)}
    with FakeCuda(free=100) as gpu:
        evaluator = StepEvaluator(model, load_loss(None, dict_step)[1], data, directions, DEVICE, batch_size=8)
        assert evaluator.batches["train"].streamed
        gpu.record.clear()
        sums = evaluator.sums(POINT)
        assert not gpu.record.waits, dict(gpu.record.waits)
        assert evaluator.metrics_of(sums)[0] == pytest.approx(loop(model, directions, POINT, split).mean(), rel=1e-5)


def test_a_trajectory(gpu, tmp_path):
    model, split, _ = small()
    train(model, {"train": split}, tmp_path, epochs=3, lr=0.3, batch_size=10, device="cuda", progress=False)
    surface = project_run(model, tmp_path, "cross_entropy", {"train": split}, points=3, device="cuda", progress=False)
    path, plain = surface.paths[""], small()[0]
    for number in (0, 2):
        state = torch.load(tmp_path / f"epoch_{number:03d}.pt")["state_dict"]
        plain.load_state_dict(state)
        assert path["loss"][number] == pytest.approx(loop(plain, [], (), split).mean(), rel=1e-5)


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_the_command_line(gpu, device, tmp_path):
    model, split, _ = small()
    np.savez(tmp_path / "d.npz", inputs=split.inputs.numpy(), targets=split.targets.numpy())
    made = "nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3))"
    (tmp_path / "own.py").write_text(f"from torch import nn\ndef make():\n    return {made}\n")
    torch.save(model.state_dict(), tmp_path / "m.pt")
    words = ["--weights", "m.pt", "--model", "own.py:make", "--data", "npz:d.npz", "--x=-0.5:0.5:3", "--y=-0.4:0.4:3"]
    done = call("compute", *words, "--device", device, "-o", "s.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "device: cuda:0 (fake H100), all samples in fp32, 30 samples at once" in done.stderr
    kept = read_directions(tmp_path / "s.h5")
    found = [{name: torch.from_numpy(part) for name, part in kept[axis].items()} for axis in "xy"]
    assert_right(read_surface(tmp_path / "s.h5"), model, found, split)


class Hungry(nn.Module):
    """Has memory for ``room`` samples on a GPU; notes with how many it was tried, and whether an exception was at hand."""

    room, tried = 64, []

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        if x.device.type == "cuda":
            Hungry.tried.append((len(x), sys.exc_info()[0]))
            if len(x) > Hungry.room:
                raise torch.OutOfMemoryError
        return self.out(x.flatten(1))


def hungry_job(room, caplog, **options):
    """A surface of 100 samples, which the loop's losses and the notes are compared with."""
    torch.manual_seed(0)
    model, split = Hungry().eval(), images(100, (1, 4, 4), as_bytes=False, classes=3)
    Hungry.room, Hungry.tried, directions = room, [], two_directions(model)
    surface = compute_surface(model, "cross_entropy", {"train": split}, device="cuda", directions=directions, **GRID, **options)
    for x, y in CORNERS:
        losses = loop(model, directions, (x, y), split)
        spread = 5 * surface.at(x, y).get("train_loss_stderr", 0.0)
        assert surface.at(x, y)["train_loss"] == pytest.approx(losses.mean(), rel=1e-5, abs=spread)
    assert "out of memory" in caplog.text
    assert max(size for size, _ in Hungry.tried) > Hungry.room
    assert not [error for _, error in Hungry.tried if error]


@pytest.mark.parametrize("room", [64, 8])  # what the model is examined on fits, or does not
@pytest.mark.parametrize("options", [{}, {"rtol": 0.01, "batch_size": 100}, {"loss_cap": 2.0}], ids=str)
def test_a_job_goes_on_in_smaller_batches_wherever_memory_runs_out(gpu, options, room, caplog):
    hungry_job(room, caplog, **options)


def test_memory_that_runs_out_at_an_anchor(gpu, monkeypatch, caplog):
    prepare = regression.SampledEvaluator.prepare

    def later(self, *given):
        Hungry.room = 20
        return prepare(self, *given)

    monkeypatch.setattr(regression.SampledEvaluator, "prepare", later)
    hungry_job(100, caplog, rtol=0.01)


def test_tuning_passes_over_sizes_that_memory_does_not_have(gpu):
    torch.manual_seed(0)
    model, split = Hungry().eval(), images(100, (1, 4, 4), as_bytes=False, classes=3)
    Hungry.room, Hungry.tried, directions = 64, [], two_directions(model)
    evaluator = Evaluator(model, CRITERION, {"train": split}, directions, DEVICE, batch_size=4)
    assert tuning.find_batch_size(evaluator, 0.01) == evaluator.batch_size == 4  # the others are all 100 samples
    assert 100 in {size for size, _ in Hungry.tried}
    assert evaluator(POINT)[0] == pytest.approx(loop(model, directions, POINT, split).mean(), rel=1e-5)


def test_sampled_points_come_in_few_sizes_and_keep_few_probabilities(gpu, monkeypatch):
    torch.manual_seed(0)
    model, sizes, kept = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), set(), []
    split, directions = images(700, (1, 4, 4), as_bytes=False, classes=3), two_directions(model)
    original, inclusion = nn.Linear.forward, regression.SampledEvaluator._inclusion
    monkeypatch.setattr(regression, "_KEPT", 3)
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: (sizes.add(len(x)), original(self, x))[1])

    def included(self, name, count):
        found = inclusion(self, name, count)
        kept.append(len(self._probabilities))
        return found

    monkeypatch.setattr(regression.SampledEvaluator, "_inclusion", included)
    given = {"x": (-2, 2, 9), "y": (-2, 2, 9), "progress": False, "directions": directions, "batch_size": 256}
    surface = compute_surface(model, "cross_entropy", {"train": split}, device="cuda", rtol=0.004, **given)
    taken = set(surface.metrics["train_samples"].ravel().tolist())
    assert len(taken) > 4 and len(kept) > 20
    assert max(kept) == 3
    examined = {21}  # a third of the 64 samples on which the model is examined before the first point
    assert {size for size in sizes if size > 4} <= {8, 16, 32, 64, 128, 256} | examined


class Overflows(nn.Module):
    """Its activations leave the range of fp16 where its first layer has moved."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(16, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.first(x.flatten(1)) * 3e4 / 3e4)


def overflowing(monkeypatch, points):
    """(model, split, directions) whose points beside the center overflow in fp16; types are compared at ``points``."""
    monkeypatch.setattr(number_types, "FEW", 1)
    monkeypatch.setattr(fast_type, "FEW", 1)
    monkeypatch.setattr(tuning, "FEW", 1)
    monkeypatch.setattr(number_types, "check_points", lambda *given: [np.array(point) for point in points])
    monkeypatch.setattr(fast_type._Trial, "gain", 2.0)
    monkeypatch.setattr(tuning, "_gain", lambda *given: 2.0)
    torch.manual_seed(0)
    model, (_, split, _) = Overflows().eval(), small()
    directions = two_directions(model)
    for direction in directions:
        direction["first.bias"] = torch.full((4,), 20.0)
    return model, split, directions


def paired(outputs, targets):
    """The sum and the count: nothing is known of single samples."""
    return F.cross_entropy(outputs, targets, reduction="sum"), (targets >= 0).sum()


def test_auto_takes_fp16_and_points_that_overflow_are_evaluated_again_in_bf16(gpu, monkeypatch, caplog):
    caplog.set_level("INFO", "paraloss")
    model, split, directions = overflowing(monkeypatch, [(0.0, 0.0)])
    given = {**GRID, "directions": directions, "precision_bound": 0.05}
    surface = compute_surface(model, paired, {"train": split}, device="cuda", **given)
    assert (surface.provenance["precision"], surface.provenance["tuning"]["overflow"]) == ("fp16", "bf16")
    again = [message for message in caplog.messages if "leaves the range of fp16: evaluated again in bf16" in message]
    assert 2 <= len(again) < 9
    for x, y in CORNERS:
        assert surface.at(x, y)["train_loss"] == pytest.approx(loop(model, directions, (x, y), split).mean(), rel=0.05)


def test_losses_in_fp16_are_corrected_in_fp32_and_what_overflows_is_evaluated_there(gpu, monkeypatch):
    model, split, directions = overflowing(monkeypatch, [(0.0, 0.0), (0.1, 0.1)])
    given = {**GRID, "directions": directions, "precision_bound": 1e-4}
    surface = compute_surface(model, "cross_entropy", {"train": split}, device="cuda", **given)
    assert (surface.provenance["precision"], surface.provenance["tuning"]["fast"]) == ("fp32", "fp16")
    assert ("matrix", "float16", False) in gpu.record.products
    assert not [key for key in gpu.record.products if key[2]]
    for x, y in CORNERS:
        exact = loop(model, directions, (x, y), split).mean()
        assert surface.at(x, y)["train_loss"] == pytest.approx(exact, abs=4e-4 * (exact + 0.1))


def test_two_ranks_on_one_gpu_alone_and_sharing_each_point(tmp_path):
    """Each in a process of its own, with a GPU of its own that is not there."""
    words = [str(Path(sys.executable).with_name("mpiexec")), "-n", "2", sys.executable, __file__, str(tmp_path)]
    paths = os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, sys.path)])
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("2 ranks share 1 GPU on ") == len(JOBS)
    model, split, directions = small()
    for name in JOBS:
        assert_right(read_surface(tmp_path / f"{name}.h5"), model, directions, split)


JOBS = {"samples": 1, "shared_samples": 2, "step": 1, "shared_step": 2, "shared_batches": 2}  # name -> split_data


def on_two_ranks(folder):
    """What each of two ranks does."""
    model, split, directions = small()
    ready = [{"x": split.inputs[k : k + 8], "y": split.targets[k : k + 8]} for k in range(0, 30, 8)]
    samples = [{"x": x, "y": y} for x, y in zip(split.inputs, split.targets, strict=True)]
    for name, split_data in JOBS.items():
        given = {**GRID, "directions": directions, "device": "auto", "batch_size": 7, "split_data": split_data}
        data = ready if name == "shared_batches" else _Samples(samples)
        with FakeCuda():
            if "samples" in name:
                compute_surface(model, "cross_entropy", {"train": split}, path=folder / f"{name}.h5", **given)
            else:
                compute_surface(model, data={"train": data}, step=dict_step, path=folder / f"{name}.h5", **given)


class _Samples(torch.utils.data.Dataset):
    """A data set of single samples, which are stacked."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        return self.samples[number]


if __name__ == "__main__":
    on_two_ranks(Path(sys.argv[1]))
