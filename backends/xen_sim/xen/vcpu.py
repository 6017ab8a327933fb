"""struct vcpu: a virtual processor as Xen knows it, and how it blocks and polls.

How it sleeps: SCHEDOP_block, SCHEDOP_poll and `hlt` all put it to sleep until an upcall is
announced; a poll also until a port becomes pending, masked or not, or until its time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EINVAL
from typing import TYPE_CHECKING, Any

from activations.abi.sched import POLL_MAX_PORTS
from activations.accelerator import accelerator
from activations.errors import XenError
from xen_sim.shared_info import VcpuInfo
from xen_sim.xen.delivery import Delivery, UpcallVector
from xen_sim.xen.faulty_timers import FaultyTimers
from xen_sim.xen.timer import Timers

if TYPE_CHECKING:
    from xen_sim.hardware.cpu import CPU
    from xen_sim.schedule.clock import Entry
    from xen_sim.xen.domain import XenDomain

_ANY_PORT = -1
"""Polls several ports, or none: any that newly becomes pending wakes it."""


class VCPU:
    """One of a domain's vCPUs."""

    def __init__(self, domain: XenDomain, number: int, cpu: CPU) -> None:
        self.domain = domain
        self.number = number
        self.cpu = cpu
        self.info: VcpuInfo = VcpuInfo(
            domain.shared_info, number, domain.before, f" of {domain.name}"
        )
        self._plain = VcpuInfo(domain.shared_info, number, None)
        self._lock = domain.xen.lock
        self.virqs: dict[int, int] = {}
        """Ports by the VIRQ they are bound to (`virq_to_evtchn`)."""
        faults = domain.xen.faults
        faulty = faults is not None and faults.of("timers")
        self.timers: Timers = (FaultyTimers if faulty else Timers)(self)
        self.delivery: Delivery
        self.deliver_by(Delivery(cpu, self._plain.upcall_pending, self._plain.upcall_mask))
        self.entry: Callable[[], None] | None = None
        """Where it begins (VCPUOP_initialise)."""
        self.up: bool = number == 0
        self._polls: int | None = None
        """The port it polls; None when it does not."""

    def deliver_by(self, delivery: Delivery) -> None:
        """Interrupt it in this way from now on."""
        self.delivery = delivery
        self.cpu.line = delivery

    def quicken(self) -> None:
        """Have the accelerator tell it of events, where that does the same."""
        domain, delivery = self.domain, self.delivery
        if accelerator is None or domain.xen.explored or not isinstance(delivery, UpcallVector):
            return
        delivery.announce = accelerator.Announce(  # type: ignore[method-assign]
            self.cpu,
            domain.polling,
            delivery.bit,
            domain.xen.scheduler.queue,
            self.number,
            domain.shared_info.bytes,
        )

    # Events

    def mark_events_pending(self) -> None:
        """Events are pending: tell the guest, unless it was told already."""
        if not self._lock.bts(self.info.upcall_pending, 0, 0):
            self.delivery.announce()

    def upcall_is_due(self) -> bool:
        """Whether the guest would be interrupted now (`local_events_need_delivery`)."""
        return self.cpu.interrupts and self.delivery.raised()

    # Sleeping

    def block(self) -> None:
        """SCHEDOP_block: enable delivery (a PV guest's), then sleep unless an upcall is due. On the
        way back Xen delivers it."""
        self._plain.upcall_mask[0] = 0
        scheduler = self.domain.xen.scheduler
        if self.upcall_is_due():
            scheduler.spend(self.cpu)
        else:
            scheduler.wait(self.cpu)
        self.cpu.take_interrupt()

    def poll(self, ports: Sequence[int], timeout: int) -> None:
        """SCHEDOP_poll: sleep until one of these ports is pending, or until `timeout` (absolute
        ns; 0 for none). An upcall that is due ends it before a port is looked at, and one that
        comes wakes it, with interrupts off too."""
        if len(ports) > POLL_MAX_PORTS:
            raise XenError(EINVAL, "SCHEDOP_poll", f"{len(ports)} ports, {POLL_MAX_PORTS} at most")
        if self.upcall_is_due() or any(map(self.domain.event_channels.poll, ports)):
            return
        self._polls = ports[0] if len(ports) == 1 else _ANY_PORT
        self.domain.polling[self.number] = self
        calendar = self.domain.xen.calendar
        alarm: Entry | None = None
        if timeout:
            alarm = calendar.add(timeout, self.cpu.wake, f"{self.cpu.name} poll")
        try:
            self.domain.xen.scheduler.wait(self.cpu)
        finally:
            self._end_poll()
            if alarm is not None:
                calendar.remove(alarm)

    def check_poll(self, port: int) -> None:
        """A port has become pending."""
        if self._polls in (_ANY_PORT, port):
            self._end_poll()
            self.cpu.wake()

    def _end_poll(self) -> None:
        self._polls = None
        self.domain.polling.pop(self.number, None)

    # Coming and going

    def trace(self, what: str, **details: Any) -> None:
        """Note what this vCPU does in the machine's trace; `vcpu` is said of all but the first."""
        where = {"vcpu": self.number} if self.number else {}
        self.domain.trace(what, **where, **details)

    def take_apart(self) -> None:
        """As its domain is."""
        self.cpu.disconnect()
        del self.timers, self.delivery

    def reset(self) -> None:
        """The domain is suspended or gone: no timer, nothing requested."""
        self.timers.stop()
        self.virqs.clear()
        self.cpu.due = False
        self.cpu.apic.irr = self.cpu.apic.isr = 0
