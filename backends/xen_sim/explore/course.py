"""A course: one way through a program, as its deviations from the ordinary course.

Everything that could go either way is a `Choice`, numbered in the order in which a run meets them;
answer 0 is the ordinary course everywhere. So a run is told by the few choices that were answered
otherwise, and the fewest of these are the shortest way to say what went wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Diverged, Tape


class Deviation(NamedTuple):
    """A choice that was not answered in the ordinary way."""

    at: int
    """Its number among the run's choices, from 0."""
    answer: int
    """The option that was taken, from 1."""


Course = tuple[Deviation, ...]
"""Deviations in the order of their choices. `()` is the ordinary course."""

ORDINARY: Course = ()


def course(*deviations: tuple[int, int]) -> Course:
    """A course written down: `course((17, 1), (40, 2))`."""
    return tuple(Deviation(*each) for each in deviations)


class Following(Tape):
    """Takes a course. What it deviates to has to be there: `Diverged` where a choice has not as
    many options."""

    def __init__(self, course: Course) -> None:
        self._answers = dict(course)
        self._met = 0

    def choose(self, choice: Choice) -> int:
        number = self._met
        self._met = number + 1
        answer = self._answers.get(number, 0)
        if answer >= len(choice.options):
            raise Diverged(
                f"choice {number} has no option {answer} any more: it is {asked(choice)}"
            )
        return answer


def asked(choice: Choice) -> str:
    """A question, for people."""
    return f"{choice.point!r} ({', '.join(choice.options)})"


def checks(course: Course, questions: Iterable[tuple[str, Sequence[str]]]) -> tuple[int, ...]:
    """A byte for each deviation, of all questions since the one before and its own: by these, a
    program that has changed is told from the one that a course was taken in."""
    at = {deviation.at for deviation in course}
    found, running = [], 0
    for number, (point, options) in enumerate(questions):
        running = add_question(running, point, options)
        if number in at:
            found.append(running & 0xFF)
            running = 0
    return tuple(found)


def add_question(running: int, point: str, options: Sequence[str]) -> int:
    """A checksum with one more question."""
    return crc32("\0".join((point, *options)).encode(), running)
