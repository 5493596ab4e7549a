"""``paraloss project``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def project(
    *checkpoints: Path,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("trajectory.h5"),
    onto: Path | None = None,
    method: Literal["lstsq", "cos"] = "lstsq",
    dir_type: Literal["weights", "states"] = "weights",
    ignore: Literal["biasbn", "none"] = "none",
    points: int = 51,
    margin: float = 0.2,
    model: str | None = None,
    data: str | None = None,
    model_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    data_arg: Annotated[list[str] | None, Parameter(negative="")] = None,
    loss: str | None = None,
    samples: int | None = None,
    precision: Literal["auto", "fp64", "fp32", "tf32", "bf16", "fp16"] = "auto",
    rtol: float | None = None,
    refine: float | None = None,
    device: str = "auto",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw a run's path: its plane by PCA, each checkpoint in it with its own loss, and the surface over that plane.

    Example: paraloss project runs/r56 -o path.h5 && paraloss render path.h5 path.pdf

    Args:
        checkpoints: A folder of paraloss train, or checkpoints in the order of training; the last is the center.
        output: Surface file with the trajectory; partial files are finished.
        onto: Project onto the directions of this file (ours, or Li et al.'s direction file) instead of PCA's.
        method: lstsq, or cos to match the numbers of Li et al.'s code.
        dir_type: weights, or states for batch-norm statistics too.
        ignore: biasbn leaves biases and batch norm out of the PCA.
        points: Steps along each axis.
        margin: Room around the path, as a share of its extent.
        model: As in compute.
        data: As in compute.
        model_arg: As in compute.
        data_arg: As in compute.
        loss: As in compute.
        samples: As in compute.
        precision: As in compute.
        rtol: As in compute.
        refine: As in compute.
        device: As in compute.
        overwrite: Start again where the file exists.
    """
    import numpy as np

    from paraloss.compute import compute_surface, load_criterion
    from paraloss.compute.directions.files import load_directions
    from paraloss.compute.inputs.load import load_all
    from paraloss.compute.ranks.devices import rank_device
    from paraloss.compute.ranks.world import on_all_ranks, on_first_rank, world
    from paraloss.compute.trajectory import axes_around, own_losses, principal_plane, project_onto
    from paraloss.errors import InputError
    from paraloss.progress import say

    if points < 3 or not 0 <= margin <= 10:
        raise InputError("--points must be at least 3, --margin between 0 and 10")
    comm = world()
    paths = on_all_ranks(comm, lambda: _in_order(checkpoints))
    network, data_set, loss, facts = on_all_ranks(
        comm, lambda: load_all(paths[-1], model, model_arg or [], data, data_arg or [], loss)
    )
    split = "train" if "train" in data_set else next(iter(data_set))

    def find():  # type: ignore[no-untyped-def]
        if onto is None:
            if method == "cos":
                raise InputError("--method cos is for --onto: along principal directions it is the same as lstsq")
            found = principal_plane(network, paths, dir_type, ignore)
        else:
            given = load_directions(onto, network)
            if len(given) < 2:
                raise InputError(f"{onto}: holds one direction; a trajectory needs two")
            found = project_onto(network, paths, (given[0], given[1]), method, dir_type)
        chosen = {split: data_set[split].subset(samples)}
        losses = own_losses(network, paths, load_criterion(loss)[1], chosen, rank_device(device, None))
        return found, losses

    projection, losses = on_first_rank(comm, find)
    if comm is None or comm.rank == 0:
        if projection.explained:
            x_share, y_share = (100 * share for share in projection.explained)
            say(f"explained variance: x {x_share:.1f} %, y {y_share:.1f} %")
        farthest = 100 * projection.residual.max() / max(np.hypot(projection.x, projection.y).max(), 1e-300)
        say(f"{len(paths)} checkpoints, up to {farthest:.0f} % of the path's extent away from the plane")
    x, y = axes_around(projection, points, margin)
    compute_surface(
        network,
        loss,
        data_set,
        x=x,
        y=y,
        directions=projection.directions,
        splits=[split],
        samples=samples,
        precision=precision,
        rtol=rtol,
        refine=refine,
        device=device,
        path=output,
        overwrite=overwrite,
        trajectory={
            "x": projection.x,
            "y": projection.y,
            "loss": losses,
            "step": np.arange(len(paths), dtype=float),
            "residual": projection.residual,
        },
        provenance={**facts, "explained_variance_ratio": list(projection.explained), "projection": method},
    )
    if comm is None or comm.rank == 0:
        print(output)


def _in_order(checkpoints: tuple[Path, ...]) -> list[Path]:
    """The files named, or those of a folder: epoch_000.pt, epoch_001.pt …"""
    from paraloss.errors import InputError

    if len(checkpoints) == 1 and checkpoints[0].is_dir():
        found = sorted(checkpoints[0].glob("epoch_*.pt"))
        if not found:
            raise InputError(f"{checkpoints[0]}: holds no epoch_*.pt; name the checkpoints one by one")
        return found
    if len(checkpoints) < 3:
        raise InputError("name a folder of paraloss train, or three checkpoints at least in the order of training")
    return list(checkpoints)
