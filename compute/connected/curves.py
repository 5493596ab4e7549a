"""Curves from one model to another through a few bends: Bézier curves and chains of straight pieces.

Garipov et al. 2018 (arXiv 1802.10026), section 3.2; Draxler et al. 2018 (arXiv 1803.00885) train chains in another way.
"""

from __future__ import annotations

from math import comb

import numpy as np


def shares(kind: str, bends: int, places: np.ndarray) -> np.ndarray:
    """(n, bends + 2) the share of each point of the curve: the first end, the bends, the last end; each row adds up to 1.

    Args:
        kind: ``bezier``, with the Bernstein polynomials as shares; or ``chain``, in which the bends lie at equal distances.
        bends: number of points between the ends.
        places: (n,) from 0 to 1.
    """
    t, last = np.asarray(places, float)[:, None], bends + 1
    k = np.arange(last + 1)
    if kind == "bezier":
        return np.array([comb(last, i) for i in k]) * t**k * (1 - t) ** (last - k)
    return np.asarray(np.maximum(0.0, 1 - np.abs(t * last - k)))
