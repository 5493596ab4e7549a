"""What is evaluated and reported at each point."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from paraloss.compute.inputs.metrics import UserMetric


@dataclass(frozen=True)
class Report:
    """Which metrics are reported at each point, and of the model in which mode; the loss always is reported.

    Attributes:
        measures: metrics that need more than a forward pass, on the first split; see ``measures``.
        user_metrics: the user's own metrics, on every split.
        accuracy: whether to report it where targets are classes and a criterion knows them.
        population: split -> number of samples that its samples were drawn from, for splits that were not taken whole.
        moving: names of the parameters that ``measures`` are of. Default: all.
        train_mode: whether the model is evaluated as in training, with dropout and each batch's own statistics.
    """

    measures: Sequence[str] = ()
    user_metrics: Sequence[UserMetric] = ()
    accuracy: bool = True
    population: Mapping[str, int] = field(default_factory=dict)
    moving: Collection[str] | None = None
    train_mode: bool = False


PLAIN_REPORT = Report()
