"""Which courses to take, and in which order.

    first_come    the ordinary course
    bounded       every course with at most k deviations, or k preemptions; then k + 1
    pct           priorities by chance, lowered at few points; its chance to find a bug is known
    walk          chance at every choice
    reduced       of all courses that differ in the order of independent steps alone, one
    guided        courses like those that showed something new

A strategy gives recipes and learns of the runs they made. A recipe makes a tape, in whichever
process; it is small and can be pickled.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from xen_sim.explore.course import ORDINARY, Course, Following
from xen_sim.explore.engine import Run
from xen_sim.schedule.tape import Tape


class Recipe(Protocol):
    """How to make a tape."""

    def tape(self) -> Tape: ...


class Take(NamedTuple):
    """Take this course."""

    course: Course

    def tape(self) -> Tape:
        return Following(self.course)


class Claim(NamedTuple):
    """What a strategy has exhausted: everything, or everything at `bound`."""

    bound: int | None
    counted: str = ""


class Strategy(Protocol):
    """Gives recipes, and learns of runs."""

    name: str

    def next(self) -> Recipe | None:
        """The next one; None where there is none now: it waits for runs, or is done."""

    def learn(self, recipe: Recipe, run: Run) -> None:
        """What came of a recipe of its own."""

    def claim(self) -> Claim | None:
        """What it has exhausted so far."""


class FirstCome:
    """The ordinary course, once."""

    name = "first come"

    def __init__(self) -> None:
        self._given = False

    def next(self) -> Recipe | None:
        if self._given:
            return None
        self._given = True
        return Take(ORDINARY)

    def learn(self, recipe: Recipe, run: Run) -> None:
        """There is no second one."""

    def claim(self) -> Claim | None:
        return None
