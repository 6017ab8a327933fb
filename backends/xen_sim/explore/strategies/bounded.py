"""Every course with at most k deviations from the ordinary one; then with k + 1.

Few deviations, anywhere, is what most bugs take. Courses with k of them come from those with k - 1,
by one more behind the last: so each is taken once, and where a level has no next one, all are.

By `delays`, every deviation counts. By preemptions, only those that take the processor from
somebody who could go on: who runs next when one sleeps, and what comes first at one instant, are
free, and all of their ways are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xen_sim.explore.course import ORDINARY, Course, Deviation
from xen_sim.explore.engine import Run
from xen_sim.explore.strategies import Claim, Recipe, Take


class _Parent(NamedTuple):
    """A course that was taken, and what it could be followed by."""

    course: Course
    options: bytes
    preemptions: bytes


class Bounded:
    """By deviations of every kind, or by preemptions; up to `limit` of them."""

    def __init__(self, limit: int | None = None, *, delays: bool = True) -> None:
        self.counted = "deviations" if delays else "preemptions"
        self.name = f"bounded by {self.counted}"
        self._limit = limit
        self._delays = delays
        self._level = 0
        self._exhausted: int | None = None
        self._everything = False
        self._given = iter((ORDINARY,))
        self._out = 0
        """Courses that are under way."""
        self._free: list[_Parent] = []
        """Whose free deviations belong to this level."""
        self._costly: list[_Parent] = []
        """Whose next deviation that counts belongs to this level."""
        self._later: list[_Parent] = []
        """The same, of the next level."""

    def next(self) -> Recipe | None:
        while True:
            for course in self._given:
                self._out += 1
                return Take(course)
            if self._free:
                self._given = self._children(self._free.pop(), costly=False)
            elif self._costly:
                self._given = self._children(self._costly.pop(), costly=True)
            elif self._out or not self._next_level():
                return None

    def learn(self, recipe: Recipe, run: Run) -> None:
        assert isinstance(recipe, Take)
        self._out -= 1
        parent = _Parent(recipe.course, run.options, run.preemptions)
        start = _behind(recipe.course)
        if start < len(run.options):
            self._later.append(parent)
            if not self._delays and 0 in run.preemptions[start:]:
                self._free.append(parent)

    def claim(self) -> Claim | None:
        if self._everything:
            return Claim(None)
        return None if self._exhausted is None else Claim(self._exhausted, self.counted)

    def _next_level(self) -> bool:
        """This level is through; whether there is another one to go to."""
        if self._everything:
            return False
        self._exhausted = self._level
        costly = [each for each in self._later if next(self._children(each, costly=True), None)]
        self._everything = not costly
        if self._everything or self._level == self._limit:
            return False
        self._level += 1
        self._costly, self._later = costly, []
        return True

    def _children(self, parent: _Parent, *, costly: bool) -> Iterator[Course]:
        """The courses with one more deviation behind the last one."""
        course, options, preemptions = parent
        for at in range(_behind(course), len(options)):
            if (self._delays or bool(preemptions[at])) is costly:
                for answer in range(1, options[at]):
                    yield (*course, Deviation(at, answer))


def _behind(course: Course) -> int:
    return course[-1].at + 1 if course else 0
