"""A virtual processor, as far as event delivery sees it.

An interrupt flag and a local APIC with the one vector that matters: the event upcall's, which a
PVHv2 guest registers with HVMOP_set_evtchn_upcall_vector. Xen sets its IRR bit; the processor
takes it when interrupts are enabled and none is in service: IRR becomes ISR, the handler runs, and
its EOI clears ISR. `hlt` with an interrupt pending does not sleep.

When nothing is explored, an interrupt lands at the next `sti`, `hlt` or poll, which is late but
legal; under a tape it lands at the first step after it was raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from activations.errors import ActivationsError

if TYPE_CHECKING:
    from greenlet import greenlet

    from xen_sim.processor import AsyncioState, Processor


class TripleFault(ActivationsError):
    """`hlt` with interrupts disabled: the vCPU is down for good."""


class VCPU:
    """vCPU 0 of a domain (there is no other)."""

    __slots__ = (
        "_in_service",
        "_processor",
        "asleep",
        "asyncio_state",
        "greenlet",
        "handler",
        "interrupts",
        "kicked",
        "name",
        "requested",
    )

    def __init__(self, name: str, processor: Processor) -> None:
        self.name = name
        self._processor = processor
        self.interrupts = False
        """The interrupt flag, IF."""
        self.requested = False
        """The upcall vector's bit in the APIC's IRR."""
        self._in_service = False
        self.handler: Callable[[], None] = self.eoi
        """The guest's entry for the upcall vector in its interrupt descriptor table."""
        self.asleep = False
        self.kicked = False
        """Somebody kicked it since it last slept."""
        self.greenlet: greenlet
        self.asyncio_state: AsyncioState | None = None
        """What the processor restores when this vCPU returns from a halt."""

    # Xen's side

    def assert_vector(self) -> None:
        """Raise the upcall interrupt."""
        self.requested = True
        if self.asleep and self.interrupts:
            self._processor.queue.append(self)
            self.asleep = False

    def kick(self) -> None:
        """Wake the vCPU without an interrupt: a descriptor is ready, it is called from another
        domain, or it is to end. One that is not asleep does not fall asleep the next time."""
        self.kicked = True
        self._processor.make_runnable(self)

    # The guest's side

    def cli(self) -> None:
        self.interrupts = False

    def sti(self) -> None:
        """Enable interrupts. A guest that finds work whenever it is about to sleep comes by here:
        its timeslice ends, lest the others and the clock stand still."""
        self.interrupts = True
        self.give_way()

    def hlt(self) -> None:
        """Sleep until an interrupt; it is taken before this returns."""
        if not self.interrupts:
            raise TripleFault(f"{self.name}: hlt with interrupts disabled")
        if not self.requested or self._in_service:
            self._processor.halt(self)
        self.take_interrupt()

    def sti_hlt(self) -> None:
        """`sti; hlt` as one step: interrupts are held off until hlt has begun."""
        self.interrupts = True
        if not self.requested or self._in_service:
            self._processor.halt(self)
        if self.requested:
            self.take_interrupt()

    def eoi(self) -> None:
        """End of interrupt: the handler acknowledges the one in service."""
        self._in_service = False

    def take_interrupt(self) -> None:
        """Run the handler if the vector is requested and may be delivered now."""
        if self.requested and self.interrupts and not self._in_service:
            self.requested = False
            self._in_service = True
            self.interrupts = False  # the interrupt gate clears IF, iret restores it
            self.handler()
            self.interrupts = True

    def step(self, what: str) -> None:
        """The guest's code is about to do `what`: nobody comes in between."""

    def give_way(self) -> None:
        """A busy vCPU's timeslice ends: let others run, then take what came."""
        self._processor.give_way(self)
        if self.requested:
            self.take_interrupt()


class ExploredVCPU(VCPU):
    """A vCPU that can be preempted, and interrupted, before each of its steps."""

    __slots__ = ()

    def step(self, what: str) -> None:
        """The guest's code is about to do `what`: others may run first."""
        self._processor.preempt(self, what)
        self.take_interrupt()

    def cli(self) -> None:
        self.step("cli")
        super().cli()

    def sti(self) -> None:
        self.step("sti")
        super().sti()

    def hlt(self) -> None:
        self.step("hlt")
        super().hlt()

    def sti_hlt(self) -> None:
        self.step("hlt")  # the shadow of sti makes the pair one step
        super().sti_hlt()
