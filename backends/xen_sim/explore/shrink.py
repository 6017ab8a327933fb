"""Shrinking: the fewest deviations from the ordinary course that break the same promise.

Every pass keeps one thing true: the course it holds breaks the promise of the kind that was found.
First deviations are left out, in halves, quarters, and one by one; those that stay are told by
what they were about, since their numbers change. What is left may be more than it
takes, in another place: so courses with fewer deviations are tried too, for as long as that is
cheap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from xen_sim.explore.course import Course, Following
from xen_sim.explore.engine import Engine, Run
from xen_sim.explore.strategies import Take
from xen_sim.explore.strategies.bounded import Bounded
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Taken, Tape

FEW = 4
"""Of those that stay, all sets of fewer than so many are tried alone: two that only stay for each
other's sake, there and back, go together."""

TRIES = 400
"""Runs that a shorter course elsewhere is looked for."""


class Mark(NamedTuple):
    """A deviation by what it was about, and not by its number: this holds where others are left out
    before it."""

    point: str
    nth: int
    """How often the run had been asked this before."""
    chosen: str


class Marked(Tape):
    """Deviates at these marks, where the run comes by them."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._chosen = {mark[:2]: mark.chosen for mark in marks}
        self._passed: Counter[str] = Counter()

    def choose(self, choice: Choice) -> int:
        point = choice.point
        chosen = self._chosen.get((point, self._passed[point]))
        self._passed[point] += 1
        return choice.options.index(chosen) if chosen in choice.options else 0


def marks_of(taken: Iterable[Taken]) -> list[Mark]:
    """The deviations of a run, by what they were about."""
    passed: Counter[str] = Counter()
    marks = []
    for point, options, answer in taken:
        if answer:
            marks.append(Mark(point, passed[point], options[answer]))
        passed[point] += 1
    return marks


def shrink(
    engine: Engine, course: Course, kind: str, enough: Callable[[], bool] = lambda: False
) -> Course:
    """A course with as few deviations that breaks a promise of this kind; `enough` ends it."""
    marks = marks_of(engine.tell(Following(course)).taken)

    def fails(candidate: Sequence[Mark]) -> Course | None:
        run = engine.run(Marked(candidate))
        return run.course if run.finding is not None and run.finding.kind == kind else None

    size = max(len(marks) // 2, 1)
    while marks and size and not enough():
        for start in range(0, len(marks), size):
            fewer = marks[:start] + marks[start + size :]
            if (found := fails(fewer)) is not None:
                course, marks = found, fewer
                size = min(size, max(len(marks), 1))
                break
        else:
            size //= 2
    for few in range(1, min(len(marks), FEW)):
        for some in combinations(marks, few):
            if enough():
                return course
            if (found := fails(some)) is not None:
                return _elsewhere(engine, found, kind, enough)
    return _elsewhere(engine, course, kind, enough)


def _elsewhere(engine: Engine, course: Course, kind: str, enough: Callable[[], bool]) -> Course:
    if not course:
        return course
    fewer = Bounded(len(course) - 1)
    for _ in range(TRIES):
        recipe = fewer.next()
        if recipe is None or enough():
            break
        run: Run = engine.run(recipe.tape())
        if run.finding is not None and run.finding.kind == kind:
            return run.course
        assert isinstance(recipe, Take)
        fewer.learn(recipe, run)
    return course
