"""Probabilistic concurrency testing: priorities by chance, lowered at few points.

Each vCPU has a priority; the highest that can run does. At d - 1 points, drawn among the k steps of
a run, the vCPU that runs falls below all others. A bug that takes d ordered points among n vCPUs is
then found by one run with probability at least 1 / (n k^(d-1)), whatever the program is like.

Source of the bound: Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from xen_sim.explore.engine import Run
from xen_sim.explore.strategies import Claim, Recipe
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

DEPTH = 3
"""d: most bugs take one, two or three ordered points."""

TURNS = 3
"""Turns in a row that one may take where it gave way itself: it waits for somebody else there."""


class PctTape(Tape):
    """One run's priorities."""

    def __init__(self, seed: int, depth: int, steps: int) -> None:
        self._random = Random(seed)
        self._priority: dict[str, float] = {}
        self._points = sorted(
            self._random.randrange(max(steps, 1)) for _ in range(self._random.randrange(depth))
        )
        self._met = 0
        self._lowest = 0
        self._last, self._turns = "", 0

    def choose(self, choice: Choice) -> int:
        names = choice.options
        while self._points and self._points[0] <= self._met:
            self._points.pop(0)
            self._lower(names[0])
        self._met += 1
        answer = max(range(len(names)), key=lambda index: self._of(names[index]))
        if choice.step is None:
            self._give_others_a_turn(names[answer])
        return answer

    def _of(self, name: str) -> float:
        if name not in self._priority:
            self._priority[name] = self._random.random()
        return self._priority[name]

    def _lower(self, name: str) -> None:
        self._lowest -= 1
        self._priority[name] = self._lowest

    def _give_others_a_turn(self, name: str) -> None:
        self._turns = self._turns + 1 if name == self._last else 0
        self._last = name
        if self._turns >= TURNS:
            self._lower(name)
            self._turns = 0


class PctRecipe(NamedTuple):
    """A run by this seed."""

    seed: int
    depth: int
    steps: int

    def tape(self) -> Tape:
        return PctTape(self.seed, self.depth, self.steps)


class Pct:
    """Runs by one seed after the other, for as long as they are asked for."""

    name = "PCT"

    def __init__(self, seed: int = 0, depth: int = DEPTH) -> None:
        self._seed = seed * 1_000_003
        self._depth = depth
        self._steps = 100
        self._most = 1
        self.runs: int = 0

    def next(self) -> Recipe | None:
        self._seed += 1
        return PctRecipe(self._seed, self._depth, self._steps)

    def learn(self, recipe: Recipe, run: Run) -> None:
        self.runs += 1
        self._steps = max(len(run.options), 1) if self.runs == 1 else self._steps
        self._steps = max(self._steps, len(run.options))
        self._most = max(self._most, *run.options, 1)

    def claim(self) -> Claim | None:
        return None

    def bound(self) -> str:
        """What the runs so far say, for a bug of each depth."""
        parts = []
        for depth in range(1, self._depth + 1):
            once = 1 / (self._most * self._steps ** (depth - 1) * self._depth)
            parts.append(f"depth {depth}: {1 - (1 - once) ** self.runs:.2g}")
        return f"PCT: the chance to have seen a bug of {', '.join(parts)}"
