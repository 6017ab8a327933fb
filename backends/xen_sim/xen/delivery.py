"""How a vCPU is told that events are pending: the three ways that Xen has.

    UpcallVector    a vector in the local APIC (HVMOP_set_evtchn_upcall_vector). An edge: requested
                    once, delivered once, and not again before the handler's EOI.
    Callback        a vector that Xen injects itself (HVM_PARAM_CALLBACK_IRQ). A level: it comes
                    again for as long as evtchn_upcall_pending is set; the APIC knows nothing of it.
    PvUpcall        a classic PV guest's callback. A level too; evtchn_upcall_mask holds it off, and
                    is set while the handler runs.

Each is the `Line` of its processor. A guest that has registered none is woken and not interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activations.shortcut import shorten
from xen_sim.hardware.cpu import Handler
from xen_sim.hardware.memory import Words

if TYPE_CHECKING:
    from xen_sim.hardware.cpu import CPU


PV_ENTRY = -1
"""Where a PV guest's callback stands among its processor's handlers: it has no vector."""


class Delivery:
    """No way is registered: a vCPU that blocks or polls is woken."""

    level = False

    def __init__(self, cpu: CPU, upcall_pending: Words, upcall_mask: Words) -> None:
        self._cpu = cpu
        self._upcall_pending = upcall_pending
        self._upcall_mask = upcall_mask

    def announce(self) -> None:
        """evtchn_upcall_pending was newly set."""
        self._cpu.wake()

    def raised(self) -> bool:
        return False

    def acknowledge(self) -> int:
        raise AssertionError("nothing is delivered where nothing is registered")

    def returned(self) -> None:
        """The handler of a level has returned."""

    def broken_off(self) -> None:
        """The handler was broken off, and is to be entered again."""


class UpcallVector(Delivery):
    """A vector in the local APIC. Registering it asserts it once."""

    def __init__(self, before: Delivery, vector: int) -> None:
        super().__init__(before._cpu, before._upcall_pending, before._upcall_mask)
        self._vector = vector
        self.bit: int = 1 << vector
        self._apic = self._cpu.apic
        # this line is the APIC's own: a call less, in every event of every domain
        shorten(self, raised=self._apic.deliverable, acknowledge=self._apic.acknowledge)
        self.announce()

    def announce(self) -> None:
        apic, bit = self._apic, self.bit
        if not apic.irr & bit:  # `LocalAPIC.request`, a call less
            apic.irr |= bit
            self._cpu.interrupt()

    def broken_off(self) -> None:
        self._apic.isr &= ~(1 << self._vector)
        self._apic.request(self._vector)


class Callback(Delivery):
    """A vector that Xen injects itself, as long as evtchn_upcall_pending is set."""

    level = True

    def __init__(self, before: Delivery, vector: int) -> None:
        super().__init__(before._cpu, before._upcall_pending, before._upcall_mask)
        self._vector = vector

    def announce(self) -> None:
        self._cpu.interrupt()

    def raised(self) -> bool:
        return self._upcall_pending[0] != 0

    def acknowledge(self) -> int:
        return self._vector


class PvUpcall(Delivery):
    """The callback of a PV guest, held off by evtchn_upcall_mask."""

    level = True

    def __init__(self, before: Delivery, handler: Handler) -> None:
        super().__init__(before._cpu, before._upcall_pending, before._upcall_mask)
        self._cpu.idt[PV_ENTRY] = handler

    def announce(self) -> None:
        self._cpu.interrupt()

    def raised(self) -> bool:
        return self._upcall_pending[0] != 0 and not self._upcall_mask[0]

    def acknowledge(self) -> int:
        self._upcall_mask[0] = 1
        return PV_ENTRY

    def returned(self) -> None:
        """`iret` restores the mask that was."""
        self._upcall_mask[0] = 0

    broken_off = returned
