"""A processor before each of whose steps something may befall a domain.

It is a guest's own steps that are asked about. What Xen does on a domain's behalf it does to its
end, so a domain that stands within a hypercall is not killed there.
"""

from __future__ import annotations

from collections.abc import Callable

from xen_sim.hardware.cpu import SteppedCPU
from xen_sim.schedule.scheduler import Scheduler
from xen_sim.schedule.step import Step

Befall = Callable[["DoomedCPU", Step], None]


class DoomedCPU(SteppedCPU):
    """`befall` is told of every step before it is taken, and may not return."""

    __slots__ = ("_befall", "in_xen")

    def __init__(self, befall: Befall, name: str, scheduler: Scheduler) -> None:
        super().__init__(name, scheduler)
        self._befall = befall
        self.in_xen: bool = False
        """Xen acts on its behalf."""

    def step(self, step: Step) -> None:
        if self.scheduler.current is self:  # else it is the hub that boots or resumes the guest
            self._befall(self, step)
            super().step(step)

    def step_of_xen(self, step: Step) -> None:
        self.in_xen = True
        try:
            super().step_of_xen(step)
        finally:
            self.in_xen = False
