"""Optimizer paths in the field data of a grid, which carries them to filters and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkStringArray

from paraloss.surface import Tensors

_KEYS = ("x", "y", "loss", "step", "residual")
_ONE, _LABELS = "trajectory", "trajectory_labels"


def keep_paths(data: Any, paths: Mapping[str, Tensors]) -> None:
    """Put paths into the field data of a grid: ``trajectory_x`` … of one, ``trajectory_0_x`` … and labels of several."""
    labels = vtkStringArray()
    labels.SetName(_LABELS)
    for number, (label, path) in enumerate(paths.items()):
        for name, values in path.items():
            array = numpy_to_vtk(np.ascontiguousarray(values, np.float64), deep=True)
            array.SetName(f"{_ONE}_{number}_{name}" if label else f"{_ONE}_{name}")
            data.GetFieldData().AddArray(array)
        labels.InsertNextValue(label)
    if any(paths):  # one path has the empty label
        data.GetFieldData().AddArray(labels)


def paths_in(data: Any) -> dict[str, dict[str, np.ndarray]]:
    """Read the paths that ``keep_paths`` put into field data, by label."""
    labels = data.GetFieldData().GetAbstractArray(_LABELS)
    if labels is None:
        names = {"": _ONE}
    else:
        names = {labels.GetValue(number): f"{_ONE}_{number}" for number in range(labels.GetNumberOfValues())}
    found = {}
    for label, prefix in names.items():
        arrays = {key: data.GetFieldData().GetArray(f"{prefix}_{key}") for key in _KEYS}
        known = {key: np.asarray(vtk_to_numpy(array)) for key, array in arrays.items() if array is not None}
        if "x" in known and "y" in known:
            found[label] = known
    return found
