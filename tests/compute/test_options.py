"""Every option is one field: a flag with help, a keyword, a fact in the file; and files of the first version are finished."""

import pickle
import re
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

from paraloss.cli import flag, main
from paraloss.compute import compute_ensemble, compute_surface
from paraloss.compute.options import connected
from paraloss.compute.options import runs as run_options
from paraloss.compute.options import surface as options
from paraloss.compute.settings import resolve
from paraloss.compute.training import train
from paraloss.errors import InputError, SurfaceFileError
from paraloss.option import Options, combine, option
from paraloss.surface import DONE

SOURCE = Path(__file__).resolve().parents[2]
SURFACE, TRAJECTORY = options.SurfaceOptions, run_options.TrajectoryOptions
VERBS = {
    "compute": (options.InputOptions, SURFACE),
    "project": (options.InputOptions, TRAJECTORY),
    "hessian": (options.InputOptions,),
    "train": (run_options.TrainOptions,),
    "align": (options.InputOptions, connected.AlignOptions),
    "connect": (options.InputOptions, connected.ConnectOptions),
}
KEYWORDS = {
    SURFACE: options.SurfaceKeywords,
    TRAJECTORY: run_options.TrajectoryKeywords,
    run_options.TrainOptions: run_options.TrainKeywords,
    connected.AlignOptions: connected.AlignKeywords,
    connected.ConnectOptions: connected.ConnectKeywords,
}
# Files begun by the first version, second row pending: tests/compute/begun/NAME.h5, and that version's losses in that row.
BEGUN = {
    "plain": ({"x": (-1, 1, 3), "y": (-1, 1, 2)}, [1.12619163, 1.21613228, 1.54090571]),
    "asked": (
        {
            "x": (-1, 1, 3), "y": (-1, 1, 2), "norm": ("layer", "none"), "splits": ["train", "test"],
            "metrics": ["loss", "grad_norm"], "bn": "recompute", "samples": 8, "seed": 7, "precision": "fp32", "ignore": "none",
            "batch_size": 4,
        },
        [1.53935288, 1.42707398, 1.69201396],
    ),
}  # fmt: skip


def net():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    with torch.no_grad():
        for number, tensor in enumerate(model.parameters()):
            tensor.copy_((torch.arange(tensor.numel()).reshape(tensor.shape) * (number + 3) % 7 - 3) / 8)
    return model.eval()


def data():
    inputs = (torch.arange(12 * 16).reshape(12, 1, 4, 4) * 5 % 11 - 5) / 4
    return {"train": (inputs, torch.arange(12) % 3), "test": (inputs[:4] + 1, torch.arange(4) % 3)}


def names(*kinds):
    return {one.name for kind in kinds for one in fields(kind)}


@pytest.mark.parametrize("verb", VERBS)
def test_every_field_is_a_flag_with_help(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    assert "Example: " in shown
    for name in names(*VERBS[verb]):
        assert re.search(rf" {flag(name)} [^\n]*?  +\w", shown), f"{name} has no flag or no docstring"


@pytest.mark.parametrize("kind", KEYWORDS)
def test_every_field_is_a_keyword_of_the_same_type(kind):
    assert get_type_hints(KEYWORDS[kind]) == get_type_hints(kind)


def test_every_field_is_a_fact_in_the_file_and_a_keyword_of_the_function():
    given = {one.name: one.default for one in fields(SURFACE)} | {"x": (-1, 1, 2), "progress": False}
    facts = compute_surface(net(), data=data(), **given).provenance["options"]
    assert set(facts) == names(SURFACE)
    assert facts["x"] == [-1, 1, 2]
    assert facts["metrics"] == "loss,acc"


def test_an_option_touches_two_files():
    """The proof for CONTRIBUTING: the name of one occurs where it is defined and where it is used."""
    folders = ("core", "compute", "converters", "rendering", "paraview_plugin")
    files = [path for folder in folders for path in (SOURCE / folder).rglob("*.py")]
    found = {path.relative_to(SOURCE).as_posix() for path in files if re.search(r"\bpoint_timeout\b", path.read_text())}
    assert "compute/options/surface.py" in found
    assert len(found) == 2, found


@pytest.mark.parametrize("name", BEGUN)
def test_a_file_of_the_first_version_is_finished(name, tmp_path):
    keywords, expected = BEGUN[name]
    path = tmp_path / "s.h5"
    shutil.copy(Path(__file__).parent / "begun" / f"{name}.h5", path)
    surface = compute_surface(net(), "cross_entropy", data(), path=path, progress=False, **keywords)
    assert (surface.status == DONE).all()
    np.testing.assert_allclose(surface.metrics["train_loss"][1], expected, rtol=1e-6)
    with pytest.raises(SurfaceFileError, match="other settings: directions"):
        compute_surface(net(), "cross_entropy", data(), path=path, progress=False, **{**keywords, "seed": 8})


def test_a_new_option_that_decides_values_is_compared_only_where_it_is_not_the_default():
    @dataclass(frozen=True, kw_only=True)
    class Wider(SURFACE):
        step: float = option(0.0, decides=True)

    without = resolve(net(), "mse", data(), SURFACE()).fingerprint()
    assert resolve(net(), "mse", data(), Wider()).fingerprint() == without
    assert resolve(net(), "mse", data(), Wider(step=0.5)).fingerprint() == {**without, "step": 0.5}


def test_groups_and_keywords_give_the_same_surface_and_keywords_win():
    by_name = compute_surface(net(), "cross_entropy", data(), curve=True, x=(-1, 1, 3), seed=5, splits="test", progress=False)
    plane, measure = options.PlaneOptions(curve=True, x=(-1, 1, 3), seed=4), options.MeasureOptions(splits=("test",))
    grouped = compute_surface(net(), "cross_entropy", data(), plane, measure, seed=5, progress=False)
    np.testing.assert_array_equal(grouped.metric("test_loss"), by_name.metric("test_loss"))


def test_a_volumes_z_has_a_normalization_of_its_own():
    surface = compute_surface(
        net(), data=data(), x=(0, 1, 2), y=(0, 1, 2), z=(0, 1, 2), ignore="none", z_norm="none", seed=3, progress=False
    )
    generator = torch.Generator().manual_seed(3)
    draws = [{name: torch.randn(tensor.shape, generator=generator) for name, tensor in net().named_parameters()} for _ in "xyz"]
    for name, weight in net().named_parameters():
        if weight.ndim > 1:
            np.testing.assert_array_equal(surface.directions["z"][name], draws[2][name])  # the plain Gaussian
            scale = torch.stack([w.norm() / d.norm() for w, d in zip(weight, draws[1][name], strict=True)])
            expected = draws[1][name] * scale.detach().reshape(-1, *[1] * (weight.ndim - 1))
            np.testing.assert_allclose(surface.directions["y"][name], expected, rtol=1e-5)  # filter, as x


WRONG = [
    ({"z": (-1, 1, 3), "curve": True}, "curve runs along x alone: leave out z", "--curve runs along x alone: leave out --z"),
    ({"split_data": 0}, "split_data must be at least 1, not 0", "--split-data must be at least 1, not 0"),
    ({"batch_size": 2.5}, "batch_size must be a whole number, not 2.5", "--batch-size must be a whole number"),
    ({"batch_size": True}, "batch_size must be a whole number, not True", "--batch-size"),
    ({"rtol": float("nan")}, "rtol must be a finite number, not nan", "--rtol"),
    ({"rtol": "0.1"}, "rtol must be a finite number, not '0.1'", "--rtol"),
    ({"norm": ("filter", "kernel")}, "y_norm must be 'filter', .* or 'none', not 'kernel'", "--y-norm"),
    ({"device": None}, "device must be given, not None", "--device"),
    ({"x": "1:0:3"}, "x=1:0:3: give FIRST:LAST:NUMBER", "--x=1:0:3"),
    ({"x": [0, None]}, "x must be two or more finite, increasing steps", "--x must"),
    ({"z_to": {}}, "z_to requires z, as in z=-0.5:1.5:51", "--z-to requires --z, as in --z="),
    ({"y": (0, 1, 2), "z": (0, 1, 2), "loss_cap": 1}, "leave out loss_cap", "leave out --loss-cap"),
    ({"metrics": "hessian", "split_data": 2}, "leave out split_data", "leave out --split-data"),
]


@pytest.mark.parametrize(("keywords", "in_python", "on_the_command_line"), WRONG)
def test_errors_name_the_argument_in_python_and_the_flag_on_the_command_line(keywords, in_python, on_the_command_line):
    with pytest.raises(InputError, match=in_python) as caught:
        compute_surface(net(), data=data(), **keywords)
    assert "{" not in str(caught.value)
    assert on_the_command_line in caught.value.worded(flag)
    again = pickle.loads(pickle.dumps(caught.value))  # as between the ranks of a job
    assert again.worded(flag) == caught.value.worded(flag)


def test_braces_in_what_a_user_wrote_stay_as_they_are():
    error = InputError("{path}: no such file {x}; choose another {y}", arguments=("y",))
    assert error.worded(flag) == "{path}: no such file {x}; choose another --y"


def test_an_unknown_option_is_a_type_error_that_suggests_only_what_is_close():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'sample'; did you mean samples\?$"):
        compute_surface(net(), data=data(), sample=3)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'qzx'$"):
        compute_surface(net(), data=data(), qzx=3)
    with pytest.raises(TypeError, match="not ProjectionOptions"):
        compute_surface(net(), "cross_entropy", data(), run_options.ProjectionOptions())
    with pytest.raises(TypeError, match=r"train\(\) got an unexpected keyword argument 'epoch'; did you mean epochs\?"):
        train(net(), data(), "unused", epoch=3)


def test_an_ensemble_refuses_what_leaves_nothing_to_draw(tmp_path):
    with pytest.raises(InputError, match="none is random"):
        compute_ensemble(net(), "cross_entropy", data(), x_to=net(), repeats=3, path=tmp_path / "e.h5")
    with pytest.raises(InputError, match="requires path"):
        compute_ensemble(net(), "cross_entropy", data(), repeats=3)


def test_combine_takes_the_later_of_two_groups():
    @dataclass(frozen=True, kw_only=True)
    class Group(Options):
        number: int = 1

    assert combine(Group, [Group(number=2), Group(number=3)], {}, "f") == Group(number=3)
    assert combine(Group, [Group(number=2)], {"number": 4}, "f") == Group(number=4)


@pytest.mark.parametrize(
    ("keywords", "shape"),
    [
        ({"x": (-1, 1, 3)}, (3, 3)),
        ({"x": (-1, 1, 3), "y": (0, 1, 2)}, (2, 3)),
        ({"x": (-1, 1, 3), "curve": True}, (3,)),
        ({"x": (0, 1, 3), "x_to": "END"}, (3,)),
        ({"x": (0, 1, 3), "x_to": "END", "y": (-1, 1, 2)}, (2, 3)),
        ({"x": (0, 1, 3), "x_to": "END", "y_to": "END2"}, (3, 3)),
        ({"x": (0, 1, 2), "z": (0, 1, 3)}, (3, 2, 2)),
        ({"x": (0, 1, 3), "directions": 1}, (3,)),
        ({"x": (0, 1, 3), "directions": 2}, (3, 3)),
    ],
)
def test_a_surface_is_computed_unless_a_curve_is_asked_for_or_all_that_is_named(keywords, shape, caplog):
    model = net()
    ends = {"END": {name: 2 * tensor for name, tensor in model.state_dict().items()}}
    ends["END2"] = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    given = {name: ends.get(value, value) if isinstance(value, str) else value for name, value in keywords.items()}
    if "directions" in given:
        given["directions"] = [
            {name: torch.randn_like(p) for name, p in model.named_parameters()} for _ in range(given["directions"])
        ]
    with caplog.at_level("INFO", logger="paraloss"):
        surface = compute_surface(model, "cross_entropy", data(), **given)
    assert surface.metric().shape == shape
    kind = ("curve", "surface", "volume")[len(shape) - 1]
    sides = " × ".join(str(side) for side in shape[::-1])
    line = next(line for line in caplog.messages if line.startswith(f"a {kind} of {sides} "))
    assert ("--" in line) == ("y" not in given and "curve" not in given)
    if len(shape) > 1 and "y" not in given:
        np.testing.assert_array_equal(surface.y, surface.x)
