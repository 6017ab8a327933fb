"""A domain as Xen knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from activations.abi.event_channel import Virq
from activations.abi.grant_table import PAGE_SIZE
from activations.abi.sched import TIMEOUT_LIMIT_NS, TIMEOUT_MISTAKEN_NS
from xen_sim.event_channel import EventChannels
from xen_sim.grant_table import GrantTable
from xen_sim.shared_info import Views
from xen_sim.vcpu import VCPU, ExploredVCPU

if TYPE_CHECKING:
    from xen_sim.clock import Entry
    from xen_sim.hypervisor import Hypervisor


class XenDomain:
    """struct domain: a vCPU, a shared_info page, event channels, grants, a timer."""

    def __init__(self, xen: Hypervisor, domid: int, name: str) -> None:
        self.xen = xen
        self.domid = domid
        self.name = name
        self.shared_info = bytearray(PAGE_SIZE)
        explored = xen.explored
        self.vcpu = (ExploredVCPU if explored else VCPU)(name, xen.processor)
        self.event_channels = EventChannels(
            self, Views(self.shared_info, self._xen_step if explored else None)
        )
        self.grant_table = GrantTable(self)
        self._timer: Entry | None = None

    def __repr__(self) -> str:
        return f"<XenDomain {self.domid} {self.name!r}>"

    @property
    def privileged(self) -> bool:
        """Whether it may act for other domains."""
        return self.domid == 0

    def guest_views(self) -> Views:
        """The guest's own views of its shared_info."""
        step = self.vcpu.step if isinstance(self.vcpu, ExploredVCPU) else None
        return Views(self.shared_info, step)

    def _xen_step(self, what: str) -> None:
        """Xen, on behalf of whichever vCPU runs, is about to touch this domain's page. Other vCPUs
        may come first; interrupts of the one that runs wait until Xen returns to it."""
        running = self.xen.processor.current
        if running is not None:
            self.xen.processor.preempt(running, f"xen {what} of {self.name}")

    def trace(self, what: str, **details: Any) -> None:
        """Note something in the machine's trace, if it keeps one."""
        if self.xen.trace is not None:
            self.xen.trace.note(self.xen.clock.time_ns(), self.name, what, **details)

    # Timers

    def set_timer(self, deadline: int | None) -> None:
        """set_timer_op, with its limits: a deadline that is negative or more than 2^50 ns ahead is
        taken for a mistake and fires in 100 ms. None stops the timer."""
        timer = self._timer
        if timer is None if deadline is None else timer is not None and timer[0] == deadline:
            return  # as it was
        self.stop_timer()
        if deadline is not None:
            now = self.xen.clock.time_ns()
            if deadline < 0 or deadline - now > TIMEOUT_LIMIT_NS:
                self.trace("timer mistaken", deadline=deadline)
                deadline = now + TIMEOUT_MISTAKEN_NS
            self._timer = self.xen.calendar.add(deadline, self._timer_fires)

    def stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self.xen.calendar.remove(timer)

    def _timer_fires(self) -> None:
        self._timer = None
        self.trace("timer")
        self.event_channels.raise_virq(Virq.TIMER)

    def suspend(self) -> None:
        """The domain is saved and restored: its ports are gone, and shared_info is a new page."""
        self.trace("suspend")
        self.stop_timer()
        self.event_channels.close_all()
        self.shared_info[:] = bytes(len(self.shared_info))
        self.vcpu.requested = False

    def release(self) -> None:
        """The domain is gone: its timer, mappings and ports with it."""
        self.stop_timer()
        self.grant_table.unmap_all()
        self.event_channels.close_all()
