"""Every course with at most k deviations from the ordinary one; then with k + 1.

Few deviations, anywhere, is what most bugs take. Courses with k of them come from those with k - 1,
by one more behind the last: so each is taken once, and where a level has no next one, all are.

By `delays`, every deviation counts. By preemptions, only those that take the processor from
somebody who could go on: who runs next when one sleeps, and what comes first at one instant, are
free, and all of their ways are taken.

What a course could be followed by is known from its run. A level of few courses is kept for the
next one to begin with. Levels grow without end, and memory must not: behind one that is too large
to be kept, all begin with the last that was, and what lies between is taken once more on the way,
depth first. That is one run in as many as a course has places to deviate at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xen_sim.explore.course import ORDINARY, Course, Deviation
from xen_sim.explore.engine import Run
from xen_sim.explore.strategies import Claim, Recipe, Take

KEPT = 1_000
"""Courses of a level that are kept, each with half a kilobyte about what could follow it."""


class _Parent(NamedTuple):
    """A course that was taken, and what it could be followed by."""

    course: Course
    options: bytes
    preemptions: bytes


class Bounded:
    """By deviations of every kind, or by preemptions; up to `limit` of them."""

    def __init__(self, limit: int | None = None, *, delays: bool = True, kept: int = KEPT) -> None:
        self.counted = "deviations" if delays else "preemptions"
        self.name = f"bounded by {self.counted}"
        self._limit = limit
        self._delays = delays
        self._kept = kept
        self._level = 0
        self._exhausted: int | None = None
        self._everything = False
        self._given = iter((ORDINARY,))
        self._out = 0
        """Courses that are under way."""
        self._free: list[_Parent] = []
        """Whose free deviations are still to be taken."""
        self._costly: list[_Parent] = []
        """Whose next deviation that counts is still to be taken, and belongs to this level or to
        one before it."""
        self._base: list[_Parent] | None = None
        """All that have a next one, of the last level that could be kept; None where none could."""
        self._later: list[_Parent] = []
        """The same, of this level, as far as it has come."""
        self._too_many = False
        """Whether this level cannot be kept."""

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
        if self._has(parent, costly=False):
            self._free.append(parent)
        if not self._has(parent, costly=True):
            return
        if self._cost(parent) < self._level:
            self._costly.append(parent)  # it was taken before
        elif len(self._later) < self._kept:
            self._later.append(parent)
        else:
            self._too_many = True

    def claim(self) -> Claim | None:
        if self._everything:
            return Claim(None)
        return None if self._exhausted is None else Claim(self._exhausted, self.counted)

    def _next_level(self) -> bool:
        """This level is through; whether there is another one to go to."""
        if self._everything:
            return False
        self._exhausted = self._level
        self._everything = not (self._later or self._too_many)
        if self._everything or self._level == self._limit:
            return False
        self._level += 1
        if not self._too_many:
            self._base = self._later
        if self._base is None:
            self._given = iter((ORDINARY,))
        else:
            self._costly = list(self._base)
        self._later, self._too_many = [], False
        return True

    def _cost(self, parent: _Parent) -> int:
        """How many of a course's deviations count."""
        if self._delays:
            return len(parent.course)
        return sum(parent.preemptions[each.at] for each in parent.course)

    def _has(self, parent: _Parent, *, costly: bool) -> bool:
        return next(self._children(parent, costly=costly), None) is not None

    def _children(self, parent: _Parent, *, costly: bool) -> Iterator[Course]:
        """The courses with one more deviation behind the last one."""
        course, options, preemptions = parent
        for at in range(_behind(course), len(options)):
            if (self._delays or bool(preemptions[at])) is costly:
                for answer in range(1, options[at]):
                    yield (*course, Deviation(at, answer))


def _behind(course: Course) -> int:
    return course[-1].at + 1 if course else 0
