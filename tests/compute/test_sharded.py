"""Models spread over processes: two ranks of gloo, against plain loops over the whole model in this process."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import launcher
from torch import nn

from paraloss.compute import compute_surface, load_directions
from paraloss.compute.directions.philox import normals
from paraloss.compute.directions.shards import pieces
from paraloss.surface import PENDING, read_surface

POINTS = ((0.0, 0.0), (0.5, -1.0), (-0.5, 1.0), (0.5, 1.0))
SCRIPT = """
import copy, sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

sys.path[:0] = [{here!r}, {above!r}]
from test_sharded import build, data
from paraloss.compute import compute_surface
from paraloss.errors import ParalossError

dist.init_process_group("gloo")
torch.set_num_threads(1)
mesh = init_device_mesh("cpu", (2,))
GRID = dict(x=(-0.5, 0.5, 3), y=(-1.0, 1.0, 3), progress=False)

def fsdp():
    model = build()
    for layer in (model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)

def tensor_parallel():
    return parallelize_module(build(), mesh, {{"2": ColwiseParallel(), "4": RowwiseParallel()}})

for name, make in (("fsdp", fsdp), ("tp", tensor_parallel)):
    model = make().train()
    before = {{n: p.full_tensor() if hasattr(p, "full_tensor") else p.detach().clone() for n, p in model.named_parameters()}}
    compute_surface(model, "cross_entropy", data(), path=f"{{name}}.h5", **GRID)
    compute_surface(model, "cross_entropy", data(), path=f"{{name}}-none.h5", norm="none", ignore="none", **GRID)
    for n, p in model.named_parameters():
        assert torch.equal(p.full_tensor() if hasattr(p, "full_tensor") else p, before[n]), n
    assert all(module.training for module in model.modules())
refused = []
other = dict(x_to=build())
for options in (dict(generator="li2018"), dict(metrics="loss,grad_norm"), dict(rtol=0.1), other, dict(precision="fp64")):
    try:
        compute_surface(fsdp(), "cross_entropy", data(), **GRID, **options)
    except ParalossError as error:
        refused.append(str(error))
if dist.get_rank() == 0:
    print("REFUSED", len(refused), refused)
    print("TYPES", type(fsdp()[2].weight).__name__)
    import h5py
    with h5py.File("fsdp.h5", "r+") as file:  # as a kill leaves it
        file["status"][1:] = {pending}
        file["train_loss"][1:] = float("nan")
else:
    fsdp()
dist.barrier()
compute_surface(tensor_parallel(), "cross_entropy", data(), path="fsdp.h5", **GRID)  # shared out in another way
dist.destroy_process_group()
"""


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 11))


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 11, (40, 5), generator=generator), torch.randint(0, 11, (40,), generator=generator)


def loss_by_hand(directions, point):
    model = build().eval()
    with torch.no_grad():
        for step, direction in zip(point, directions, strict=True):
            for name, part in direction.items():
                model.get_parameter(name).add_(step * part)
        inputs, targets = data()
        return F.cross_entropy(model(inputs), targets).item()


@pytest.mark.slow
def test_models_of_fsdp_and_of_tensor_parallelism_give_the_losses_of_plain_loops(tmp_path):
    script = tmp_path / "job.py"
    here = Path(__file__).parent
    script.write_text(SCRIPT.format(here=str(here), above=str(here.parent), pending=PENDING))
    command = [*launcher(2, "torch"), sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "TYPES DTensor" in done.stdout
    assert "REFUSED 5" in done.stdout, done.stdout
    for name in ("fsdp", "tp", "fsdp-none", "tp-none"):
        surface = read_surface(tmp_path / f"{name}.h5", directions=True)
        assert surface.is_complete
        assert surface.provenance["in_place"]
        assert surface.provenance["ranks"] == 2
        directions = load_directions(tmp_path / f"{name}.h5", build())
        assert len(directions[0]) == (3 if "none" not in name else 5)
        for point in POINTS:
            expected = loss_by_hand(directions, point)
            assert surface.at(*point)["train_loss"] == pytest.approx(expected, rel=1e-5), (name, point)
    alone = compute_surface(
        build(), "cross_entropy", data(), x=(-0.5, 0.5, 3), y=(-1, 1, 3), generator="philox", progress=False
    )
    for name in ("fsdp", "tp"):
        surface = read_surface(tmp_path / f"{name}.h5")
        np.testing.assert_allclose(surface.metrics["train_loss"], alone.metrics["train_loss"], rtol=1e-6)
        assert surface.provenance["weights_sha256"] == alone.provenance["weights_sha256"]
    with h5py.File(tmp_path / "fsdp.h5") as file:
        assert (file["status"][...] != PENDING).all()


@pytest.mark.parametrize("shape", [(), (13,), (7, 5), (6, 4, 5), (5, 3, 2, 4)])
def test_a_shard_of_any_box_gets_its_part_of_the_numbers(shape):
    """Every box of a tensor, cut into pieces of any size, gives the same numbers as the whole."""

    def numbers(local, box):
        made = torch.zeros(local.shape)
        for piece in pieces(local, box):
            values = piece.shaped(lambda columns, rows=piece.rows: normals(1, (2, 3), rows, columns))
            piece.cut(made).copy_(values)
        return made

    rows = shape[0] if len(shape) > 1 else 1
    whole = normals(1, (2, 3), (0, rows), (0, int(np.prod(shape)) // rows)).reshape(shape)
    assert torch.equal(numbers(torch.zeros(shape), None), whole)
    for axis, size in enumerate(shape):
        for start, stop in ((0, size // 2), (size // 2, size), (1, size), (size, size)):
            index = tuple(slice(start, stop) if k == axis else slice(None) for k in range(len(shape)))
            offset = tuple(start if k == axis else 0 for k in range(len(shape)))
            local = whole[index].contiguous()
            assert torch.equal(numbers(local, (shape, offset)), local)
            assert torch.equal(numbers(local.transpose(0, -1).contiguous().transpose(0, -1), (shape, offset)), local)
