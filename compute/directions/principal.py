"""Checkpoints of one or more runs seen in a plane: principal directions, projection, each checkpoint's distance from the plane.

Principal components of the rows theta_t - theta_center, centered, as in Li et al. 2018, section 7. The rows are never held at
once: all that is needed are their products, summed tensor by tensor from memory-mapped checkpoints.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from paraloss.compute.directions.between import movable
from paraloss.compute.directions.random import Direction
from paraloss.compute.inputs.checkpoints import load_checkpoint
from paraloss.compute.inputs.tensors import distinct_parameters
from paraloss.compute.options.surface import (
    DirectionType,
    Ignore,
)
from paraloss.compute.ranks.wire import sendable
from paraloss.errors import InputError

_BLOCK = 2**24  # numbers of all checkpoints together that are in memory at once


@sendable
@dataclass(frozen=True)
class Projection:
    """Checkpoints in a plane through a center.

    Attributes:
        directions: x and y; float64, orthonormal where they are principal components.
        x: (n,) coordinates of the checkpoints in units of the directions; (0, 0) is the center.
        y: the same along y.
        residual: (n,) Euclidean distance of each checkpoint from the plane.
        explained: share of the centered rows' variance along x and y; empty for directions that were given.
        products: (n, n) inner products of the checkpoints' differences from the center.
        gram: (2, 2) inner products of the directions.
    """

    directions: tuple[Direction, Direction]
    x: np.ndarray
    y: np.ndarray
    residual: np.ndarray
    explained: tuple[float, ...]
    products: np.ndarray
    gram: np.ndarray

    def share_in_plane(self, first: int = 0, last: int | None = None) -> float | None:
        """Share of the variance of checkpoints ``first`` to ``last`` (not included) that lies in the plane, 0 to 1.

        Variance: sum over t of ||theta_t - mean||^2. None where all of them are the same.
        """
        part = slice(first, last)
        rows = self.products[part, part]
        total = float(np.trace(rows) - rows.sum() / len(rows))
        places = np.stack([self.x[part], self.y[part]], axis=1)
        places = places - places.mean(axis=0)
        inside = float(((places @ self.gram) * places).sum())
        return min(max(inside / total, 0.0), 1.0) if total > 1e-12 * max(float(np.trace(rows)), 1e-300) else None


def principal_plane(
    model: nn.Module,
    checkpoints: Sequence[Path],
    dir_type: DirectionType = "weights",
    ignore: Ignore = "none",
    key: str | None = None,
    moving: Collection[str] | None = None,
    center: Path | None = None,
) -> Projection:
    """The plane through a center along the first two principal components of all checkpoints together.

    Args:
        model: decides which tensors count: parameters under ``weights``, running statistics too under ``states``.
        checkpoints: in the order of training, of one run or of several one after the other; each counts the same. Three at
            least.
        dir_type: see above.
        ignore: ``biasbn`` leaves tensors of dimension <= 1 out.
        key: place of the weights in the files; see ``load_checkpoint``.
        moving: names of the tensors that count; None for all.
        center: checkpoint at (0, 0). It moves the plane, not its directions. Default: the last one.

    Raises:
        InputError: too few checkpoints, one of another model, or all on one line.

    Source: Li et al. 2018, section 7.2; scikit-learn's PCA centers the rows in the same way.
    """
    if len(checkpoints) < 3:
        raise InputError(f"a plane requires at least three checkpoints, there are {len(checkpoints)}")
    rows = _Rows(model, checkpoints, dir_type, ignore, key, moving, center)
    products = rows.products()
    if not torch.isfinite(products).all():
        finite = torch.isfinite(products.diagonal()).tolist()  # none is where the center itself is not
        bad = checkpoints[finite.index(False)] if any(finite) and False in finite else center or checkpoints[-1]
        raise InputError(
            f"{bad}: holds weights that are not finite numbers, or too large ones, so that it has no place in a plane"
        )
    centered = products - products.mean(dim=0) - products.mean(dim=1, keepdim=True) + products.mean()
    values, vectors = torch.linalg.eigh(centered)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    if values[1] <= 1e-12 * values[0] or values[0] <= 0:
        raise InputError(
            "the checkpoints lie on one line or in one point, which span no plane; use {x_to} for a line", arguments=("x_to",)
        )
    weights = vectors[:, :2] / values[:2].sqrt()  # R^T u / sqrt(lambda); centering changes nothing, as sum(u) = 0
    signs = torch.sign((products @ weights)[0])  # the path starts at positive coordinates
    weights = weights * torch.where(signs == 0, torch.ones_like(signs), signs)
    directions = rows.combine(weights)
    explained = (values[:2] / values.sum()).tolist()
    return _project(rows, directions, products, "lstsq", tuple(explained))


def project_onto(
    model: nn.Module,
    checkpoints: Sequence[Path],
    directions: tuple[Direction, Direction],
    method: str = "lstsq",
    dir_type: DirectionType = "weights",
    key: str | None = None,
    moving: Collection[str] | None = None,
    center: Path | None = None,
) -> Projection:
    """Project checkpoints onto a plane with directions that are given.

    Args:
        model: as in ``principal_plane``.
        checkpoints: as in ``principal_plane``; any number.
        directions: x and y; tensors that they do not name count as zero.
        method: ``lstsq``, argmin ||x dx + y dy - d||; or ``cos``, <d, dx> / ||dx||, a length and no coordinate unless
            dx has norm 1: only to match the numbers of Li et al.'s code.
        dir_type: as in ``principal_plane``.
        key: as in ``principal_plane``.
        moving: as in ``principal_plane``.
        center: checkpoint at the center of the plane. Default: the last one.

    Raises:
        InputError: a direction does not fit the model, or the two are collinear.
    """
    rows = _Rows(model, checkpoints, dir_type, "none", key, moving, center)
    return _project(rows, directions, rows.products(), method, ())


def _project(
    rows: _Rows, directions: tuple[Direction, Direction], products: Tensor, method: str, explained: tuple[float, ...]
) -> Projection:
    norms = products.diagonal()
    along = torch.zeros(rows.count, 2, dtype=torch.float64)
    gram = torch.zeros(2, 2, dtype=torch.float64)
    for (name, part), block in rows.blocks():
        pair = torch.stack([_flat(direction, name, rows.sizes[name])[part] for direction in directions])
        along += block @ pair.T
        gram += pair @ pair.T
    if method not in ("lstsq", "cos"):
        raise InputError(f"unknown method '{method}'; there are lstsq and cos")
    if torch.linalg.matrix_rank(gram, hermitian=True, rtol=1e-10) < 2:
        raise InputError("the two directions are collinear or zero: they span no plane")
    solved = torch.linalg.solve(gram, along.T).T
    residual = (norms - (solved * along).sum(dim=1)).clamp_min(0).sqrt()
    # Differences of large squares know nothing below their rounding.
    residual = torch.where(residual < 1e-7 * norms.max().sqrt(), torch.zeros_like(residual), residual)
    coordinates = solved if method == "lstsq" else along / gram.diagonal().sqrt()
    x, y = coordinates.T.numpy()
    return Projection(directions, x, y, residual.numpy(), explained, products.numpy(), gram.numpy())


class _Rows:
    """theta_t - theta_center of all checkpoints, a block of columns at a time."""

    def __init__(
        self,
        model: nn.Module,
        checkpoints: Sequence[Path],
        dir_type: DirectionType,
        ignore: Ignore,
        key: str | None,
        moving: Collection[str] | None,
        center: Path | None,
    ) -> None:
        found = movable(model) if dir_type == "states" else distinct_parameters(model)
        tensors = {name: tensor for name, tensor in found.items() if moving is None or name in moving}
        for name, tensor in tensors.items():
            if tensor.is_complex():
                raise InputError(f"the parameter '{name}' is complex; a path is projected for real parameters only")
        self.shapes = {n: t.shape for n, t in tensors.items() if ignore == "none" or t.ndim > 1}
        self.sizes = {name: shape.numel() for name, shape in self.shapes.items()}
        self.count = len(checkpoints)
        files = [*checkpoints, center or checkpoints[-1]]
        self._states = [load_checkpoint(path, mapped=True, model=model, weights_key=key)[0] for path in files]
        for path, state in zip(files, self._states, strict=True):
            for name, shape in self.shapes.items():
                if name not in state or state[name].shape != shape:
                    there = tuple(state[name].shape) if name in state else "missing"
                    raise InputError(f"{path}: is a checkpoint of another model: '{name}' is {there}, not {tuple(shape)}")

    def blocks(self):  # type: ignore[no-untyped-def]
        """((name, columns), (checkpoints, columns) float64) for every part of every tensor."""
        width = max(1, _BLOCK // self.count)
        for name, size in self.sizes.items():
            flat = [state[name].reshape(-1) for state in self._states]
            for first in range(0, size, width):
                part = slice(first, min(first + width, size))
                block = torch.stack([tensor[part].double() for tensor in flat])
                yield (name, part), block[:-1] - block[-1]

    def products(self) -> Tensor:
        """(n, n) inner products of the rows."""
        zero = torch.zeros(self.count, self.count, dtype=torch.float64)
        return sum((block @ block.T for _, block in self.blocks()), zero)

    def combine(self, weights: Tensor) -> tuple[Direction, Direction]:
        """sum over t of weights[t, k] * row_t, for k = 0, 1."""
        sums = {name: torch.zeros(2, size, dtype=torch.float64) for name, size in self.sizes.items()}
        for (name, part), block in self.blocks():
            sums[name][:, part] = weights.T @ block
        x, y = ({name: pair[k].reshape(self.shapes[name]).clone() for name, pair in sums.items()} for k in (0, 1))
        return x, y


def _flat(direction: Mapping[str, Tensor], name: str, size: int) -> Tensor:
    if name not in direction:
        return torch.zeros(size, dtype=torch.float64)
    if direction[name].numel() != size:
        raise InputError(f"the direction's '{name}' holds {direction[name].numel()} numbers, the model's {size}")
    return direction[name].reshape(-1).double()
