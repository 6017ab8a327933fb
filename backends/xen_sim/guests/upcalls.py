"""A guest's side of delivery: how it asks for upcalls, takes them, holds them off, and sleeps.

    kind        asked for by                   in the handler              "is there an event?"
    vector      HVMOP_set_evtchn_upcall_vector EOI, and nothing else       evtchn_upcall_pending
    callback    HVM_PARAM_CALLBACK_IRQ         clear evtchn_upcall_pending  what was announced
    pv          set_callbacks                  clear evtchn_upcall_pending  what was announced

The upcall vector is an edge: the flag that Xen set stays for the demux to clear, and can be looked
at before sleeping. The other two are levels: the handler is entered again until it has cleared the
flag, so a look before sleeping has to go by the selector, or by the FIFO's `ready`, which Xen set
before the flag.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from activations.shortcut import shorten
from xen_sim.guests.platform import Delivery, Platform
from xen_sim.hardware.cpu import Handler
from xen_sim.shared_info import VcpuInfo

UPCALL_VECTOR = 32
CALLBACK_VECTOR = 0xF3


class Upcalls(ABC):
    """One vCPU's."""

    edge = False
    """Whether evtchn_upcall_pending outlives the handler."""
    by_hand = True
    """Whether the guest can have its own handler entered: see `announce`."""

    acknowledge: Callable[[], None]
    """The first thing in the handler."""
    disable: Callable[[], None]
    """No upcall comes from now on; events that do are kept."""
    enable: Callable[[], None]
    """They come again."""
    sleep: Callable[[], None]
    """With upcalls disabled: enable them and sleep, with no upcall lost between the two."""

    def __init__(self, platform: Platform, info: VcpuInfo) -> None:
        self._cpu = platform.cpu
        self._xen = platform.xen
        self._vcpu = platform.vcpu
        self._pending = info.upcall_pending
        self._mask = info.upcall_mask
        self.acknowledge = self._clear_pending
        self.disable = self._cpu.cli
        self.enable = self._cpu.sti
        self.sleep = self._cpu.sti_hlt

    @abstractmethod
    def register(self, handler: Handler) -> None:
        """Have Xen enter `handler` from now on."""

    def begin(self) -> None:
        """Enable them for the first time, at boot, and take what is due by then."""
        self._cpu.interrupts = True
        self._cpu.take_interrupt()

    def announce(self) -> None:
        """Have the guest's own handler entered for an event that it found by itself. Where only Xen
        can (`by_hand`), a guest must not have set the selector's bit either: Xen would take what
        comes for announced."""
        self._pending[0] = 1
        self._cpu.due = True

    def _clear_pending(self) -> None:
        self._pending[0] = 0


class VectorUpcalls(Upcalls):
    """Through the local APIC. The handler makes its EOI; to clear evtchn_upcall_pending there would
    hide the event from a look before sleeping."""

    edge = True
    by_hand = False

    def __init__(self, platform: Platform, info: VcpuInfo) -> None:
        super().__init__(platform, info)
        shorten(self, acknowledge=self._cpu.eoi)

    def register(self, handler: Handler) -> None:
        self._cpu.idt[UPCALL_VECTOR] = handler
        self._xen.set_upcall_vector(UPCALL_VECTOR)

    def announce(self) -> None:
        raise AssertionError("no interrupt comes of setting the flag by hand")


class CallbackUpcalls(Upcalls):
    """By a vector that Xen injects."""

    def register(self, handler: Handler) -> None:
        self._cpu.idt[CALLBACK_VECTOR] = handler
        if self._vcpu == 0:
            self._xen.set_callback_vector(CALLBACK_VECTOR)


class PvUpcalls(Upcalls):
    """By the callback of a PV guest, whose interrupt flag is evtchn_upcall_mask. SCHEDOP_block
    enables upcalls and looks for one, before it sleeps."""

    def __init__(self, platform: Platform, info: VcpuInfo) -> None:
        super().__init__(platform, info)
        shorten(self, disable=self._set_mask, enable=self._clear_mask, sleep=self._xen.block)

    def register(self, handler: Handler) -> None:
        self._xen.set_callbacks(handler)

    def begin(self) -> None:
        """The processor's own flag is not the guest's here: it is always set."""
        super().begin()
        self._mask[0] = 0

    def _set_mask(self) -> None:
        self._mask[0] = 1

    def _clear_mask(self) -> None:
        """What came while they were held off is taken now."""
        self._mask[0] = 0
        if self._pending[0]:
            self._xen.force_upcall()
        self._cpu.give_way()

    def announce(self) -> None:
        super().announce()
        if not self._mask[0]:
            self._xen.force_upcall()


KINDS: dict[Delivery, type[Upcalls]] = {
    "vector": VectorUpcalls,
    "callback": CallbackUpcalls,
    "pv": PvUpcalls,
}
