"""Facts of other types than ours are left out with a line, and every verb goes on; paths that are none are one line."""

import json

import h5py
import numpy as np
import pytest
from helpers import call, surface_of

NAMES = (
    "model", "model_args", "data", "checkpoint", "criterion", "precision", "device", "command", "trained", "samples",
    "samples_of", "still", "tuning", "sampling", "options", "seed", "ranks", "batch_norms_folded", "relus_fused", "directions",
    "not_folded", "explained_variance_ratio", "weights_key", "torch_version", "paths", "ensemble", "difference",
    "draw_dependence",
)  # fmt: skip
VERBS = [
    ["info", "s.h5"],
    ["analyze", "s.h5", "s.h5"],
    ["render", "s.h5", "p.png", "--style", "filled", "--overwrite"],
    ["render", "s.h5", "s.h5", "q.html", "--overwrite"],
    ["convert", "s.h5", "s.vts", "--overwrite"],
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [5, "x$_{", [1, "a", None], {"a": [1], "test_acc": "much", "names": 3, "tensors": "two"}, None, True, [], "", 1e308],
)
def test_facts_of_other_types_do_no_harm(tmp_path, value):
    surface_of(lambda x, y: 0.1 + x**2 + y**2, 5, 5).save(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["provenance"] = json.dumps(dict.fromkeys(NAMES, value))
    for verb in VERBS:
        done = call(*verb, cwd=tmp_path)
        assert done.returncode == 0, (verb, done.stderr)
        assert "internal error" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("group", ["trajectory", "trajectories/0"])
@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ({"x": 7, "y": 4}, "x has 7, y has 4"),
        ({"x": 3, "y": 3, "loss": 9}, "loss has 9, x has 3, y has 3"),
        ({"x": 3, "loss": 3}, "it has no y"),
        ({}, "it has no x"),
    ],
)
def test_a_path_whose_arrays_do_not_belong_together_is_one_line(tmp_path, group, sizes, line):
    surface_of(lambda x, y: 0.1 + x**2 + y**2, 5, 5).save(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.require_group(group).update({name: np.linspace(0, 0.5, size) for name, size in sizes.items()})
    for verb in VERBS:
        done = call(*verb, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("paraloss: s.h5: "), (verb, done.stderr)
        assert f"'{group}' is no path of one number per checkpoint: {line}" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
