"""The loss surface as a value: coordinates, metrics, status, where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from paraloss.errors import InputError, MissingPackage, ShapeMismatch
from paraloss.height import OFFSET, default_metric, metric_scale

if TYPE_CHECKING:
    from paraloss.surface.recipes import Recipe

PENDING, DONE, NOT_FINITE, INTERPOLATED = 0, 1, 2, 3
"""Values of ``Surface.status``: not evaluated yet; evaluated; evaluated with a result that is not finite; not evaluated
but interpolated from neighbors, because the surface is straight enough there (``--refine``)."""

Tensors = Mapping[str, np.ndarray]

_ENOUGH = 0.8


def complete_stride(status: np.ndarray) -> int:
    """Find the stride of the finest sub-grid around the middle with four fifths of its cells known.

    Returns 1 if there is no such sub-grid.

    Points are visited coarse to fine, so that a file that is still being computed holds such a sub-grid early.
    """
    stride = 1
    while min((known := status[subgrid(status.shape, stride)] != PENDING).shape) >= 3:
        cells = known
        for axis in range(known.ndim):
            cells = np.take(cells, range(1, cells.shape[axis]), axis) & np.take(cells, range(cells.shape[axis] - 1), axis)
        if cells.mean() >= _ENOUGH:
            return stride
        stride *= 2
    return 1


def _within(axis: np.ndarray, step: float) -> bool:
    """Whether a step lies between the ends of an axis, up to rounding."""
    low, high = float(axis.min()), float(axis.max())
    slack = 1e-6 * max(high - low, abs(low), abs(high))
    return low - slack <= step <= high + slack


def subgrid(shape: tuple[int, ...], stride: int) -> tuple[slice, ...]:
    """Select the indices of each axis whose offset from its middle is a multiple of ``stride``."""
    return tuple(slice((size - 1) // 2 % stride, None, stride) for size in shape)


@dataclass(frozen=True, repr=False)
class Surface:
    """Metrics of a model over a line, a plane or a box through its weights.

    Attributes:
        x: (nx,) steps along the x direction, in units of that direction.
        y: (ny,) steps along the y direction; None for a curve (1D).
        metrics: name -> array of ``shape``; row j, column i is the value at (x[i], y[j]).
            Losses are means per sample in the criterion's own unit, accuracies percent.
        status: array of ``shape``, uint8: 0 pending, 1 done, 2 done and not finite, 3 interpolated. Default: all points are
            done; those where a metric is not finite, done and not finite.
        provenance: model, checkpoint, data, criterion … as stored in the file.
        directions: "x", "y", "z" -> parameter name -> array; empty when they were not kept or not read.
        trajectory: the path of one run: "x", "y", "loss", "step", "residual" -> (n,), or None.
        z: (nz,) steps along a third direction of a volume (3D); else None.
        trajectories: paths of several runs in one plane: label -> as ``trajectory``, in the order of the runs.
        recipes: "x", "y", "z" -> the recipe of a direction whose numbers are not kept; empty as ``directions``.

    Raises:
        ShapeMismatch: an array does not fit the coordinates; the message names it.
    """

    x: np.ndarray
    y: np.ndarray | None
    metrics: Mapping[str, np.ndarray]
    status: np.ndarray = None  # type: ignore[assignment]  # never None after __post_init__
    provenance: Mapping[str, Any] = field(default_factory=dict)
    directions: Mapping[str, Tensors] = field(default_factory=dict)
    trajectory: Tensors | None = None
    z: np.ndarray | None = None
    trajectories: Mapping[str, Tensors] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.metrics.items():
            self._check_shape(name, values)
        if self.status is None:
            finite = np.logical_and.reduce([np.ones(self.shape, bool), *map(np.isfinite, self.metrics.values())])
            object.__setattr__(self, "status", np.where(finite, DONE, NOT_FINITE).astype(np.uint8))
        self._check_shape("status", self.status)

    def _check_shape(self, name: str, values: np.ndarray) -> None:
        if values.shape != self.shape:
            raise ShapeMismatch(f"'{name}' is {values.shape} but the coordinates say {self.shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx), (nx,) for a curve or (nz, ny, nx) for a volume: the shape of every metric."""
        return tuple(len(axis) for axis in reversed(self.axes))

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """The coordinate arrays that are present, in the order x, y, z."""
        return tuple(axis for axis in (self.x, self.y, self.z) if axis is not None)

    @property
    def paths(self) -> dict[str, Tensors]:
        """All paths by label: those of several runs, or the one of ``trajectory`` under the empty label."""
        return {**({} if self.trajectory is None else {"": self.trajectory}), **self.trajectories}

    def with_paths(self, paths: Mapping[str, Tensors]) -> Surface:
        """Return the same surface with other paths; the one under the empty label becomes ``trajectory``."""
        return replace(self, trajectory=paths.get(""), trajectories={label: path for label, path in paths.items() if label})

    @property
    def is_complete(self) -> bool:
        """Whether no point is pending."""
        return bool((self.status != PENDING).all())

    def drawable(self) -> Surface:
        """Return this surface, or while it is being computed its finest complete sub-grid; nothing is interpolated."""
        stride = complete_stride(self.status)
        if stride == 1:
            return self
        part = subgrid(self.shape, stride)
        return replace(
            self,
            x=self.x[part[-1]],
            y=None if self.y is None else self.y[part[-2]],
            z=None if self.z is None else self.z[part[0]],
            metrics={name: values[part] for name, values in self.metrics.items()},
            status=self.status[part],
        )

    def ascending(self) -> Surface:
        """Return this surface with every axis in increasing order; itself where they are."""
        turned = [slice(None, None, -1 if len(axis) > 1 and axis[0] > axis[-1] else 1) for axis in self.axes]
        if all(part.step == 1 for part in turned):
            return self
        order = tuple(reversed(turned))  # of the arrays
        axes = dict(zip("xyz", (axis[part] for axis, part in zip(self.axes, turned, strict=True)), strict=False))
        return replace(
            self,
            x=axes["x"],
            y=axes.get("y"),
            z=axes.get("z"),
            metrics={name: values[order] for name, values in self.metrics.items()},
            status=self.status[order],
        )

    @property
    def default_metric(self) -> str:
        """The metric that is drawn when none is named: the training loss, else the first loss, else the first."""
        name = default_metric(self.metrics)
        if name is None:
            raise InputError("the surface holds no metric at all; compute it again")
        return name

    def metric(self, name: str | None = None) -> np.ndarray:
        """Return the values of one metric, the default one when ``name`` is None.

        Raises:
            InputError: there is no such metric; the message lists the metrics of the surface.
        """
        name = name or self.default_metric
        if name not in self.metrics:
            raise InputError(f"no metric '{name}' in this surface; it holds: {', '.join(self.metrics)}")
        return self.metrics[name]

    def at(self, *place: float) -> dict[str, float]:
        """Look up every metric at the grid point nearest to ``place``, (x,), (x, y) or (x, y, z); missing steps are 0.

        Raises:
            InputError: ``place`` lies outside the surface.
        """
        steps = (*place, 0.0, 0.0, 0.0)[: len(self.axes)]
        for name, axis, step in zip("xyz", self.axes, steps, strict=False):
            if not _within(axis, step):
                ends = f"{float(axis.min()):g} to {float(axis.max()):g}"
                raise InputError(f"{name} = {step:g} lies outside this surface, which runs from {ends} along {name}")
        index = tuple(int(np.abs(axis - step).argmin()) for axis, step in zip(self.axes, steps, strict=True))[::-1]
        return {name: float(values[index]) for name, values in self.metrics.items()}

    @property
    def center(self) -> tuple[int, ...] | None:
        """Index of the model itself, step 0 of every direction, in the arrays of metrics; None where it is not on the grid."""
        index = tuple(int(np.abs(axis).argmin()) for axis in self.axes)
        apart = (abs(float(axis[k])) > 1e-6 * float(np.ptp(axis)) for axis, k in zip(self.axes, index, strict=True))
        return None if any(apart) else index[::-1]

    def __sub__(self, other: Surface) -> Surface:
        """Subtract ``other``'s metrics from the same ones of this surface; a point pending in either is pending.

        Raises:
            InputError: the steps differ, or there is no metric in common.
        """
        shared = self._shared_with(other)
        return self._compared_with(other, {f"{name}_difference": self.metrics[name] - other.metrics[name] for name in shared})

    def ratio(self, other: Surface, log_offset: float = OFFSET) -> Surface:
        """Divide this surface's losses by the same ones of ``other``: (a + offset) / (b + offset), named ``<loss>_ratio``.

        Its logarithm is the difference of the two surfaces' heights, ln(a + offset) - ln(b + offset). Where losses are at
        or below ``-log_offset``, the offset grows as in ``paraloss.height``; the provenance holds it as ``log_offset``.

        Raises:
            InputError: the steps differ, or there is no loss in common.
        """
        losses = [name for name in self._shared_with(other) if name.endswith("_loss")]
        if not losses:
            raise InputError("a ratio needs a loss that both surfaces hold")
        pairs = {name: (self.metrics[name], other.metrics[name]) for name in losses}
        scales = {name: metric_scale(pair, offset=log_offset) for name, pair in pairs.items()}
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratios = {f"{name}_ratio": (a + scales[name].offset) / (b + scales[name].offset) for name, (a, b) in pairs.items()}
        enlarged = {name: scale.offset for name, scale in scales.items() if scale.note}
        return self._compared_with(other, ratios, {"log_offset": enlarged} if enlarged else {})

    def _shared_with(self, other: Surface) -> list[str]:
        names = [name for name in self.metrics if name in other.metrics]
        same = self.shape == other.shape and all(map(np.allclose, self.axes, other.axes))
        if not same or not names:
            raise InputError(
                "a difference requires surfaces of the same steps and metrics; compute both with the same {x} and {y}",
                arguments=("x", "y"),
            )
        return names

    def _compared_with(self, other: Surface, metrics: Tensors, facts: Mapping[str, Any] | None = None) -> Surface:
        status = np.where((self.status == PENDING) | (other.status == PENDING), PENDING, np.maximum(self.status, other.status))
        return replace(
            self,
            metrics=metrics,
            status=status.astype(np.uint8),
            trajectory=None,
            trajectories={},
            provenance={"difference": [dict(self.provenance), dict(other.provenance)], **(facts or {})},
        )

    def save(self, path: str | Path) -> Path:
        """Write a surface file (HDF5, format 1); see ``paraloss.surface.writer``."""
        from paraloss.surface import write_surface

        return write_surface(self, path)

    def to_vtk(self, **options: Any) -> Any:
        """Convert to a ``vtkStructuredGrid``; options as in ``paraloss.converters.GridOptions``."""
        from paraloss.converters import GridOptions, to_structured_grid

        return to_structured_grid(self, GridOptions(**options))

    def to_pyvista(self, **options: Any) -> Any:
        """Convert to a ``pyvista.StructuredGrid`` (a volume to ``pyvista.ImageData``); options as in ``to_vtk``."""
        import pyvista

        from paraloss.converters import GridOptions, to_image

        return pyvista.wrap(to_image(self, GridOptions(**options)) if self.z is not None else self.to_vtk(**options))

    def to_xarray(self) -> Any:
        """Convert to an ``xarray.Dataset``: metrics and status over x, y (and z), provenance as attributes."""
        try:
            import xarray
        except ImportError as error:
            raise MissingPackage("to_xarray() needs xarray: pip install 'paraloss[notebook]'") from error
        names = ["x", "y", "z"][: len(self.axes)]
        arrays = {**self.metrics, "status": self.status}
        return xarray.Dataset(
            {name: (names[::-1], values) for name, values in arrays.items()},
            coords=dict(zip(names, self.axes, strict=True)),
            attrs=dict(self.provenance),
        )

    def _repr_png_(self) -> bytes | None:
        """Draw the picture that Jupyter shows: lit for a surface, a plot for a curve; None before a point is evaluated."""
        import tempfile

        if self.z is not None or not np.isfinite(self.metric()).any():
            return None
        with tempfile.TemporaryDirectory(prefix="paraloss-") as folder:
            return self.plot(Path(folder) / "surface.png").read_bytes()

    def explore(self, **options: Any) -> Any:
        """Show the surface in a notebook, to turn, clip and pick; see ``paraloss.rendering.widget.explore``.

        Without anywidget it is a page in a frame, which turns all the same, but tells the notebook nothing.

        Args:
            options: how it is drawn, as in ``look="dark"``; ``height`` in pixels.
        """
        from paraloss.rendering.web import Page, page_of
        from paraloss.rendering.widget import explore

        try:
            return explore(self, **options)
        except MissingPackage:
            height = options.pop("height", 560)
            return Page(page_of(self, **options), height)

    def __repr__(self) -> str:
        size = " x ".join(str(len(axis)) for axis in self.axes)
        done = int((self.status != PENDING).sum())
        return f"<Surface {size} points, {done} evaluated, of {', '.join(self.metrics)}>"

    @overload
    def plot(self, path: str | Path, *, ax: None = None, **options: Any) -> Path: ...
    @overload
    def plot(self, path: None = None, *, ax: Any = None, **options: Any) -> Any: ...
    def plot(self, path: str | Path | None = None, *, ax: Any = None, **options: Any) -> Any:
        """Draw this surface: into a picture file, else into a figure of matplotlib, which is shown and returned.

        Args:
            path: the picture; options as in ``paraloss.rendering.render``.
            ax: axes of matplotlib to draw into; options as in ``paraloss.rendering.plot.plot``.
            options: how it is drawn, as in ``style="contour"``.

        Returns:
            ``path``, or the figure.
        """
        if path is None:
            from paraloss.rendering.plot import plot

            return plot(self, ax, **options)
        from paraloss.rendering import render

        if ax is not None:
            raise InputError("give a path or ax, not both")
        return render([self], path, **options)
