"""Every bad input gets one line on standard error, exit code 2, and leaves nothing behind."""

import re

import numpy as np
import pytest
from helpers import call, surface_of

CASES = [
    (["compute", "--weights", "none.pt"], "none.pt: no such checkpoint"),
    (["compute", "--weights", "RUN/final.pt", "--x=-1:1"], "--x=-1:1: give FIRST:LAST:NUMBER"),
    (["compute", "--weights", "RUN/final.pt", "--x=1:-1:5"], "FIRST < LAST"),
    (["compute", "--weights", "RUN/final.pt", "--x=-1:1:1"], "two points"),
    (["compute", "--weights", "RUN/final.pt", "--x=a:b:c"], "FIRST:LAST:NUMBER"),
    (["compute", "--weights", "RUN/final.pt", "--model", "resnet21"], "unknown model 'resnet21'"),
    (["compute", "--weights", "RUN/final.pt", "--data", "diggits"], "unknown data set"),
    (["compute", "--weights", "RUN/final.pt", "--norm", "kernel"], "kernel"),
    (["compute", "--weights", "RUN/final.pt", "--samples", "0"], "--samples"),
    (["compute", "--weights", "RUN/final.pt", "--precision", "fp8"], "fp8"),
    (["compute", "--weights", "RUN/final.pt", "--precision", "tf32", "--device", "cpu"], "NVIDIA"),
    (["compute", "--weights", "RUN/final.pt", "--x-to", "none.pt"], "none.pt: no such"),
    (["compute", "--weights", "RUN/final.pt", "--model-arg", "depth"], "name=value"),
    (["compute", "--weights", "RUN/final.pt", "-o", "text.h5"], "not an HDF5 file"),
    (["compute", "--weights", "RUN/final.pt", "--metrics", "loss,speed"], "unknown metric 'speed'"),
    (["compute", "--weights", "RUN/final.pt", "--repeats", "0"], "--repeats must be at least 1"),
    (["compute"], "weights"),
    (["hessian", "--weights", "RUN/final.pt", "-o", "h.txt"], "unknown ending '.txt'"),
    (["hessian", "--weights", "RUN/final.pt", "-o", "h.png", "--no-density"], "a picture shows the density"),
    (["hessian", "--weights", "none.pt"], "none.pt: no such checkpoint"),
    (["histogram", "RUN/final.pt"], "name what to write last"),
    (["analyze", "s.h5", "--persistence", "2"], "share of the height"),
    (["info", "--repair", "text.h5"], "is not an HDF5 file"),
    (["view"], "name at least one surface file"),
    (["view", "none.h5", "--web"], "no such file"),
    (["convert", "none.h5", "s.vts"], "none.h5: no such file"),
    (["convert", "s.h5", "s.xyz"], "unknown ending '.xyz'"),
    (["convert", "s.h5", "s.vts", "--metric", "loss"], "no metric 'loss'"),
    (["render", "s.h5"], "name what to write last"),
    (["render", "none.h5", "s.png"], "no such file"),
    (["render", "s.h5", "p.png", "--size", "huge"], "WIDTHxHEIGHT"),
    (["render", "s.h5", "p.png", "--view", "side"], "unknown view"),
    (["render", "s.h5", "p.png", "--look", "neon"], "unknown look 'neon'"),
    (["render", "s.h5", "p.png", "--difference"], "takes two surfaces"),
    (["render", "s.h5", "p.png", "--smooth", "0"], "--smooth 0"),
    (["render", "s.h5", "p.png", "--movie", "orbit"], "a movie ends in"),
    (["render", "s.h5", "p.mp4", "--movie", "walk"], "carries a trajectory"),
    (["convert", "s.h5", "s.vti"], "for volumes"),
    (["convert", "s.h5", "s.h5"], "the source itself"),
    (["render", "s.h5", "p.png", "--label", "a", "--label", "b"], "2 labels for 1"),
    (["info", "text.h5"], "not an HDF5 file"),
    (["train", "-o", "r", "--model", "nothing"], "unknown model"),
    (["train", "-o", "r", "--epochs", "0"], "--epochs must be at least 1"),
    (["compute", "--weights", "RUN/final.pt", "--rtol", "2"], "--rtol must lie between 0 and 1"),
    (["compute", "--weights", "RUN/final.pt", "--refine", "0"], "--refine must lie between 0 and 1"),
    (["compute", "--weights", "RUN/final.pt", "--loss-cap", "nan"], "--loss-cap must be a finite number"),
    (["compute", "--weights", "RUN/final.pt", "--z=-1:1:3", "--curve"], "--curve runs along x alone: leave out --z"),
    (["compute", "--weights", "RUN/final.pt", "--z-to", "RUN/final.pt"], "--z-to requires --z"),
    (["compute", "--weights", "RUN/final.pt", "--point-timeout", "0"], "--point-timeout must be above 0"),
    (["compute", "--weights", "RUN/final.pt", "--batch-size", "2.5"], '--batch-size: "2.5" is not a whole number'),
    (["compute", "--weights", "RUN/final.pt", "--batch-size", "0"], "--batch-size must be at least 1"),
    (["compute", "--weights", "RUN/final.pt", "--split-data", "two"], '--split-data: "two" is not a whole number'),
    (["compute", "--weights", "RUN/final.pt", "--seed", "1e3"], '--seed: "1e3" is not a whole number'),
    (
        ["compute", "--weights", "RUN/final.pt", "--metrics", "hessian", "--rtol", "0.1"],
        "hessian: .* leave out --rtol",
    ),
    (["compute", "--weights", "RUN/final.pt", "--sample", "9"], "unknown option --sample; did you mean --samples\\?"),
    (["compute", "--weights", "RUN/final.pt", "--qzx", "9"], "unknown option --qzx. See: paraloss compute --help"),
    (["compute", "--weights", "RUN/final.pt", "--norm", "filtr"], 'Choose from: "filter", .*"none". See'),
    (["project", "RUN", "--method", "cos"], "--method cos requires --onto"),
    (["project", "RUN", "--points", "2"], "--points must be at least 3"),
    (["hessian", "--weights", "RUN/final.pt", "--top", "0"], "--top must be at least 1"),
    (["info", "s.h5", "s.h5"], "s.h5: not expected here"),
    (["comput"], "unknown command 'comput'; did you mean compute\\?"),
    (["dance"], "unknown command 'dance'; there are demo, data"),
]

# These end only after the model has been made; `make check` takes a few such above.
DEEPER = [
    (["compute", "--weights", "RUN/final.pt", "--model", "mlp"], "checkpoint of another model"),
    (["compute", "--weights", "RUN/final.pt", "--model", "resnet32"], "checkpoint of another model"),
    (["compute", "--weights", "RUN/final.pt", "--data", "npz:flat.npz"], "another model|cannot"),
    (["compute", "--weights", "RUN/final.pt", "--data", "npz:wide.npz"], "'conv1.weight' is|cannot take"),
    (["compute", "--weights", "RUN/final.pt", "--loss", "hinge"], "unknown loss"),
    (["compute", "--weights", "RUN/final.pt", "--splits", "valid"], "no split 'valid'"),
    (["compute", "--weights", "RUN/final.pt", "--device", "cuda:77"], "cuda"),
    (["compute", "--weights", "RUN/final.pt", "--device", "toaster"], "unknown device"),
    (["compute", "--weights", "RUN/final.pt", "-o", "no/where.h5"], "no does not exist"),
    (["compute", "--weights", "RUN/final.pt", "--repeats", "3", "--x-to", "RUN/epoch_001.pt"], "none is random"),
    (["compute", "--weights", "RUN/final.pt", "--model", "timm:"], "unknown model|no module"),
    (["train", "-o", "text.h5/r"], "cannot make this folder"),
]


@pytest.mark.parametrize(("arguments", "told"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in DEEPER)])
def test_one_line_exit_2_nothing_left(arguments, told, trained, tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    np.savez(tmp_path / "flat.npz", inputs=np.zeros((4, 64)), targets=np.zeros(4, int))
    np.savez(tmp_path / "wide.npz", inputs=np.zeros((4, 3, 8, 8)), targets=np.arange(4))
    surface_of(lambda x, y: x**2 + 1).save(tmp_path / "s.h5")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    done = call(*[argument.replace("RUN", str(trained)) for argument in arguments], cwd=tmp_path)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("paraloss: ")
    assert re.search(told, lines[0]), lines[0]
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
