"""The road of the README, step by step, as a user types it."""

import sys

import pytest
from helpers import call, run

from paraloss import processes
from paraloss.surface import read_surface


@pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_train_compute_convert_render_info(ranks, tmp_path):
    def step(*arguments, ranks=0):
        done = run(*arguments, cwd=tmp_path, ranks=ranks) if ranks else call(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert step("train", "--model", "mlp", "--epochs", "2", "-o", "run").strip() == "run/final.pt"
    assert step("compute", "--weights", "run/final.pt", "--x=-1:1:9", "--y=-1:1:5", "-o", "s.h5", ranks=ranks).strip() == "s.h5"
    assert step("convert", "s.h5", "s.vts").strip() == "s.vts"
    assert step("convert", "s.h5", "s.vtp").strip() == "s.vtp"
    assert step("render", "s.h5", "s.png", "--size", "600x400").strip() == "s.png"
    assert "mlp" in step("info", "s.h5")
    assert "parameters" in step("info", "run/final.pt")
    assert "torch" in step("info")
    for name in ("s.h5", "s.vts", "s.vtp", "s.png"):
        assert (tmp_path / name).stat().st_size > 1000
    facts = read_surface(tmp_path / "s.h5").provenance
    assert facts["model"] == "mlp"
    assert facts["data"] == "digits"
    assert len(facts["checkpoint_sha256"]) == 64


def test_a_users_own_model_data_and_loss(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net(width=4):\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))\n"
        "def data():\n    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))\n"
        "    return x, x.sum(1, keepdim=True)\n"
        "def loss(outputs, targets):\n    return (outputs - targets).abs().mean()\n"
        "if __name__ == '__main__':\n    torch.save(net(6).state_dict(), 'w.pt')\n"
    )
    import subprocess

    subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, check=True)
    done = call(
        "compute", "--weights", "w.pt", "--model", "mine.py:net", "--model-arg", "width=6", "--data", "mine.py:data",
        "--loss", "mine.py:loss", "--curve", "--x=-1:1:5", "-o", "c.h5", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    surface = read_surface(tmp_path / "c.h5")
    assert list(surface.metrics) == ["train_loss"]  # real targets have no accuracy
    assert call("render", "c.h5", "c.svg", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_the_demo_runs_and_a_second_run_re_uses_everything(tmp_path, monkeypatch):
    arguments = ["demo", "-o", "d", "--grid", "5", "--train", "--epochs", "1", "--samples", "32"]
    first = run(*arguments, cwd=tmp_path, timeout=600)
    assert first.returncode == 0, first.stderr
    assert "roughness" in first.stdout
    picture = (tmp_path / "d" / "figure1.png").stat().st_size
    assert picture > 10_000
    done, start = [], processes.run

    def within(command, **options):
        """A step of the second run, within this process; other programs are run as they are."""
        if "-m" not in command:
            return start(command, **options)
        done.append(call(*command[command.index("paraloss") + 1 :]))
        print(done[-1].stdout, done[-1].stderr, file=sys.stderr)
        return done[-1]

    monkeypatch.setattr(processes, "run", within)
    second = call(*arguments, cwd=tmp_path)
    assert second.returncode == 0
    assert [step.args[0] for step in done] == [*["train", "compute", "convert", "convert"] * 2, "render"]
    assert "training:" not in second.stderr
    assert "resuming: 25 of 25" in second.stderr


@pytest.mark.slow
def test_a_growing_file_is_drawn_again_until_it_is_complete(tmp_path):
    import subprocess
    import time

    import numpy as np
    from helpers import BIN, surface_of

    from paraloss import Surface, write_surface

    whole = surface_of(lambda x, y: 1 + x**2 + y**2, 9, 9)
    status = np.zeros((9, 9), np.uint8)
    status[::2, ::2] = 1
    write_surface(Surface(whole.x, whole.y, whole.metrics, status), tmp_path / "s.h5")
    command = [str(BIN / "paraloss"), "render", "s.h5", "s.png", "--watch", "--backend", "pyvista", "--size", "200x150"]
    job = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert job.stdout.readline().strip() == "s.png"
        assert job.poll() is None  # waits for more
        time.sleep(0.1)
        write_surface(whole, tmp_path / "s.h5")
        _, told = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 0
    assert "25 of 81 points are there, drawn on a grid of 5×5" in told


def test_analyze_prints_a_table_and_json_that_agree(tmp_path):
    import json

    from helpers import surface_of

    surface_of(lambda x, y: 1 + x**2 + 2 * y**2, 9, 9).save(tmp_path / "a.h5")
    surface_of(lambda x, y: 1 + x**2 + 2 * y**2, 9, 7).save(tmp_path / "b.h5")
    table = call("analyze", "a.h5", "b.h5", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "do not compare them: surface 2 has other steps" in table.stdout
    found = json.loads(call("analyze", "a.h5", "--json", cwd=tmp_path).stdout)
    assert found["surfaces"]["a.h5"]["minimum"] == 1.0
    assert call("analyze", "none.h5", cwd=tmp_path).returncode == 2
