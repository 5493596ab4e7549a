"""What ``compute`` says before it begins, and ``--dry-run``, which stops there."""

import torch
from helpers import call, run

from paraloss.compute import compute_surface, plan_surface

PLANE = ("--x=-1:1:5", "--samples", "60")


def test_a_dry_run_says_what_would_be_computed_and_writes_nothing(trained, tmp_path):
    done = call("compute", "--weights", trained / "final.pt", *PLANE, "-o", tmp_path / "s.h5", "--dry-run")
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "a surface of 5 × 5 = 25 points, y as x; --curve computes a curve; x random, normalized by filter, "
        "y random, normalized by filter, seed 123"
    )
    assert lines[2].startswith("samples: train 60 of ") and lines[2].endswith("loss: cross_entropy")
    assert lines[4].startswith("estimate: ") and " for 25 points; file " in lines[4]
    call("compute", "--weights", trained / "final.pt", *PLANE, "-o", tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    again = call("compute", "--weights", trained / "final.pt", *PLANE, "-o", tmp_path / "s.h5", "--dry-run")
    assert again.stdout.splitlines()[-2:] == ["resuming: 25 of 25 points are finished already", "nothing is left to compute"]
    assert (tmp_path / "s.h5").read_bytes() == before


def test_a_dry_run_on_two_ranks_speaks_once(trained, tmp_path):
    done = run("compute", "--weights", trained / "final.pt", *PLANE, "-o", tmp_path / "s.h5", "--dry-run", ranks=2)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    assert len(done.stdout.splitlines()) == 5 and "2 ranks" in done.stdout


def test_the_plan_counts_what_moves_and_how_large_the_file_will_be(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.ReLU(), torch.nn.Linear(200, 3))
    data = torch.randn(20, 300), torch.randint(0, 3, (20,))
    options = {"x": (-1, 1, 3), "y": (-1, 1, 4), "move": "0.*", "progress": False}
    lines = plan_surface(model, "cross_entropy", data, **options)
    assert lines[1] == "model: Sequential, 60,000 of 60,803 parameters move"  # biases do not move
    size = 1e6 * float(lines[-1].split("; file ")[1].split()[0])
    compute_surface(model, "cross_entropy", data, **options, path=tmp_path / "s.h5")
    assert abs(size - (tmp_path / "s.h5").stat().st_size) < 0.2 * size
