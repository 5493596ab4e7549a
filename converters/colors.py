"""Colors of values, made by vtk's own interpolation of the maps in ``paraloss.look``."""

from __future__ import annotations

import numpy as np
from vtkmodules.vtkRenderingCore import vtkColorTransferFunction

from paraloss.height import finite_range
from paraloss.look import COLOR_MAPS


def color_table(color_map: str, colors: int = 1024) -> np.ndarray:
    """(colors, 3) float64 in 0..1, from the lowest value to the highest."""
    space, points = COLOR_MAPS[color_map]
    function = vtkColorTransferFunction()
    getattr(function, f"SetColorSpaceTo{space}")()
    for value, red, green, blue in points:
        function.AddRGBPoint(value, red, green, blue)
    return np.array([function.GetColor(value) for value in np.linspace(0, 1, colors)])


def colors_of(values: np.ndarray, color_map: str = "cool-to-warm", ends: tuple[float, float] | None = None) -> np.ndarray:
    """(n, 3) uint8 colors of (n,) values between ``ends``, by default their own; gray where a value is not finite."""
    low, high = ends or finite_range(values)
    low, high = (low, high) if np.isfinite(low) else (0.0, 1.0)
    table = (color_table(color_map) * 255).round().astype(np.uint8)
    share = (np.nan_to_num(values, nan=low) - low) / (high - low if high > low else 1.0)
    colors = table[np.clip(share * (len(table) - 1), 0, len(table) - 1).round().astype(int)]
    colors[~np.isfinite(values)] = 160
    return np.asarray(colors)
