"""The passing run that is nearest to a failing one: the same for as long as can be.

A failing course with its last deviations left out goes the same way up to the first of these. So
the first of such courses that passes is looked for, the longest first; the last of them is the
ordinary one.
"""

from __future__ import annotations

from xen_sim.explore.course import Course, Following
from xen_sim.explore.engine import Account, Engine


def nearest(engine: Engine, course: Course) -> Account | None:
    """The passing run nearest to this course, told in full; None where not even the ordinary course
    passes. As many runs at most as the course has deviations. Raises what the engine raises."""
    for kept in reversed(range(len(course))):
        account = engine.tell(Following(course[:kept]))
        if account.run.finding is None:
            return account
    return None
