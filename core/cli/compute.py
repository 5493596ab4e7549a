"""``paraloss compute``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer", "none"]


def compute(
    *,
    weights: Path,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("surface.h5"),
    model: str | None = None,
    data: str | None = None,
    x: str = "-1:1:51",
    y: str | None = None,
    z: str | None = None,
    model_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    data_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    loss: str | None = None,
    x_to: Path | None = None,
    y_to: Path | None = None,
    z_to: Path | None = None,
    directions: Path | None = None,
    norm: Norm = "filter",
    y_norm: Norm | None = None,
    ignore: Literal["biasbn", "none"] = "biasbn",
    dir_type: Literal["weights", "states"] | None = None,
    seed: int = 123,
    splits: str | None = None,
    metrics: str = "loss,acc",
    bn: Literal["keep", "recompute"] = "keep",
    samples: int | None = None,
    precision: Literal["auto", "fp64", "fp32", "tf32", "bf16", "fp16"] = "auto",
    precision_bound: float = 1e-3,
    rtol: float | None = None,
    loss_cap: float | None = None,
    refine: float | None = None,
    split_data: int | None = None,
    point_timeout: float | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    repeats: int = 1,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Compute a loss surface (or a curve, without --y) around a checkpoint; the same command finishes a partial file.

    Example: mpiexec -n 4 paraloss compute --weights runs/r56/final.pt --x=-1:1:51 --y=-1:1:51 -o surface.h5

    Args:
        weights: Checkpoint at the center: a state_dict, or a dict with the key state_dict.
        output: Surface file to write, or to finish.
        model: Built-in name, file.py:callable or package.module:callable. Default: the built-in name in the checkpoint.
        data: digits, mnist5k, cifar10, fashion-mnist, cifar100:DIR, npz:FILE or file.py:callable. Default: as --model.
        x: Steps along x as FIRST:LAST:NUMBER; write --x=-1:1:51, with the equals sign.
        y: The same along y; without it a curve is computed.
        z: The same along a third direction: a volume.
        model_arg: Option of the model as name=value; may be repeated.
        data_arg: Option of your own data callable as name=value; may be repeated.
        loss: cross_entropy, mse, softmax_mse or file.py:callable. Default: the built-in one that the checkpoint records, else
            cross_entropy.
        x_to: Checkpoint that lies at x = 1; without it x is a random direction.
        y_to: Checkpoint that lies at y = 1.
        z_to: Checkpoint that lies at z = 1.
        directions: Take the directions of another surface file, or of a direction file of Li et al.'s code.
        norm: Normalization of random directions.
        y_norm: The same for y only; default: as --norm.
        ignore: biasbn leaves biases and batch norm still in random directions; none moves them.
        dir_type: weights moves parameters, states batch-norm statistics too. Default: states with --x-to or --y-to.
        seed: Of the random directions.
        splits: Splits to evaluate, as in train,test. Default: train.
        metrics: What to tell at each point: loss, acc, grad_norm (of the gradient), hessian (smallest and largest eigenvalue).
        bn: recompute estimates batch-norm statistics anew from the training data at each point.
        samples: Draw this many samples of each split, the same at every point. Default: all.
        precision: auto takes the fastest whose losses at nine points differ from fp32's by less than the bound.
        precision_bound: Largest relative difference that auto accepts.
        rtol: Take as few samples at each point as bring the loss's standard error below this share of it, as in 0.01.
        loss_cap: Leave a point early when its loss is clearly above this.
        refine: Evaluate only where the surface bends, interpolate where that errs by less than this share of its height.
        split_data: Ranks that share the samples of one point. Default: 1, more when there are fewer points than ranks.
        point_timeout: End the job, with what is finished kept, when a point takes longer than this many seconds.
        device: auto, cpu, cuda or cuda:N; auto gives each rank the GPU of its local rank.
        batch_size: Samples at once; chosen by their size when it is not given.
        repeats: Repeat over this many random planes (seeds from --seed on); OUTPUT then holds their mean and spread, and
            each plane's surface lies beside it.
        overwrite: Start again where the file exists.
    """
    from functools import partial

    from paraloss.cli.options import parse_axis
    from paraloss.compute import compute_surface
    from paraloss.compute.directions.files import load_directions
    from paraloss.compute.ensemble import compute_ensemble
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.ranks.world import on_all_ranks, world
    from paraloss.errors import InputError

    for name, value in (("samples", samples), ("batch-size", batch_size), ("repeats", repeats)):
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    axes = {name: parse_axis(text, name) for name, text in (("x", x), ("y", y), ("z", z)) if text is not None}
    for name, target in (("y", y_to), ("z", z_to)):
        if target is not None and name not in axes:
            raise InputError(f"--{name}-to needs --{name}, as in --{name}=-0.5:1.5:51")
    if repeats > 1 and (directions is not None or (x_to is not None and (y is None or y_to is not None))):
        raise InputError("--repeats draws other random directions each time; here none is random")
    comm = world()
    network, data_set, loss, facts = on_all_ranks(
        comm, lambda: load_all(weights, model, model_arg or [], data, data_arg or [], loss)
    )
    given = None if directions is None else on_all_ranks(comm, lambda: load_directions(directions, network))
    work: Any = compute_surface if repeats == 1 else partial(compute_ensemble, repeats=repeats)
    work(
        network,
        loss,
        data_set,
        **axes,
        x_to=x_to,
        y_to=y_to,
        z_to=z_to,
        directions=given,
        norm=(norm, y_norm or norm),
        ignore=ignore,
        dir_type=dir_type,
        seed=seed,
        splits=splits.split(",") if splits else None,
        metrics=[name.strip() for name in metrics.split(",")],
        bn=bn,
        samples=samples,
        precision=precision,
        precision_bound=precision_bound,
        rtol=rtol,
        loss_cap=loss_cap,
        refine=refine,
        split_data=split_data,
        point_timeout=point_timeout,
        device=device,
        batch_size=batch_size,
        path=output,
        overwrite=overwrite,
        provenance=facts,
    )
    if comm is None or comm.rank == 0:
        print(output)
