"""Curvature of the loss: both ends of the Hessian's spectrum at a point, its leading eigenvectors, its density.

The Hessian is that of the mean loss with respect to weights of dimension > 1 (no biases, no batch norm), in evaluation
mode, as in Li et al. 2018, section 6; their code sums the means of the batches, so its eigenvalues are the number of batches
times those here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from paraloss.compute.directions.random import Direction
from paraloss.compute.inputs.losses import BatchLoss
from paraloss.compute.inputs.randomness import seeded
from paraloss.errors import InputError, MissingPackage
from paraloss.log import logger
from paraloss.progress import Progress

_LANCZOS_VECTORS = 20
_TOLERANCE = 1e-3  # of the residual; eigenvalues err by its square
_DENSITY_VECTORS = 128  # Lanczos vectors of each start, as in curvlinops
_DENSE = 64  # a matrix smaller than this is diagonalized as a whole


@dataclass(frozen=True)
class Spectrum:
    """The Hessian's spectrum at one point.

    Attributes:
        eigenvalues: (k,) the largest in magnitude, descending by magnitude.
        eigenvectors: one direction per eigenvalue, of Euclidean norm 1; parameters that the Hessian leaves out are not named.
        grid: (m,) eigenvalues at which the density is given.
        density: (m,) estimated share of eigenvalues per unit; both are empty where no density was computed.
    """

    eigenvalues: np.ndarray
    eigenvectors: tuple[Direction, ...]
    grid: np.ndarray
    density: np.ndarray


def eigenvalue_ends(
    model: nn.Module, loss: BatchLoss, batches: Collection[Any], only: Collection[nn.Parameter] | None = None
) -> tuple[float, float]:
    """(smallest, largest) eigenvalue of the Hessian of the mean loss where ``model`` is now; one Lanczos run for both.

    Args:
        model: the model, in evaluation mode.
        loss: a criterion or a step.
        batches: what ``loss`` takes, on the model's device; iterated once per Hessian product.
        only: parameters of the Hessian; None for all.

    Raises:
        MissingPackage: curvlinops is not installed.
        InputError: the Lanczos run did not converge, or the loss has no second derivative.

    NaN where the loss is not finite. Source: implicitly restarted Lanczos, Lehoucq et al. 1998, as in scipy's ``eigsh``.
    """
    from scipy.sparse.linalg import eigsh

    with Hessian(model, loss, batches, only) as hessian:
        operator = hessian.operator.to_scipy()
        size = operator.shape[0]
        start = np.random.default_rng(0).standard_normal(size).astype(operator.dtype)
        if not np.isfinite(operator @ start).all():
            return float("nan"), float("nan")
        if size <= _DENSE:
            values = np.linalg.eigvalsh(_symmetric(operator @ np.eye(size, dtype=operator.dtype)))
            return float(values[0]), float(values[-1])
        with _converging():
            values = eigsh(operator, 2, which="BE", ncv=_LANCZOS_VECTORS, tol=_TOLERANCE, v0=start, return_eigenvectors=False)
    return float(min(values)), float(max(values))


def spectrum(
    model: nn.Module,
    loss: BatchLoss,
    batches: Collection[Any],
    top: int = 10,
    points: int = 1024,
    repeats: int = 4,
    only: Collection[nn.Parameter] | None = None,
    *,
    density: bool = True,
    shown: bool = False,
) -> Spectrum:
    """The ``top`` eigenpairs of largest magnitude and the density of all eigenvalues, where ``model`` is now.

    Args:
        model: see ``eigenvalue_ends``.
        loss: see ``eigenvalue_ends``.
        batches: see ``eigenvalue_ends``.
        top: number of eigenpairs.
        points: number of points at which the density is given.
        repeats: number of random starts over which the density is averaged.
        only: parameters of the Hessian; None for all.
        density: compute the density, which takes up to 128 products of the Hessian with a vector for each repeat.
        shown: announce the products and show progress on standard error.

    Raises:
        MissingPackage: curvlinops is not installed.
        InputError: more eigenpairs than weights, a loss that is not finite, or a run that did not converge.

    Source of the density: Papyan 2020 (JMLR 21:252), algorithm 2, as in curvlinops.
    """
    from scipy.sparse.linalg import eigsh

    with Hessian(model, loss, batches, only) as hessian:
        operator = hessian.operator.to_scipy()
        size = operator.shape[0]
        if not 1 <= top < size:
            raise InputError(
                f"{{top}} must lie between 1 and {size - 1} for the Hessian of {size} weights, not {top}", arguments=("top",)
            )
        vectors, lanczos = min(_DENSITY_VECTORS, size - 1), lanczos_vectors(size, top)
        if shown:
            rest = f", {repeats * vectors} for the density" if density else ""
            logger.info(f"Hessian of {size:,} weights: {lanczos} products or some times that for {top} eigenpairs{rest}")
        start = np.random.default_rng(0).standard_normal(size).astype(operator.dtype)
        if not np.isfinite(operator @ start).all():
            raise InputError("the loss or its second derivative is not finite here, so there is no spectrum")
        with _converging(), hessian.counting("eigenvalues", lanczos, shown):
            values, pairs = leading_pairs(operator, top)
            # The ends for the density, from a fixed start: curvlinops would draw another one at each run.
            ends = eigsh(operator, 2, which="BE", tol=1e-2, v0=start, return_eigenvectors=False) if density else values
        order = np.argsort(-np.abs(values))
        grid = shares = np.empty(0)
        if density:
            with seeded(0), hessian.counting("density", repeats * vectors, shown):
                grid, shares = hessian.density((float(min(ends)), float(max(ends))), vectors, points, repeats)
        directions = tuple(hessian.as_direction(pairs[:, k]) for k in order)
    return Spectrum(values[order].astype(np.float64), directions, grid, shares)


def leading_pairs(operator: Any, top: int) -> tuple[np.ndarray, np.ndarray]:
    """(top,) eigenvalues of largest magnitude and (n, top) eigenvectors of a symmetric operator; from a fixed start.

    Raises:
        InputError: the run did not converge.
    """
    from scipy.sparse.linalg import eigsh

    size = operator.shape[0]
    start = np.random.default_rng(0).standard_normal(size).astype(operator.dtype)
    with _converging():
        values, vectors = eigsh(operator, top, which="LM", ncv=lanczos_vectors(size, top), tol=1e-4, v0=start)
    return values, vectors


def lanczos_vectors(size: int, top: int) -> int:
    """Number of Lanczos vectors for ``top`` eigenpairs of a matrix of ``size`` rows."""
    return min(size, max(2 * top + 1, _LANCZOS_VECTORS))


@contextmanager
def _converging() -> Iterator[None]:
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence

    try:
        yield
    except (ArpackNoConvergence, ArpackError) as error:
        raise InputError(f"the Hessian's eigenvalues did not converge: {' '.join(str(error).split())[:120]}") from error


class Hessian:
    """The Hessian as a linear operator; the model's weights require gradients within the context only."""

    def __init__(
        self, model: nn.Module, loss: BatchLoss, batches: Collection[Any], only: Collection[nn.Parameter] | None = None
    ) -> None:
        wanted = {id(parameter) for parameter in (model.parameters() if only is None else only)}
        chosen = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}
        self._parameters = {name: p for name, p in chosen.items() if p.ndim > 1 and p.is_floating_point()}
        for name, parameter in chosen.items():
            if parameter.is_complex():
                raise InputError(f"the parameter '{name}' is complex, and the Hessian is one of real weights only")
        if not self._parameters:
            raise InputError("the model has no weights of two dimensions or more, so there is no Hessian to look at")
        self._model, self._loss, self._batches = model, loss, batches
        self._bar: Progress | None = None

    def __enter__(self) -> Hessian:
        with torch.enable_grad():  # a step may differentiate itself, as that of a PINN does
            # Read back once: a wait for each batch would leave the device idle.
            count = float(sum(self._loss.batch_losses(self._model, batch).count for batch in self._batches))
        self._before = [parameter.requires_grad for parameter in self._parameters.values()]
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        self._stack = ExitStack()
        self._stack.enter_context(torch.enable_grad())
        self._stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the fused attention has no second derivative

        def parts() -> Iterator[Tensor]:
            for batch in self._batches:
                yield self._loss.batch_losses(self._model, batch).total / count

        self.operator = _operator(list(self._parameters.values()), parts, self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for parameter, wanted in zip(self._parameters.values(), self._before, strict=True):
            parameter.requires_grad_(wanted)

    @contextmanager
    def counting(self, title: str, products: int, shown: bool) -> Iterator[None]:
        """Show the progress of ``products`` products, or of as many more as it takes."""
        with Progress(title, products, unit="products", shown=shown) as self._bar:
            yield
            self._bar.expect(self._bar.done)
        self._bar = None

    def _count(self, products: int) -> None:
        if self._bar is not None:
            if self._bar.done + products > self._bar.total:
                self._bar.expect(self._bar.total + _LANCZOS_VECTORS)
            self._bar.advance(products)

    def density(self, ends: tuple[float, float], vectors: int, points: int, repeats: int) -> tuple[np.ndarray, np.ndarray]:
        from curvlinops.papyan2020traces.spectrum import lanczos_approximate_spectrum

        grid, density = lanczos_approximate_spectrum(self.operator, vectors, points, repeats, boundaries=ends)
        return grid.double().cpu().numpy(), density.double().cpu().numpy()

    def as_direction(self, vector: np.ndarray) -> Direction:
        direction, start = {}, 0
        for name, parameter in self._parameters.items():
            part = vector[start : start + parameter.numel()]
            direction[name] = torch.from_numpy(part.reshape(parameter.shape).astype(np.float32))
            start += parameter.numel()
        return direction


def _operator(parameters: list[nn.Parameter], parts: Callable[[], Iterator[Tensor]], count: Callable[[int], None]) -> Any:
    """The Hessian of the sum of ``parts`` (one differentiable number per batch), as curvlinops has it."""
    try:
        from curvlinops import HessianLinearOperator
    except ImportError as error:
        raise MissingPackage("curvature needs curvlinops: pip install 'paraloss[curvature]'") from error

    class DoubleBackward(HessianLinearOperator):  # type: ignore[misc]
        """Its products by two reverse passes take a third of the time of curvlinops' own on a CPU."""

        def _matmat(self, M: list[Tensor]) -> list[Tensor]:
            products, curved = [torch.zeros_like(m) for m in M], False
            for part in parts():
                gradients = torch.autograd.grad(part, parameters, create_graph=True, allow_unused=True)
                # A gradient that depends on no weight adds nothing.
                chosen = [k for k, gradient in enumerate(gradients) if gradient is not None and gradient.requires_grad]
                curved = curved or bool(chosen)
                for k in range(M[0].shape[-1]) if chosen else ():
                    column = [M[number][..., k] for number in chosen]
                    through = [gradients[number] for number in chosen]
                    more = torch.autograd.grad(through, parameters, column, retain_graph=True, materialize_grads=True)
                    for product, part_of_it in zip(products, more, strict=True):
                        product[..., k] += part_of_it
            if not curved:
                raise InputError("the loss is linear in the weights, or has no second derivative, so there is no Hessian")
            count(M[0].shape[-1])
            return products

    nothing = [(torch.zeros(1), torch.zeros(1))]  # curvlinops' own way to the data, which is not taken
    return DoubleBackward(_unused, nn.MSELoss(), parameters, nothing, check_deterministic=False, num_data=1)


def _unused(_: Any) -> Tensor:
    raise AssertionError("curvlinops evaluates the model itself")


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return np.asarray((matrix + matrix.T) / 2, np.float64)
