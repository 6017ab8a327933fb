"""The lower half of June 2020, with each of its four faults planted alone.

Each class is the shipped `Solo5` with one method as it once stood.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim import Solo5
from xen_sim.shared_info import BIT


class UnmaskTestsMask(Solo5):
    """Fault 1: unmask looked at evtchn_mask where it had to look at evtchn_pending."""

    def unmask(self, ports: Sequence[int]) -> None:
        for port in ports:
            word, bit = port >> 6, BIT[port & 63]
            self._locked.mask[word] = self._mask[word] & ~bit
            if self._mask[word] & bit:
                self._locked.mask[word] = self._mask[word] | bit
                self._xen.unmask(port)
        if ports is self._taken:
            self._taken.clear()


class UpcallClearsPending(Solo5):
    """Fault 2: the interrupt handler cleared evtchn_upcall_pending."""

    def upcall(self) -> None:
        self._upcall_pending[0] = 0
        self._vcpu.eoi()


class DemuxLeavesUnmasked(Solo5):
    """Fault 3: the demux left a port unmasked while it waited to be consumed."""

    def demux(self) -> Sequence[int]:
        if not self._upcall_pending[0]:
            return ()
        self._upcall_pending[0] = 0
        selected = self._pending_sel[0]
        self._locked.pending_sel[0] = 0
        fired = []
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self._pending[word] & ~self._mask[word]:
                bit = ready & -ready
                fired.append(word * 64 + bit.bit_length() - 1)
                self._locked.pending[word] = self._pending[word] & ~bit
        return fired


class SleepsWithInterruptsOn(Solo5):
    """Fault 4, the root cause: `hlt` with interrupts enabled since long before it."""

    def block(self, deadline: int | None) -> None:
        if self._upcall_pending[0]:
            return
        self._xen.set_timer(deadline)
        self._vcpu.hlt()
