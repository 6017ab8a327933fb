"""A strategy by chance, in whose runs faults happen by a chance of their own: see `faults.swarm`.

What goes by courses needs none of this: a fault is a deviation like another there.
"""

from __future__ import annotations

from typing import NamedTuple

from xen_sim.explore.course import ORDINARY
from xen_sim.explore.engine import Run
from xen_sim.explore.strategies import Claim, Recipe, Strategy, Take
from xen_sim.explore.strategies.chance import Walk
from xen_sim.explore.strategies.pct import Pct
from xen_sim.faults.swarm import Swarm
from xen_sim.schedule.tape import Tape


class SwarmRecipe(NamedTuple):
    """Another recipe for the schedule, and faults by this seed."""

    schedule: Recipe
    seed: int

    def tape(self) -> Tape:
        return Swarm(self.schedule.tape(), self.seed)


class Swarming:
    """Another strategy, with faults."""

    def __init__(self, schedule: Strategy, seed: int) -> None:
        self.name: str = f"{schedule.name}, with faults by chance"
        self._schedule = schedule
        self._seed = seed * 1_000_003

    def next(self) -> Recipe | None:
        recipe = self._schedule.next()
        if recipe is None:
            return None
        self._seed += 1
        return SwarmRecipe(recipe, self._seed)

    def learn(self, recipe: Recipe, run: Run) -> None:
        assert isinstance(recipe, SwarmRecipe)
        self._schedule.learn(recipe.schedule, run)

    def claim(self) -> Claim | None:
        return self._schedule.claim()


class OrdinaryCourses:
    """The ordinary course, for as long as it is asked for: faults are what differs."""

    name = "the ordinary course"

    def next(self) -> Recipe | None:
        return Take(ORDINARY)

    def learn(self, recipe: Recipe, run: Run) -> None:
        """Nothing is learned."""

    def claim(self) -> Claim | None:
        return None


def with_swarms(strategies: list[Strategy], seed: int) -> list[Strategy]:
    """The same, and those by chance with faults. Of several, one more has faults alone."""
    by_chance = (Walk, Pct, OrdinaryCourses)
    swarming: list[Strategy] = [
        Swarming(each, seed) if isinstance(each, by_chance) else each for each in strategies
    ]
    if len(strategies) > 1:
        swarming.append(Swarming(OrdinaryCourses(), seed))
    return swarming
