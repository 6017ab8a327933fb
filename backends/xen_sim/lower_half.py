"""The guest's lower half, as Solo5 finally shipped it for PVHv2.

The invariant: only Xen sets evtchn_upcall_pending, only the demux clears it, and it is read with
delivery disabled right before sleeping. Four faults once stood in these few lines; each has a
test named for it.

    mask, unmask    the guest's own bits; Xen is asked only when an event came while masked
    demux           masks each port, then clears its pending bit; the consumer unmasks
    block           cli; look; set the timer; sti; hlt
    upcall          acknowledges, and touches nothing else

Python may raise an exception out of a signal handler anywhere in here. What was taken is kept until
it is unmasked, and a demux that is broken off leaves the flag set and every word selected: the next
one finds what this one left. At worst it finds an event twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xen_sim.shared_info import BIT, Views

if TYPE_CHECKING:
    from xen_sim.hypercall import Hypercalls
    from xen_sim.vcpu import VCPU

_ALL = (1 << 64) - 1


class Solo5:
    """Event delivery on vCPU 0 of one guest."""

    def __init__(self, views: Views, vcpu: VCPU, xen: Hypercalls) -> None:
        self._vcpu = vcpu
        self._xen = xen
        self._upcall_pending = views.upcall_pending
        self._pending_sel = views.pending_sel
        self._pending = views.pending
        self._mask = views.mask
        self._locked = views.locked
        self._taken: list[int] = []
        """Ports that were taken and are not unmasked yet."""
        self._timer_set = False
        vcpu.handler = self.upcall

    def upcall(self) -> None:
        """The interrupt handler. Clearing upcall_pending here would hide the event from `block`."""
        self._vcpu.eoi()

    def demux(self) -> Sequence[int]:
        """Take the ports that fired; each is left masked, so that it fires again only after
        `unmask`. The words are read afresh for every port: one masked meanwhile is not taken."""
        taken = self._taken
        if not self._upcall_pending[0]:
            return taken
        try:
            self._upcall_pending[0] = 0
            selected = self._pending_sel[0]
            self._locked.pending_sel[0] = 0
            pending, mask = self._pending, self._mask
            locked_pending, locked_mask = self._locked.pending, self._locked.mask
            while selected:
                word = (selected & -selected).bit_length() - 1
                selected &= selected - 1
                while ready := pending[word] & ~mask[word]:
                    bit = ready & -ready
                    taken.append(word * 64 + bit.bit_length() - 1)
                    locked_mask[word] = mask[word] | bit
                    locked_pending[word] = pending[word] & ~bit
        except BaseException:
            if taken:
                self.mask(taken[-1])
            self._locked.pending_sel[0] = _ALL
            self._locked.upcall_pending[0] = 1
            raise
        return taken

    def mask(self, port: int) -> None:
        word, bit = port >> 6, BIT[port & 63]
        self._locked.mask[word] = self._mask[word] | bit

    def unmask(self, ports: Sequence[int]) -> None:
        """Let ports fire again. Xen's own unmask acts only on a masked port: mask it first."""
        mask, locked_mask = self._mask, self._locked.mask
        for port in ports:
            word, bit = port >> 6, BIT[port & 63]
            locked_mask[word] = mask[word] & ~bit
            if self._pending[word] & bit:
                locked_mask[word] = mask[word] | bit
                self._xen.unmask(port)
        if ports is self._taken:
            self._taken.clear()

    def block(self, deadline: int | None) -> None:
        """Sleep until an event or the deadline (absolute ns; None for no end)."""
        vcpu = self._vcpu
        vcpu.cli()
        if self._upcall_pending[0]:
            vcpu.sti()
        else:
            if deadline is not None or self._timer_set:
                self._timer_set = deadline is not None
                self._xen.set_timer(deadline)
            vcpu.sti_hlt()
