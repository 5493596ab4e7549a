"""Ranks that evaluate each point together, every one its own part: of the samples, say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paraloss.compute.ranks.world import Evaluate, Record, World
from paraloss.errors import ParalossError
from paraloss.stopping import Stopped, shielded


class Group:
    """One of several groups of equal size, as far as the number of ranks allows.

    Args:
        world: all ranks; the groups take them in order.
        number: how many groups.

    Attributes:
        team: the ranks of this group.
        leaders: the first ranks of all groups; on another rank a world that is of no use.
    """

    def __init__(self, world: World, number: int) -> None:
        self.team = world.split(world.rank * number // world.size)
        self.leaders = world.split(0 if self.team.is_first else 1)

    def visit(self, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None]) -> None:
        """Evaluate every point of ``todo``, as ``World.visit``, but each on all ranks of one group at once.

        Args:
            todo: see there.
            evaluate: collective within the group.
            record: see there.
            idle: see there.

        Raises:
            ParalossError: a point failed; raised on the leaders only.
            Stopped: a rank received a signal; raised likewise.
        """
        with shielded():
            if self.team.is_first:
                self._lead(todo, evaluate, record, idle)
            else:
                self._follow(evaluate)

    def _lead(self, todo: Sequence[int], evaluate: Evaluate, record: Record, idle: Callable[[], None]) -> None:

        def together(index: int) -> list[float]:
            self.team.bcast(index)
            return evaluate(index)

        try:
            self.leaders.visit(todo, together, record, idle)
        finally:
            self.team.bcast(-1)

    def _follow(self, evaluate: Evaluate) -> None:
        while (index := self.team.bcast(-1)) >= 0:
            try:
                evaluate(index)
            except (ParalossError, Stopped):
                continue  # the leader raises it too, and ends the job
