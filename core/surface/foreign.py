"""Surface files of Li et al. 2018's public code: how they are recognized, and which of their points are pending."""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np

from paraloss.surface.hdf5 import is_member

_METRICS = {"train_loss", "train_acc", "test_loss", "test_acc", "min_eig", "max_eig"}
FOREIGN_PENDING, FOREIGN_PENDING_MIN_EIG = -1.0, 1.0
"""What their code fills its arrays with before a point is evaluated."""


def is_foreign(file: h5py.File) -> bool:
    """Whether an open file is a surface file of Li et al.'s code: no attributes, coordinates and a metric by their names."""
    return "format" not in file.attrs and is_member(file, "xcoordinates") and not _METRICS.isdisjoint(file)


def foreign_pending(metrics: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Points that still hold what their code fills its arrays with; one eigenvalue may be 1 or -1, both are not.

    Args:
        metrics: name -> array of ``shape``.
        shape: shape of the result.
    """
    waiting = [values == FOREIGN_PENDING for name, values in metrics.items() if name.endswith(("_loss", "_acc"))]
    fills = (("min_eig", FOREIGN_PENDING_MIN_EIG), ("max_eig", FOREIGN_PENDING))
    ends = [metrics[name] == fill for name, fill in fills if name in metrics]
    waiting += [np.logical_and.reduce(ends)] if ends else []
    return np.asarray(np.logical_or.reduce([np.zeros(shape, bool), *waiting]))
