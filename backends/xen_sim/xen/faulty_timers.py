"""Timers in a world where they are late or early, and where time passes between any two looks at
it.

Xen fires no timer early; but it wakes a vCPU for what it likes, and to a guest this is the same. A
vCPU that was not run between reading the clock and setting its timer sets one that has passed: that
is stolen time. A clock that jumps is what a guest sees that was saved and is restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xen_sim.schedule.clock import VirtualClock
from xen_sim.xen.timer import Timers

if TYPE_CHECKING:
    from xen_sim.xen.vcpu import VCPU

LATE_NS = 1_000_000
STOLEN_NS = 100_000_000
JUMP_NS = 3600 * 10**9
NAMES = ("early", "late", "twice as long", "after stolen time", "after a jump of the clock")


class FaultyTimers(Timers):
    """One vCPU's; the one-shot timer may be wrong."""

    __slots__ = ("_faults", "_who")

    def __init__(self, vcpu: VCPU) -> None:
        super().__init__(vcpu)
        self._faults = vcpu.domain.xen.faults
        self._who = vcpu.cpu.name

    def set_singleshot(self, deadline: int | None) -> None:
        super().set_singleshot(self._wrong(deadline) if deadline is not None else None)

    def _wrong(self, deadline: int) -> int:
        assert self._faults is not None
        now = self.now()
        ahead = max(deadline - now, 0)
        match self._faults.ask("timers", self._who, "timer", *(NAMES if ahead else NAMES[1:])):
            case "early":
                return now + ahead // 2
            case "late":
                return deadline + LATE_NS
            case "twice as long":
                return deadline + ahead
            case "after stolen time":
                self._pass(STOLEN_NS)
            case "after a jump of the clock":
                self._pass(JUMP_NS)
        return deadline

    def _pass(self, ns: int) -> None:
        clock = self._vcpu.domain.xen.clock
        if isinstance(clock, VirtualClock):
            clock.now += ns
