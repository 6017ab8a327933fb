"""Chance at every choice, and chance near what showed something new."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from xen_sim.explore.course import Course, Deviation
from xen_sim.explore.engine import Run
from xen_sim.explore.strategies import Claim, Recipe
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Seeded, Tape

KEPT = 500
"""Courses that are remembered for having shown something new."""


class WalkRecipe(NamedTuple):
    seed: int

    def tape(self) -> Tape:
        return Seeded(self.seed)


class Walk:
    """Every choice by chance: long runs of one vCPU are rare in it, many changes the rule."""

    name = "random walk"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed * 1_000_003

    def next(self) -> Recipe | None:
        self._seed += 1
        return WalkRecipe(self._seed)

    def learn(self, recipe: Recipe, run: Run) -> None:
        """Nothing is learned."""

    def claim(self) -> Claim | None:
        return None


class Near(Tape):
    """Takes a course as far as it fits: where a choice has fewer options, another one of them."""

    def __init__(self, course: Course) -> None:
        self._answers = dict(course)
        self._met = 0

    def choose(self, choice: Choice) -> int:
        answer = self._answers.get(self._met, 0)
        self._met += 1
        return answer if answer < len(choice.options) else answer % len(choice.options)


class NearRecipe(NamedTuple):
    course: Course

    def tape(self) -> Tape:
        return Near(self.course)


class Guided:
    """Courses like those that showed an interleaving of two steps that was not seen before."""

    name = "guided by coverage"

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(f"guided {seed}")
        self._seen: set[int] = set()
        self._corpus: list[tuple[Course, int]] = [((), 100)]
        """Courses, and how many choices their runs met."""

    def next(self) -> Recipe | None:
        course, length = self._random.choice(self._corpus)
        answers = dict(course)
        for _ in range(self._random.randint(1, 3)):
            if answers and self._random.random() < 0.4:
                answers.pop(self._random.choice(sorted(answers)))
            else:
                answers[self._random.randrange(max(length, 1))] = self._random.randint(1, 3)
        return NearRecipe(tuple(Deviation(*each) for each in sorted(answers.items())))

    def learn(self, recipe: Recipe, run: Run) -> None:
        if run.coverage - self._seen:
            self._seen |= run.coverage
            self._corpus.append((run.course, len(run.options)))
            if len(self._corpus) > KEPT:
                self._corpus.pop(self._random.randrange(len(self._corpus)))

    def claim(self) -> Claim | None:
        return None
