"""The strategy that is bounded by deviations: that it takes every course, whether or not it can
keep what could follow each."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from xen_sim.explore.course import ORDINARY, Course, Deviation
from xen_sim.explore.engine import Run
from xen_sim.explore.strategies import Claim, Take
from xen_sim.explore.strategies.bounded import Bounded


def run(course: Course, length: int = 4) -> Run:
    """One of a program by chance: what it asks depends on what was answered before, as in any."""
    options, preemptions = bytearray(), bytearray()
    answers = dict(course)
    for at in range(length + 2 * len(course)):
        before = tuple(each for each in course if each.at < at)
        random = Random(f"{before} {at}")
        options.append(random.choice((1, 1, 2, 3)) if len(before) < 4 else 1)
        preemptions.append(random.random() < 0.5)
        assert answers.get(at, 0) < options[at]
    return Run(course, bytes(options), bytes(preemptions), 0, frozenset(), {}, None)


def levels(strategy: Bounded, at_once: int = 1) -> tuple[list[set[Course]], Counter[Course]]:
    """The courses that each level is the first to take, and how often each is taken in all; so many
    are under way at a time."""
    first: list[set[Course]] = [set()]
    taken: Counter[Course] = Counter()
    under_way: list[Take] = []
    while True:
        while len(under_way) < at_once and (recipe := strategy.next()) is not None:
            assert isinstance(recipe, Take)
            under_way.append(recipe)
        if not under_way:
            return first, taken
        recipe = under_way.pop(0)
        claim = strategy.claim()
        if claim is not None and claim.bound == len(first) - 1:
            first.append(set())
        if recipe.course not in taken:
            first[-1].add(recipe.course)
        taken[recipe.course] += 1
        strategy.learn(recipe, run(recipe.course))


def in_full(course: Course = ORDINARY) -> set[Course]:
    """Every course there is, the simple way."""
    found = {course}
    options = run(course).options
    for at in range(course[-1].at + 1 if course else 0, len(options)):
        for answer in range(1, options[at]):
            found |= in_full((*course, Deviation(at, answer)))
    return found


@pytest.mark.parametrize("at_once", [1, 7])
@pytest.mark.parametrize("kept", [1_000, 10, 1, 0])
@pytest.mark.parametrize("delays", [True, False], ids=["delays", "preemptions"])
def test_every_course_is_taken_at_its_level_whether_or_not_levels_are_kept(
    delays: bool, kept: int, at_once: int
) -> None:
    strategy = Bounded(delays=delays, kept=kept)
    first, taken = levels(strategy, at_once)
    assert strategy.claim() == Claim(None)
    assert set().union(*first) == in_full()
    for cost, courses in enumerate(first):
        assert {cost} >= {counted(course, delays) for course in courses}
    if kept == 1_000:
        assert set(taken.values()) == {1}


def counted(course: Course, delays: bool) -> int:
    preemptions = run(course).preemptions
    return len(course) if delays else sum(preemptions[at] for at, _ in course)


def test_what_is_taken_again_is_what_could_not_be_kept() -> None:
    known = len(in_full())
    again = {kept: levels(Bounded(kept=kept))[1].total() - known for kept in (1_000, 20, 0)}
    assert again[1_000] == 0 < again[20] < again[0]


def test_however_many_runs_there_are_few_are_remembered() -> None:
    strategy = Bounded(kept=10)
    for _ in range(3_000):
        recipe = strategy.next()
        assert isinstance(recipe, Take)
        strategy.learn(recipe, Run(recipe.course, b"\2" * 40, b"\1" * 40, 0, frozenset(), {}, None))
    remembered = strategy._free, strategy._costly, strategy._later, strategy._base or []
    assert sum(map(len, remembered)) < 200
