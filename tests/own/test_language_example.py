"""The example of a language model, a short run of it: its losses along recipes, moved in place, are those of a plain loop."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paraloss.compute import compute_surface, load_directions

FILE = Path(__file__).resolve().parents[2] / "examples" / "language.py"
SCRIPT = """
import sys, torch
from torch import nn
from paraloss.compute import api, compute_surface
from paraloss.compute.directions import shards

shards._MOST["cpu"] = 2**16
def status(key):
    return int(open("/proc/self/status").read().split(key + ":")[1].split()[0]) * 1024

data = torch.randint(0, 30_000, (4, 1)), torch.randn(4, 8)
compute_surface(nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(2, 8)), "mse", (data[0] % 9, data[1]), x=(0, 1, 2),
                curve=True, progress=False, generator="philox", in_place=True)
before = status("VmRSS")
model = nn.Sequential(nn.Embedding(30_000, 512), nn.Flatten(), nn.Linear(512, 8))
size = sum(p.numel() * p.element_size() for p in model.parameters())
options = dict(progress=False, generator="philox", in_place=sys.argv[1] == "yes")
compute_surface(model, "mse", data, x=(-1, 1, 2), y=(-1, 1, 2), **options)
print((status("VmHWM") - before) / size)
"""


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("language_example", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_language_model_s_losses_are_those_of_a_plain_loop_on_both_texts(example, tmp_path):
    torch.manual_seed(0)
    model, texts = example.transformer().eval(), {name: batches[:1] for name, batches in example.texts().items()}
    options = {"generator": "philox", "in_place": True, "splits": "prose,code", "progress": False, "path": tmp_path / "most.h5"}
    surface = compute_surface(model, data=texts, step=example.next_letters, x=(-1, 1, 3), y=(-1, 1, 3), **options)
    directions = load_directions(tmp_path / "most.h5", example.transformer())
    for point in ((0.0, 0.0), (1.0, -1.0), (-1.0, 0.0)):
        torch.manual_seed(0)
        moved = example.transformer().eval()
        with torch.no_grad():
            for step, direction in zip(point, directions, strict=True):
                for name, part in direction.items():
                    moved.get_parameter(name).add_(step * part)
            for name, batches in texts.items():
                text = batches[0]
                logits = moved(text[:, :-1]).log_softmax(-1)
                expected = -logits.gather(2, text[:, 1:, None]).mean().item()
                assert surface.at(*point)[f"{name}_loss"] == pytest.approx(expected, rel=1e-5), (name, point)


def test_the_example_trains_and_writes_both_checkpoints(example, tmp_path, capsys):
    example.main(tmp_path, steps=8)
    before, after = capsys.readouterr().out.splitlines()
    assert before.startswith("prose.pt: prose ")
    assert float(after.split()[-1]) < float(before.split()[-1])  # it has learned something about code
    assert set(torch.load(tmp_path / "prose.pt")) == set(torch.load(tmp_path / "code.pt"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_model_moved_in_place_takes_twice_its_weights():
    ratios = {}
    for in_place in ("yes", "no"):
        command = [sys.executable, "-c", SCRIPT, in_place]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, env=environment)
        assert done.returncode == 0, done.stderr
        ratios[in_place] = float(done.stdout)
    assert ratios["yes"] < 2.4  # of which a fifth is not the weights'
    assert ratios["no"] > 5
