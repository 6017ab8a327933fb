"""Shrinking: the fewest deviations from the ordinary course that break the same promise.

Every pass keeps one thing true: the course it holds breaks the promise of the kind that was found.
First deviations are left out, in halves, quarters, and one by one. What is left may be more than it
takes, in another place: so courses with fewer deviations are tried too, for as long as that is
cheap.
"""

from __future__ import annotations

from collections.abc import Callable

from xen_sim.explore.course import Course
from xen_sim.explore.engine import Engine, Run
from xen_sim.explore.strategies import Take
from xen_sim.explore.strategies.bounded import Bounded
from xen_sim.explore.strategies.chance import Near

TRIES = 400
"""Runs that a shorter course elsewhere is looked for."""


def shrink(
    engine: Engine, course: Course, kind: str, enough: Callable[[], bool] = lambda: False
) -> Course:
    """A course with as few deviations that breaks a promise of this kind; `enough` ends it."""

    def fails(candidate: Course) -> Course | None:
        run = engine.run(Near(candidate))
        return run.course if run.finding is not None and run.finding.kind == kind else None

    size = max(len(course) // 2, 1)
    while course and size and not enough():
        for start in range(0, len(course), size):
            found = fails(course[:start] + course[start + size :])
            if found is not None and len(found) < len(course):
                course = found
                size = min(size, max(len(course), 1))
                break
        else:
            size //= 2
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
