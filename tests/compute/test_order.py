"""The order of a run's checkpoints: numbers count as numbers, and what a checkpoint records comes before its name."""

import pytest
import torch
from helpers import run

from paraloss.compute import load_model
from paraloss.compute.inputs.order import checkpoints_in_order
from paraloss.errors import InputError


def write(folder, names, **records):
    """A checkpoint a name; ``records`` gives the k-th one's numbers."""
    for k, name in enumerate(names):
        torch.save({"model": {"w": torch.ones(2)}, **{key: values[k] for key, values in records.items()}}, folder / name)


def names_of(paths):
    return [path.name for path in paths]


def test_numbers_in_names_count_as_numbers(tmp_path):
    names = [f"epoch_{k}.pt" for k in range(13)]
    write(tmp_path, [*names, "best.pt", "final.pt"])
    found, how = checkpoints_in_order([tmp_path])
    assert names_of(found) == names
    listed = "epoch_0.pt, epoch_1.pt, epoch_2.pt, …, epoch_11.pt, epoch_12.pt"
    assert how == f"13 checkpoints, by the numbers in their names (left out: best.pt, final.pt): {listed}"


def test_a_shells_order_of_names_is_put_right_and_any_other_order_is_kept(tmp_path):
    names = [f"net-{k}.t7" for k in (8, 9, 10, 11)]
    write(tmp_path, names)
    expanded = sorted(tmp_path.glob("net-*.t7"))
    assert names_of(expanded) == ["net-10.t7", "net-11.t7", "net-8.t7", "net-9.t7"]
    assert names_of(checkpoints_in_order(expanded)[0]) == names
    chosen = [tmp_path / name for name in ("net-9.t7", "net-8.t7", "net-11.t7")]
    assert checkpoints_in_order(chosen)[0] == chosen


def test_several_numbers_count_from_the_left(tmp_path):
    names = ["epoch=2-step=90.ckpt", "epoch=9-step=360.ckpt", "epoch=10-step=400.ckpt"]
    write(tmp_path, names)
    assert names_of(checkpoints_in_order([tmp_path])[0]) == names


def test_what_a_checkpoint_records_comes_first(tmp_path):
    write(tmp_path, ["a.pt", "b.pt", "c.pt"], epoch=[7, torch.tensor(1), 3.0])
    found, how = checkpoints_in_order([tmp_path])
    assert names_of(found) == ["b.pt", "c.pt", "a.pt"]
    assert "by the epoch that they record" in how


def test_no_order_and_two_series_are_not_guessed(tmp_path):
    write(tmp_path, ["a.pt", "b.pt", "c.pt"])
    with pytest.raises(InputError, match="neither record different epochs nor differ by a number"):
        checkpoints_in_order([tmp_path])
    write(tmp_path, ["g_1.pt", "g_2.pt", "d_1.pt", "d_2.pt"])
    with pytest.raises(
        InputError, match=r"several series of checkpoints, d_#.pt, g_#.pt; name the files of one, as in .*d_\*.pt"
    ):
        checkpoints_in_order([tmp_path])
    with pytest.raises(InputError, match="three checkpoints at least"):
        checkpoints_in_order([tmp_path / "a.pt", tmp_path / "b.pt"])


@pytest.mark.slow
def test_project_takes_the_highest_number_for_the_last(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    record = {"model": "mlp", "data": "digits", "loss": "cross_entropy", "classes": 10}
    for k in (8, 9, 10):
        torch.manual_seed(k)
        state = {f"module.{n}": t for n, t in load_model("mlp", (1, 8, 8), 10).state_dict().items()}
        torch.save({"net": state, "paraloss": record}, folder / f"epoch_{k}.pt")
    done = run("project", folder, "--points", "3", "--samples", "8", "-o", tmp_path / "p.h5")
    assert done.returncode == 0, done.stderr
    assert "epoch_8.pt, epoch_9.pt, epoch_10.pt" in done.stderr
    from paraloss.surface import read_surface

    surface = read_surface(tmp_path / "p.h5")
    assert surface.provenance["checkpoint"] == "epoch_10.pt"
    assert (surface.trajectory["x"][-1], surface.trajectory["y"][-1]) == (0, 0)
