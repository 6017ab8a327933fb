"""An interval where an absolute time is meant.

set_timer_op takes the time at which it fires. Soon after boot the two are nearly the same, and the
first sleep goes well. From then on each interval is a time long past: the timer fires at once, the
guest finds that it is too early, and sets the timer again, for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from activations.abi.event_channel import Virq
from xen_sim import PlainGuest, Solo5
from xen_sim.explore.pair import Page, pair

MS = 1_000_000
STEPS = 1_000
"""More than two sleeps take."""


class Faulty(Solo5):
    def block(self, deadline: int | None) -> None:
        now = self.platform.time_ns()
        super().block(None if deadline is None else deadline - now)


class Cured(Solo5):
    def block(self, deadline: int | None) -> None:
        super().block(deadline)


def sleep_twice(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    timer = guest.xen.bind_virq(Virq.TIMER)
    guest.kernel.unmask((timer,))
    for deadline in (MS, 2 * MS):
        while guest.platform.time_ns() < deadline:
            if not guest.take():
                guest.sleep(deadline)


def nothing(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    pass


faulty = pair("interval_for_absolute_time", sleep_twice, nothing, kernel=Faulty, budget=STEPS)
cured = pair("cured", sleep_twice, nothing, kernel=Cured, budget=STEPS, reducible=True)
