"""A vCPU's timers: one-shot and periodic. Each raises VIRQ_TIMER, and has no effect of its own.

Times are absolute nanoseconds of the machine's clock. Sources: do_set_timer_op in
xen/common/sched/core.c, and VCPUOP_* in xen/common/domain.c.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING

from activations.abi.event_channel import Virq
from activations.abi.sched import PERIOD_MIN_NS, TIMEOUT_LIMIT_NS, TIMEOUT_MISTAKEN_NS
from activations.errors import XenError

if TYPE_CHECKING:
    from xen_sim.schedule.clock import Entry
    from xen_sim.xen.vcpu import VCPU


class Timers:
    """One vCPU's."""

    __slots__ = ("_calendar", "_name", "_period", "_periodic", "_singleshot", "_vcpu", "now")

    def __init__(self, vcpu: VCPU) -> None:
        self._vcpu = vcpu
        self._calendar = vcpu.domain.xen.calendar
        self._name = f"{vcpu.cpu.name} timer"
        self.now: Callable[[], int] = vcpu.domain.xen.clock.time_ns
        self._singleshot: Entry | None = None
        self._periodic: Entry | None = None
        self._period = 0

    def set_timer(self, deadline: int | None) -> None:
        """set_timer_op, with its limits: a deadline that is negative or more than 2^50 ns ahead is
        taken for a mistake and fires in 100 ms. None stops the timer (Xen's 0)."""
        timer = self._singleshot
        if timer is None if deadline is None else timer is not None and timer[0] == deadline:
            return  # as it was
        if deadline is not None:
            now = self.now()
            if deadline < 0 or deadline - now > TIMEOUT_LIMIT_NS:
                self._vcpu.trace("timer mistaken", deadline=deadline)
                deadline = now + TIMEOUT_MISTAKEN_NS
        self.set_singleshot(deadline)

    def set_singleshot(self, deadline: int | None) -> None:
        """VCPUOP_set_singleshot_timer: a deadline that has passed, a negative one too, fires at
        once, whatever the flags say; there is no limit ahead. None stops it."""
        timer, self._singleshot = self._singleshot, None
        if timer is not None:
            self._calendar.remove(timer)
        if deadline is not None:
            self._singleshot = self._calendar.add(deadline, self._fires, self._name)

    def set_periodic(self, period: int | None) -> None:
        """VCPUOP_set_periodic_timer, nanoseconds; None stops it. EINVAL under a millisecond."""
        if period is not None and period < PERIOD_MIN_NS:
            raise XenError(EINVAL, "VCPUOP_set_periodic_timer", f"every {period} ns")
        timer, self._periodic = self._periodic, None
        if timer is not None:
            self._calendar.remove(timer)
        if period is not None:
            self._period = period
            self._next_period()

    def stop(self) -> None:
        self.set_singleshot(None)
        self.set_periodic(None)

    def _fires(self) -> None:
        self._singleshot = None
        self._raise()

    def _period_ends(self) -> None:
        self._next_period()
        self._raise()

    def _next_period(self) -> None:
        when = self.now() + self._period
        self._periodic = self._calendar.add(when, self._period_ends, self._name)

    def _raise(self) -> None:
        vcpu = self._vcpu
        vcpu.trace("timer")
        vcpu.domain.event_channels.raise_virq(Virq.TIMER, vcpu.number)
