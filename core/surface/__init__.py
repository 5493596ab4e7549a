"""The loss surface: the value, its file, and the repair of damaged files."""

from paraloss.surface.value import (
    DONE,
    INTERPOLATED,
    NOT_FINITE,
    PENDING,
    Surface,
    Tensors,
    complete_stride,
    subgrid,
)

__all__ = ["DONE", "INTERPOLATED", "NOT_FINITE", "PENDING", "Surface", "Tensors", "complete_stride", "subgrid"]
