"""A point evaluated with care: errors name it, and a point that needs too much memory is evaluated in smaller batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from paraloss.compute.evaluate.estimator import Estimator, with_smaller_batches
from paraloss.compute.evaluate.exact import SharedEstimator, TogetherEstimator
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError, ParalossError
from paraloss.stopping import exposed


class Guarded:
    """An estimator whose errors are in one line and name the point.

    Args:
        estimator: evaluates the point.
        evaluator: the one that ``estimator`` uses; its batches are halved when memory runs out.
        steps: (points, directions) the coordinates of every grid point.
        clock: (name of the point) -> context in which it is evaluated: a time limit.
    """

    def __init__(
        self,
        estimator: Estimator,
        evaluator: PointEvaluator,
        steps: np.ndarray,
        clock: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._estimator, self._evaluator, self._steps, self._clock = estimator, evaluator, steps, clock

    def __call__(self, index: int) -> list[float]:
        """The metrics at the grid point with flat index ``index``.

        Raises:
            InputError: the model or the loss failed there, or one sample needs more memory than there is.
        """
        place = ", ".join(f"{axis}={step:g}" for axis, step in zip("xyz", self._steps[index], strict=False))
        together = isinstance(self._estimator, (SharedEstimator, TogetherEstimator))  # ends in good order with its group
        with one_line_errors(place), self._clock(place), nullcontext() if together else exposed():
            return with_smaller_batches(self._evaluator, lambda: self._estimator(index), place)


@contextmanager
def one_line_errors(place: str) -> Iterator[None]:
    """Turn whatever the user's model or loss raises into an ``InputError`` of one line that names ``place``."""
    try:
        yield
    except ParalossError:
        raise
    except Exception as error:
        raise InputError(f"at {place}: {type(error).__name__}: {one_line(error)[:200]}") from error
